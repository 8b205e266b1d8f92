"""`streamd inspect`, on files and on the embedded log."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path

import fastavro
import msgpack
import orjson
import pytest

from streamd.transport.embedded.log import EmbeddedLog, log_path
from streamd.transport.embedded.transaction import EmbeddedTransaction

ORDERS = [{"id": f"o{n}", "kind": "ab"[n % 2], "amount": n / 2, "ts": 1_767_603_605_918 + n} for n in range(60)]


def lines(documents) -> str:
    return "".join(orjson.dumps(each).decode() + "\n" for each in documents)


def test_a_profile_for_people(cli, write):
    write("orders.ndjson", lines(ORDERS) + "nonsense\n[1]\n")
    done = cli("inspect", "orders.ndjson")
    assert done.code == 0, done.err
    head, *rest = done.out.splitlines()
    assert head.startswith("orders.ndjson: 62 records")
    assert "  1 undecodable: a record must be a JSON object, this one is a list" in rest
    assert any(line.split()[:3] == ["id", "text", "60"] for line in rest)
    assert "key?         id: different in every record" in rest
    assert "enum?        kind: a, b" in rest
    assert any(line.startswith("event time?  ts: milliseconds, 2026-01-05 09:00:05.918Z") for line in rest)


def test_digits_of_a_name_stay_where_places_are_left_out(cli, write, tmp_path):
    write("lines.txt", "")
    (tmp_path / "lines.txt").write_bytes(b"a\xff\n" + b"abcde\xff\n")
    done = cli("inspect", "lines.txt", "--format", "text")
    assert "  2 undecodable: not valid UTF-8 at byte N: invalid start byte" in done.out.splitlines()


def test_without_examples_no_contents_are_shown(cli, write):
    write("orders.ndjson", lines([{"name": "Ada", "pin": 4711} for _ in range(30)]))
    for more in ((), ("--json",)):
        shown = cli("inspect", "orders.ndjson", "--no-examples", *more).out
        assert "name" in shown
        assert "Ada" not in shown
        assert "4711" not in shown


def test_for_programs(cli, write):
    write("orders.ndjson", lines(ORDERS))
    found = json.loads(cli("inspect", "orders.ndjson", "--json").out)
    fields = {field["path"]: field for field in found["fields"]}
    assert (found["records"], found["undecodable"]) == (60, {})
    assert fields["amount"]["types"] == {"number": 60}
    assert (fields["amount"]["least"], fields["amount"]["greatest"]) == (0.0, 29.5)
    assert found["event_times"][0] | {"first": 0, "last": 0} == {
        "path": "ts", "unit": "ms", "first": 0, "last": 0, "out_of_order_ms": 0, "always": True,
    }  # fmt: skip


def test_what_a_terminal_would_obey_is_escaped(cli, write):
    write("orders.ndjson", lines([{"x\u001b[2J": "y\u001b[2J"}]))
    assert "\x1b" not in cli("inspect", "orders.ndjson").out


@pytest.mark.parametrize(("start", "ids"), [("earliest", ["o0", "o1"]), ("latest-2", ["o58", "o59"])])
def test_where_it_begins_in_a_file(cli, write, start, ids):
    write("orders.ndjson", lines(ORDERS))
    found = json.loads(cli("inspect", "orders.ndjson", "--records", "2", "--from", start, "--json").out)
    assert found["fields"][0]["examples"] == ids


def test_columns_of_numbers_are_found(cli, write, tmp_path):
    (tmp_path / "people.csv.gz").write_bytes(
        gzip.compress(b"id,zip,age,paid,note\n1,01234,40,true,\n2,10115,,false,x\n")
    )
    found = json.loads(cli("inspect", "people.csv.gz", "--json").out)
    assert {field["path"]: field["types"] for field in found["fields"]} == {
        "id": {"integer": 2},
        "zip": {"text": 2},
        "age": {"integer": 1, "null": 1},
        "paid": {"boolean": 2},
        "note": {"text": 2},
    }
    shown = cli("inspect", "people.csv.gz", "--pipeline").out
    assert "types: {id: int, age: int, paid: bool}" in shown


async def fill_log(folder: Path, *, keyed: bool = False) -> None:
    """The topic `orders` of the embedded log; `keyed`: with keys that are JSON, the last one excepted."""
    path = log_path(folder / ".streamd" / "streamd", "streamd")
    path.parent.mkdir(parents=True)
    log = EmbeddedLog.acquire(path)
    await log.create_topic("orders", 1)
    transaction = EmbeddedTransaction(path, "the test's input")
    await transaction.open()
    transaction.begin()
    for order in ORDERS:
        key = orjson.dumps({"id": order["id"]}) if order is not ORDERS[-1] else b"\xff"
        transaction.append("orders", 0, key if keyed else None, orjson.dumps(order), 0, ())
    await transaction.flush()
    await transaction.put_positions({}, {})
    await transaction.commit()
    await transaction.close()
    await log.release()


def test_the_embedded_log_and_a_source_of_a_pipeline(cli, write, tmp_path):
    asyncio.run(fill_log(tmp_path))
    write("orders.ndjson", lines(ORDERS))
    file = write(
        "two.yaml",
        "name: two\nsources:\n  a: {log: {topic: orders}}\n  b: {file: {path: orders.ndjson}}\n"
        "stages:\n  - filter: amount > 1\n    from: [a, b]\nsink: {discard: {}}\n",
    )
    before = sorted(path.name for path in tmp_path.rglob("*"))
    newest = json.loads(cli("inspect", "log:orders", "--from", "latest-5", "--json").out)
    assert (newest["records"], newest["fields"][0]["examples"][0]) == (5, "o55")
    assert json.loads(cli("inspect", file, "--source", "a", "--json").out)["records"] == 60
    assert sorted(path.name for path in tmp_path.rglob("*") if path.suffix not in (".db-wal", ".db-shm")) == [
        name for name in before if not name.endswith(("-wal", "-shm"))
    ]
    unnamed = cli("inspect", file)
    assert unnamed.code == 2
    assert "has several sources: name one with --source; it has a, b" in unnamed.err


def test_keys_are_read_as_their_source_reads_them(cli, write, tmp_path):
    asyncio.run(fill_log(tmp_path, keyed=True))
    file = write("p.yaml", "name: p\nsource: {log: {topic: orders, key_format: json}}\nsink: {discard: {}}\n")
    found = json.loads(cli("inspect", file, "--json").out)["keys"]
    assert found["types"] == {"object": 59, "bytes": 1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing.csv",), "it does not exist"),
        (("kafka:orders",), "needs a Kafka cluster, and none is named"),
        (("log:orders",), "there is no embedded log"),
        (("ftp:orders",), "has a scheme that is none"),
        (("o.ndjson", "--format", "xml"), "must be one of json, csv, text, avro, msgpack, protobuf, ndjson"),
        (("o.ndjson", "--from", "noon"), "expected earliest or latest-N"),
        (("o.ndjson", "--timeout", "soon"), "--timeout"),
        (("o.ndjson", "--source", "a"), "only with a pipeline file"),
        (("o.ndjson", "--out", "x"), "expected --schema or --pipeline with it"),
        (("o.ndjson", "--schema", "json", "--json"), "give one"),
        (("o.ndjson", "--schema", "xsd"), "expected json or avro"),
        (("o.ndjson", "--pipeline"), "there is no record that can be read"),
    ],
)
def test_what_is_wrong(cli, write, arguments, said):
    write("o.ndjson", "nonsense\n")
    done = cli("inspect", *arguments)
    assert done.code != 0
    assert said in done.err


def test_files_of_messagepack_are_known_by_their_ending(cli, tmp_path):
    (tmp_path / "o.msgpack.gz").write_bytes(
        gzip.compress(b"".join(msgpack.packb({"n": n}) for n in range(5)) + b"\x07")
    )
    found = json.loads(cli("inspect", str(tmp_path / "o.msgpack.gz"), "--json").out)
    assert (found["records"], [field["path"] for field in found["fields"]]) == (6, ["n"])
    assert "a record must be a MessagePack map" in str(found)


def test_files_of_avro_are_known_by_their_ending(cli, tmp_path):
    schema = {"type": "record", "name": "Order", "fields": [{"name": "n", "type": "long"}]}
    with (tmp_path / "o.avro").open("wb") as file:
        fastavro.writer(file, schema, [{"n": n} for n in range(5)])
    found = json.loads(cli("inspect", str(tmp_path / "o.avro"), "--json").out)
    assert (found["records"], [field["path"] for field in found["fields"]]) == (5, ["n"])

"""Ten thousand records for each format, valid ones and mutated ones, through a whole pipeline with dead letters.

Each record comes out, or is kept as a dead letter with a reason: none is lost, none is twice, nothing of a record is in
a reason, and no record makes the process hang or take memory that it does not have the bytes for.
"""

from __future__ import annotations

import io
import json
import random
import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import orjson
import pytest

from demo.inline_app import InlineApp
from demo.malformed import mutated
from streamd.codecs.protobuf.schema import message_class
from streamd.codecs.protobuf.settings import ProtobufSettings
from streamd.runtime import assembly
from streamd.supervisor import pipelines
from streamd.testing.schema_registry import MemorySchemaRegistry

RECORDS = 10_000
VALID = 2_000
# Of the valid records, and never of a reason.
SECRET = "k7Qz-4711"
# Beyond what the process has already; a header that claims 2^31 elements would need 16 times as much.
ROOM = 1 << 30

Documents = list[dict[str, Any]]

ORDER = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "user", "type": "string"},
        {"name": "amount", "type": "double"},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "counts", "type": {"type": "map", "values": "int"}},
        {"name": "note", "type": ["null", "string", {"type": "array", "items": "long"}]},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["a", "b"]}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
        {"name": "node", "type": ["null", {"type": "record", "name": "Node", "fields": [
            {"name": "next", "type": ["null", "Node"]}]}]},
    ],
}  # fmt: skip
PROTO = """syntax = "proto3";
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/any.proto";
import "google/protobuf/wrappers.proto";
enum Kind { A = 0; B = 1; }
message Node { Node next = 1; string user = 2; }
message Order {
  int64 id = 1; string user = 2; double amount = 3; repeated string tags = 4; map<string, int32> counts = 5;
  optional string note = 6; Kind kind = 7; google.protobuf.Timestamp at = 8; Node node = 9; float ratio = 10;
  google.protobuf.Duration took = 11; google.protobuf.Struct extra = 12; google.protobuf.Any any = 13;
  google.protobuf.Int64Value total = 14; bytes raw = 15; oneof pay { string card = 16; int32 cash = 17; }
  repeated int32 packed = 18; google.protobuf.Value value = 19;
}
"""


def orders(rng: random.Random) -> Documents:
    return [
        {
            "id": rng.randrange(-(2**40), 2**40),
            "user": f"{SECRET}-{n}-ü",
            "amount": rng.choice((0.0, -1.5, rng.random() * 1e6)),
            "tags": [f"t{i}" for i in range(rng.randrange(4))],
            "counts": {f"c{i}": rng.randrange(100) for i in range(rng.randrange(3))},
            "note": rng.choice((None, SECRET)),
        }
        for n in range(VALID)
    ]


@dataclass(frozen=True)
class Corpus:
    """`valid`: bytes and what they are as JSON, None where that is not compared. `strange`: made by hand.

    `registered`: the schema that has the id 1, and its type.
    """

    form: str
    valid: Callable[[random.Random], list[tuple[bytes, Any]]]
    strange: tuple[bytes, ...] = ()
    registered: tuple[str, str] = ("{}", "JSON")


def of_json(rng: random.Random) -> list[tuple[bytes, Any]]:
    return [(orjson.dumps(document), document) for document in orders(rng)]


def of_msgpack(rng: random.Random) -> list[tuple[bytes, Any]]:
    return [(msgspec.msgpack.encode(document), document) for document in orders(rng)]


def of_text(rng: random.Random) -> list[tuple[bytes, Any]]:
    return [(document["user"].encode(), {"text": document["user"]}) for document in orders(rng)]


def of_bytes(rng: random.Random) -> list[tuple[bytes, Any]]:
    return [(document["user"].encode(), None) for document in orders(rng)]


def of_csv(rng: random.Random) -> list[tuple[bytes, Any]]:
    return [
        (f'{order["id"]},{order["user"]},"a,""b",'.encode(), {"values": [str(order["id"]), order["user"], 'a,"b', ""]})
        for order in orders(rng)
    ]


def of_avro(rng: random.Random) -> list[tuple[bytes, Any]]:
    # The numbers and bytes of logical types are written as they are.
    kinds = [(field["name"], field["type"]) for field in ORDER["fields"]]
    fields = [{"name": n, "type": t["type"] if "logicalType" in t else t} for n, t in kinds]
    schema, made = fastavro.parse_schema({**ORDER, "fields": fields}), []
    more = {"kind": "b", "at": 0, "node": {"next": {"next": None}}}
    for order in orders(rng):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, {**order, **more, "day": 7, "price": b"\x01"})
        made.append((out.getvalue(), {**order, **more, "day": "1970-01-08", "price": "0.01"}))
    return made


def of_framed_avro(rng: random.Random) -> list[tuple[bytes, Any]]:
    return [(b"\x00\x00\x00\x00\x01" + data, document) for data, document in of_avro(rng)]


def of_framed_json(rng: random.Random) -> list[tuple[bytes, Any]]:
    return [(b"\x00\x00\x00\x00\x01" + data, document) for data, document in of_json(rng)]


def of_csv_with_columns(rng: random.Random) -> list[tuple[bytes, Any]]:
    return [
        (
            f"{order['id']};{order['user']};-;'a;''b'".encode(),
            {"id": order["id"], "user": order["user"], "n": None, "q": "a;'b"},
        )
        for order in orders(rng)
    ]


def of_framed_protobuf(rng: random.Random) -> list[tuple[bytes, Any]]:
    return [(b"\x00\x00\x00\x00\x01\x02\x02" + data, document) for data, document in of_protobuf(rng)]


def of_protobuf(rng: random.Random) -> list[tuple[bytes, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "order.proto").write_text(PROTO)
        made = message_class(ProtobufSettings(proto="order.proto", message="Order"), Path(folder))
    found = []
    for order in orders(rng):
        message = made(**{name: value for name, value in order.items() if value is not None})
        message.at.FromMilliseconds(1_700_000_000_000)
        message.node.next.next.user = "x"
        message.extra["x"] = [1.5, None, {"y": True}]
        message.took.FromMilliseconds(1500)
        message.total.value, message.cash, message.raw = 7, 5, b"\xff"
        message.packed.extend([1, 2, 300])
        found.append((message.SerializeToString(), None))
    return found


ARRAY = b"\x00\x02x" + b"\x00" * 8 + b"\x00"  # id, user, amount, tags
HUGE = b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"  # as Avro writes 2^63 - 1
MANY = b"\x80\x80\x80\x80\x10"  # and 2^31
ORDER_AS_JSON = json.dumps({"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}})
STRANGE_HEADS = (
    b"\x00", b"\x00\x00\x00\x00\x01", b"\x01\x00\x00\x00\x01\x00", b"\x00\xff\xff\xff\xff\x00", b"\x00\x00\x00\x00\x63",
)  # fmt: skip
STRANGE_AVRO = (
    ARRAY + MANY + b"\x00" * 10,
    ARRAY + HUGE + b"\x00" * 10,
    b"\x00\x02x" + b"\x00" * 8 + HUGE,
    b"\x00" + HUGE,
    b"\x00\x02x" + b"\x00" * 9 + b"\x00" + HUGE,
    b"\x00\x01",
    ARRAY + b"\x00\x00\x00\x00\x00\x00\x00" + b"\x02\x02" * 20_000,
)

CORPORA = {
    "json": Corpus("json", of_json, (
        b'{"a": 1e999}', b'{"a": ' + b"9" * 5000 + b"}", b'{"a": "\\ud800"}', b'{"a":' * 20_000, b"[" * 100_000,
        b'{"a":' + b"[" * 500 + b"]" * 500 + b"}", b"\xef\xbb\xbf{}", b'{"a":1,"a":2}', b'{"\\ud800":1}', b"null", b"",
    )),
    "msgpack": Corpus("msgpack", of_msgpack, (
        b"\x81\xa1a\xdd\x7f\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\x81\xa1a\xc6\x7f\xff\xff\xff",
        b"\x81\xa1a" + b"\x91" * 50_000,
        b"\x81\xa1a" + b"\x91" * 500 + b"\xc0", b"\x81\xa1a\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", b"\x81\x01\x01",
        b"\x81\xa1a\xc7\x0c\xff\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff", b"\x81\xa1a\xd4\x05\x01",
    )),
    "csv": Corpus("csv", of_csv, (b'"' * 9999, b"a" * 200_000, b"," * 50_000, b"a\x00b", b"")),
    "text": Corpus("text", of_text, (b"\xed\xa0\x80", b"\x00", b"")),
    "bytes": Corpus("bytes", of_bytes, (b"",)),
    "avro": Corpus(f"{{avro: {{schema: {json.dumps(ORDER)}}}}}", of_avro, STRANGE_AVRO),
    "avro of a registry": Corpus(
        f"{{avro: {{registry: true, schema: {json.dumps(ORDER)}}}}}", of_framed_avro,
        (*(b"\x00\x00\x00\x00\x01" + data for data in STRANGE_AVRO), *STRANGE_HEADS), (json.dumps(ORDER), "AVRO"),
    ),
    "json of a registry": Corpus(
        f"{{json: {{registry: true, validate: true, schema: {ORDER_AS_JSON}}}}}", of_framed_json,
        (*STRANGE_HEADS, b'\x00\x00\x00\x00\x01{"id": 1e999}', b'\x00\x00\x00\x00\x01{"id":' + b"[" * 20_000),
        (ORDER_AS_JSON, "JSON"),
    ),
    "protobuf of a registry": Corpus(
        "{protobuf: {registry: true, proto: order.proto, message: Order}}", of_framed_protobuf, (
            *STRANGE_HEADS, *(b"\x00\x00\x00\x00\x01" + numbers for numbers in (
                b"\x00", b"\x01", b"\x02", b"\x02\x01", b"\x02\x7e", b"\xfe\xff\xff\xff\x0f" + bytes(9), b"\x80" * 99,
            )),
        ), (PROTO, "PROTOBUF"),
    ),
    "csv with columns": Corpus(
        """{csv: {columns: [id, user, n, q], types: {id: int}, delimiter: ";", quote: "'", null_text: "-"}}""",
        of_csv_with_columns, (b"'" * 9999, b"a" * 200_000, b";" * 50_000, b"1;a\x00;b;c", b""),
    ),
    "protobuf": Corpus("{protobuf: {proto: order.proto, message: Order}}", of_protobuf, (
        b"\x4a\xff\xff\xff\xff\x0f", b"\x92\x01\xff\xff\xff\xff\x07", b"\x0b" * 5000, b"\x4a\x02\x0a\x00" * 500,
        b"\x42\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x12\x02\xed\xa0", b"",
        b"\x19\x00\x00\x00\x00\x00\x00\xf8\x7f", b"\x6a\x05\x0a\x03foo",
    )),
}  # fmt: skip
PIPELINE = """name: p
source: {log: {topic: in, format: FORM}}
stages:
  - drop: [field_that_is_not_there]
sinks:
  out: {log: {topic: out}}
  again: {log: {topic: again, format: FORM}}
on_error: {dead_letter: {log: {topic: letters}}}
"""
# JSON has no form for bytes, and a sink of bytes writes nothing else.
ONE_SINK = PIPELINE.replace("  out: {log: {topic: out}}\n", "")


class Registry(MemorySchemaRegistry):
    """Has the id 1, and no other one; test_registry_client.py has a real one."""

    async def close(self) -> None:
        """Nothing is held."""


@contextmanager
def bounded_memory() -> Iterator[None]:
    """What asks for more than there is room for gets a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("name", CORPORA)
async def test_each_record_comes_out_or_is_a_dead_letter_with_a_reason(name, tmp_path, monkeypatch):
    corpus, rng = CORPORA[name], random.Random(f"{name} 1")
    (tmp_path / "order.proto").write_text(PROTO)
    registry = Registry()
    await registry.register("in-value", *corpus.registered)
    for module in (assembly, pipelines):
        monkeypatch.setattr(module, "registry_of", lambda context: registry)
    valid = corpus.valid(rng)
    data = [value for value, _ in valid]
    values = [*data, *corpus.strange]
    values += [mutated(rng, data) for _ in range(RECORDS - len(values))]
    order = list(range(RECORDS))
    rng.shuffle(order)

    app = InlineApp(tmp_path)
    await app.seed([values[at] for at in order])
    pipeline = (ONE_SINK if name == "bytes" else PIPELINE).replace("FORM", corpus.form)
    if "registry: true" in pipeline:
        pipeline += "schema_registry: {url: http://127.0.0.1:1}\n"
    with bounded_memory():
        await app.run(pipeline)

    again, letters = await app.records("again"), await app.records("letters")
    out = await app.records("out") if name != "bytes" else again
    # The counts add up, and nothing is lost or twice.
    assert len(out) + len(letters) == RECORDS
    assert sorted(int(record.key[1:]) for record in (*out, *letters)) == list(range(RECORDS))
    assert [record.key for record in again] == [record.key for record in out]
    # Dead letters are the record as it came, with a reason that holds nothing of it.
    for letter in letters:
        headers = {key: value.decode() for key, value in letter.headers}
        assert letter.value == values[order[int(letter.key[1:])]]
        assert headers["streamd.error"] in ("ExtractError", "LoadError"), headers
        assert headers["streamd.message"]
        assert SECRET not in headers["streamd.message"], headers
        assert "MemoryError" not in headers["streamd.message"], headers
    # Those that are right came through, as they are.
    came = {order[int(record.key[1:])]: record.value for record in out}
    assert all(at in came for at in range(VALID))
    for at, (_, document) in enumerate(valid):
        if document is not None:
            assert orjson.loads(came[at]) == document
    if name not in ("bytes", "text"):
        assert len(letters) > RECORDS // 10

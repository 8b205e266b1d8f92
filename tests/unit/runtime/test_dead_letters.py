"""What a dead letter keeps: the record as it came, to the byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from demo.inline_app import InlineApp
from streamd.errors import ConfigError, FatalError
from streamd.transport.embedded.records import MAX_RECORD_BYTES

CSV = (
    "name: p\nsource: {file: {path: in.csv, format: csv, types: {id: int, amount: float}, max_record_bytes: 40}}\n"
    "sink: {discard: {}}\n"
)
GOOD = b"1,1.5,fine"
BAD = [b"2,abc,caf\xc3\xa9", b"3,1.0", b"4,2.0,\xff"]
LONG = b"5,1.0," + b"x" * 100


@pytest.fixture
def app(tmp_path: Path) -> InlineApp:
    return InlineApp(tmp_path)


def csv_input(app: InlineApp) -> None:
    (app.folder / "in.csv").write_bytes(b"\n".join((b"id,amount,name", GOOD, *BAD, LONG, GOOD)) + b"\n")


def lines(path: Path) -> list[Any]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


async def test_rows_that_cannot_be_read_are_kept_as_they_were(app: InlineApp) -> None:
    csv_input(app)
    await app.run(CSV + "on_error: {dead_letter: {log: {topic: dlq}}}\n")
    dead = await app.records("dlq")
    assert [r.value for r in dead] == [*BAD, LONG[:40]]
    said = dict(dead[-1].headers)["streamd.message"]
    assert said is not None
    assert b"it has 106, of which the first 40 are kept" in said


async def test_rows_that_cannot_be_read_are_text_in_an_envelope(app: InlineApp) -> None:
    csv_input(app)
    await app.run(CSV + "on_error: {dead_letter: {file: {path: dead.ndjson}}}\n")
    values = [envelope["record"]["value"] for envelope in lines(app.folder / "dead.ndjson")]
    assert values == ["2,abc,café", "3,1.0", "4,2.0,\\xff", LONG[:40].decode()]


async def test_json_stands_in_an_envelope_as_it_was_written(app: InlineApp) -> None:
    raw = [b'{"n":3,"big":123456789012345678901234567890,"price":1.10,"n":3}', b'{"n":3,\r\n "a": 1.0}', b"{not json"]
    await app.seed(raw)
    await app.run("stages:\n- filter: 1 / (n - 3) > 0\non_error: {dead_letter: {file: {path: dead.ndjson}}}\n")
    dead = (app.folder / "dead.ndjson").read_bytes().splitlines()
    assert len(dead) == 3
    assert b'"value":' + raw[0] + b"}" in dead[0]
    assert b'"value":{"n":3,   "a": 1.0}}' in dead[1]
    assert orjson.loads(dead[2])["record"]["value"] == "{not json"


async def test_a_csv_of_dead_letters_has_the_value_too(app: InlineApp) -> None:
    await app.seed([{"n": 3}])
    await app.run("stages:\n- filter: 1 / (n - 3) > 0\non_error: {dead_letter: {file: {path: d.csv, format: csv}}}\n")
    header, row = (app.folder / "d.csv").read_text().splitlines()
    assert header == "error,record"
    assert '""value"":{""n"":3}' in row


async def test_a_number_beyond_64_bits_is_an_error_of_the_sink(app: InlineApp) -> None:
    await app.seed([{"n": 2**62}, {"n": 1}])
    await app.run("stages:\n- map: {m: n * 16}\non_error: {dead_letter: {log: {topic: dlq}}}\n")
    [dead] = await app.records("dlq")
    headers = dict(dead.headers)
    assert (headers["streamd.error"], headers["streamd.phase"]) == (b"LoadError", b"load")
    assert headers["streamd.message"] is not None
    assert headers["streamd.message"].startswith(b"field `m` is beyond 64 bits")
    assert await app.values() == [{"m": 16}]


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b'{"n": 1e400}', b"a number is out of the range of 64-bit floating-point numbers, at byte 6"),
        (b'{"n": "\\ud800"}', b"a text holds half a surrogate pair, at byte 7"),
        (b'{"n": "\\udc00"}', b"a text holds half a surrogate pair, at byte 7"),
        (b'{"n": tru}', b"the value is not JSON, from byte 6 on"),
    ],
)
async def test_what_cannot_be_read_of_json_says_why(app: InlineApp, raw: bytes, told: bytes) -> None:
    await app.seed([raw])
    await app.run("stages:\n- filter: n == 1\non_error: {dead_letter: {log: {topic: dlq}}}\n")
    [dead] = await app.records("dlq")
    assert dict(dead.headers)["streamd.message"] == told


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ("transform: [{rename: {user.name: name}}]", b"wrong type: null has no fields and no items"),
        ('transform: [{template: {a: "{user.name}"}}]', b"wrong type: null has no fields and no items"),
        ("filter: user > 1", b"wrong type: `>` cannot compare null with number"),
        ("filter: n in user", b"wrong type: `in` looks into text, list or object, not into null"),
        ("filter: len(user) > 1", b"wrong type: len takes text, list or object, not null"),
        ("set: {m: -text}", b"wrong type: `-` cannot be used on text"),
        ("set: {m: text * 1.5}", b"wrong type: `*` cannot be used on text or list and a number with a fraction"),
        ("set: {m: user + n}", b"wrong type: `+` cannot be used on null and number"),
        ("set: {m: text.x}", b"wrong type: text has no fields, only characters by their number"),
    ],
)
async def test_a_wrong_type_is_told_in_words_of_expressions(app: InlineApp, stage: str, told: bytes) -> None:
    await app.seed([{"user": None, "n": 1, "text": "a"}])
    await app.run(f"stages:\n- {stage}\non_error: {{dead_letter: {{log: {{topic: dlq}}}}}}\n")
    [dead] = await app.records("dlq")
    assert dict(dead.headers)["streamd.message"] == told


async def test_a_missing_event_time_is_named(app: InlineApp) -> None:
    await app.seed([{"n": 1}])
    await app.run(
        "name: p\nsource: {log: {topic: in, event_time: ts}}\nsink: {log: {topic: out}}\n"
        "on_error: {dead_letter: {log: {topic: dlq}}}\n"
    )
    [dead] = await app.records("dlq")
    headers = dict(dead.headers)
    assert (headers["streamd.error"], headers["streamd.phase"]) == (b"ExtractError", b"extract")
    assert headers["streamd.message"] == b"no event time: field 'ts' is missing"


async def test_of_a_record_too_large_for_its_dead_letters_the_beginning_is_kept(app: InlineApp) -> None:
    large = b'{"n":3,"x":"' + b"x" * MAX_RECORD_BYTES + b'"}'
    (app.folder / "in.ndjson").write_bytes(b'{"n":4}\n' + large + b'\n{"n":5}\n')
    await app.run(
        "name: p\nsource: {file: {path: in.ndjson, max_record_bytes: 32MB}}\nstages:\n- filter: 1 / (n - 3) > 0\n"
        "sink: {log: {topic: out}}\non_error: {dead_letter: {log: {topic: dlq}}}\n"
    )
    assert await app.values() == [{"n": 4}, {"n": 5}]
    [dead] = await app.records("dlq")
    assert dead.value is not None
    assert MAX_RECORD_BYTES - 100 < len(dead.value) <= MAX_RECORD_BYTES
    assert large.startswith(dead.value)
    assert dict(dead.headers)["streamd.cut"] == b"true"
    assert app.total("streamd_dead_letter_records_total") == 1


async def test_why_a_dead_letter_is_refused_is_said(app: InlineApp, monkeypatch: pytest.MonkeyPatch) -> None:
    (app.folder / "large_keys.py").write_text(
        "class LargeKeys:\n    async def process(self, batch):\n        for record in batch:\n"
        f"            record.key = b'k' * {MAX_RECORD_BYTES}\n        return list(batch)\n"
    )
    monkeypatch.syspath_prepend(str(app.folder))
    await app.seed([{"n": 3}])
    with pytest.raises(FatalError) as raised:
        await app.run(
            'stages:\n- python: {class: "large_keys:LargeKeys"}\n- filter: 1 / (n - 3) > 0\n'
            "on_error: {dead_letter: {log: {topic: dlq}}}\n"
        )
    said = str(raised.value)
    assert "'dead_letter' refused a record that failed before" in said
    assert "division by zero. Its dead letter was refused: the record has 16777223 bytes" in said
    assert "takes at most 16777216." in said
    assert "dead_letter instead" not in said
    assert "`on_error: skip`" in said


@pytest.mark.parametrize("form", ["{avro: {schema: {type: record, name: L, fields: []}}}", "msgpack"])
async def test_dead_letters_are_not_written_to_a_file_that_is_not_of_lines(app: InlineApp, form: str) -> None:
    file = f"{{file: {{path: d, format: {form}}}}}"
    with pytest.raises(ConfigError, match=r"p.yaml:4:26: .*dead letters must go to a file of json, csv or text"):
        await app.run(f"on_error: {{dead_letter: {file}}}\n")

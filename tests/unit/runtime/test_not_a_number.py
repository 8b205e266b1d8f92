"""Numbers that JSON has no word for are refused by sinks of JSON, and go on to others."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from demo.inline_app import InlineApp
from streamd.codecs import codec
from streamd.codecs.avro.settings import AvroSettings

SCHEMA = {
    "type": "record",
    "name": "R",
    "fields": [{"name": "n", "type": "double"}, {"name": "of", "type": ["null", {"type": "array", "items": "double"}]}],
}
ENCODE: dict[str, Any] = {
    "msgpack": msgspec.msgpack.encode,
    "avro": codec("avro", AvroSettings(schema=SCHEMA)).encode,
}


@pytest.fixture
def app(tmp_path: Path) -> InlineApp:
    return InlineApp(tmp_path)


def pipeline(form: str, to: str = "json", stages: str = "[]") -> str:
    source = orjson.dumps({"avro": {"schema": SCHEMA}}).decode() if form == "avro" else form
    return (
        f"name: p\nsource: {{log: {{topic: in, format: {source}}}}}\nstages: {stages}\n"
        f"sink: {{log: {{topic: out, format: {to}}}}}\non_error: {{dead_letter: {{log: {{topic: dlq}}}}}}\n"
    )


@pytest.mark.parametrize("form", ["msgpack", "avro"])
@pytest.mark.parametrize("stages", ["[]", "[{set: {m: true}}]"])
async def test_a_json_sink_refuses_them(app: InlineApp, form: str, stages: str) -> None:
    documents = [
        {"n": 1.5, "of": None},
        {"n": math.nan, "of": None},
        {"n": 2.5, "of": [0.0, -math.inf]},
        {"n": 1e308, "of": []},
    ]
    values = [ENCODE[form](document) for document in documents]
    await app.seed(values)
    await app.run(pipeline(form, stages=stages))
    assert [value["n"] for value in await app.values()] == [1.5, 1e308]
    dead = await app.records("dlq")
    assert [one.value for one in dead] == values[1:3]
    told = [dict(one.headers) for one in dead]
    assert [headers["streamd.message"] for headers in told] == [
        b"field `n` is NaN or an infinity, which JSON has no word for",
        b"field `of.1` is NaN or an infinity, which JSON has no word for",
    ]
    assert {(headers["streamd.phase"], headers["streamd.stage"]) for headers in told} == {(b"load", b"sink")}


async def test_a_format_that_has_them_writes_them(app: InlineApp) -> None:
    await app.seed([ENCODE["avro"]({"n": math.inf, "of": None})])
    await app.run(pipeline("avro", "msgpack"))
    [record] = await app.records("out")
    assert msgspec.msgpack.decode(record.value) == {"n": math.inf, "of": None}


async def test_null_can_be_written_in_place_of_nan(app: InlineApp) -> None:
    await app.seed([ENCODE["msgpack"]({"n": math.nan})])
    await app.run(pipeline("msgpack", stages="[{set: {n: 'n if n == n else null'}}]"))
    assert await app.values() == [{"n": None}]


async def test_what_own_code_gives_is_looked_at_too(app: InlineApp, monkeypatch: pytest.MonkeyPatch) -> None:
    (app.folder / "own_nan.py").write_text(
        "class Divide:\n"
        "    async def process(self, batch):\n"
        "        for record in batch:\n"
        "            record.value['n'] = float('inf') if record.value['n'] == 0 else 1.0\n"
        "        return batch\n"
    )
    monkeypatch.syspath_prepend(app.folder)
    await app.seed([{"n": 0}, {"n": 1, "a": None}])
    await app.run("stages: [{python: 'own_nan:Divide'}]\non_error: skip\n")
    assert await app.values() == [{"n": 1.0, "a": None}]


@pytest.mark.parametrize("stage", ["dedupe: {by: id, within: 1h}", "sort: {}"])
async def test_a_stage_that_gives_records_on_hides_none(app: InlineApp, stage: str) -> None:
    await app.seed([ENCODE["msgpack"]({"id": number, "n": n}) for number, n in enumerate([1.5, math.nan, None, 2.5])])
    await app.run(pipeline("msgpack", stages=f"[{{{stage}}}]"))
    assert [value["n"] for value in await app.values()] in ([1.5, None, 2.5], [1.5, None])  # sort waits with the last
    [dead] = await app.records("dlq")
    assert dict(dead.headers)["streamd.message"] == b"field `n` is NaN or an infinity, which JSON has no word for"

"""Records that cannot be processed, over the embedded log: each stops the pipeline with a clear message, is kept as a
dead letter where that is wanted, and comes through once the cause is gone.

What each policy does with a failed record is in tests/unit/runtime; here it is which record fails, and what is said.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import orjson
import pytest

from demo.inline_app import InlineApp
from streamd.errors import FatalError

GOOD = [{"n": n, "t": "x", "d": 1} for n in range(50)]
HEAD = "name: p\nsource: {log: {topic: in}}\n"
SINK = "sink: {log: {topic: out}}\n"
DEEP = b'{"n":1,"d":' + b"[" * 5000 + b"]" * 5000 + b"}"


@dataclass
class Case:
    """A bad value; the stages that it fails in; phase and message; the stages with which it comes through, and how."""

    value: object
    stages: str
    phase: str
    message: str
    mended: str | None = None
    becomes: object = None
    source: str = ""


ADD = "stages:\n- set: {m: n + 1}\n"
CASES = {
    "no JSON": Case(b"not json", ADD, "extract", "the value is not JSON, from byte 0 on"),
    "cut off": Case(b'{"n": 1', ADD, "extract", "the value is not JSON"),
    "not UTF-8": Case(b'{"n": "\xff"}', ADD, "extract", "the value is not UTF-8 text, from byte"),
    "empty": Case(b"", ADD, "extract", "the value is not JSON"),
    "a list": Case(b"[1]", ADD, "extract", "a record must be a JSON object, this one is a list"),
    "null": Case(b"null", ADD, "extract", "a record must be a JSON object, this one is null"),
    "a tombstone": Case(None, ADD, "extract", "the record has no value (a tombstone)"),
    "nested without end": Case(DEEP, ADD, "extract", "the value is nested too deeply"),
    "a missing field": Case({"t": "x"}, ADD, "transform", "field 'n' is missing",
                            "stages:\n- set: {m: 'get(n, 0) + 1'}\n", {"t": "x", "m": 1}),
    "a missing field inside": Case({"n": 1, "o": {}}, "stages:\n- set: {m: 'get(o, {\"p\": 1}).p + n'}\n", "transform",
                                   "field 'p' is missing"),
    "a wrong type": Case({"n": "1"}, ADD, "transform", "wrong type: ", "stages:\n- set: {m: int(n) + 1}\n",
                         {"n": "1", "m": 2}),
    "null where a number is wanted": Case({"n": None}, ADD, "transform", "wrong type: ",
                                          "stages:\n- set: {m: 'coalesce(n, 0) + 1'}\n", {"n": None, "m": 1}),
    "a division by zero": Case({"n": 1, "d": 0}, "stages:\n- set: {m: n / d}\n", "transform", "division by zero",
                               "stages:\n- set: {m: n / d if d else 0}\n", {"n": 1, "d": 0, "m": 0}),
    "a modulo by zero": Case({"n": 1, "d": 0}, "stages:\n- filter: n % d >= 0\n", "transform", "division by zero"),
    "a huge text": Case({"n": 10**9, "t": "x"}, "stages:\n- set: {m: len(t * n)}\n", "transform", ""),
    "a huge number": Case({"n": 10**6}, "stages:\n- set: {m: 9 ** n > 1}\n", "transform", ""),
    "a huge padding": Case({"n": 10**9, "t": "x"}, "stages:\n- set: {m: 'len(pad_start(t, n))'}\n", "transform", ""),
    "an event time that is none": Case({"n": 1, "ts": "soon"}, ADD, "extract", "not an ISO 8601 time",
                                       source=", event_time: {field: 'get(ts, 0)'}"),
    "an event time of a wrong type": Case({"n": 1, "ts": [1]}, ADD, "extract", "this one is a list",
                                          source=", event_time: {field: 'get(ts, 0)'}"),
    "a time in the future": Case({"n": 1, "ts": int(time.time() * 1000) + 7_200_000}, ADD, "extract",
                                 "further ahead than max_future allows",
                                 source=", event_time: {field: 'get(ts, 0)', max_future: 1h}"),
}  # fmt: skip


def pipeline(case, stages=None, more=""):
    return f"name: p\nsource: {{log: {{topic: in{case.source}}}}}\n{stages or case.stages}{SINK}{more}"


@pytest.fixture
def app(tmp_path):
    return InlineApp(tmp_path)


@pytest.mark.parametrize("name", CASES)
async def test_it_stops_the_pipeline_and_says_what_and_where(app, name):
    case = CASES[name]
    await app.seed([*GOOD, case.value, *GOOD])
    with pytest.raises(FatalError) as caught:
        await app.run(pipeline(case))
    said = str(caught.value)
    assert "failed on the record at offset 50 of in, partition 0" in said
    assert case.message in said
    assert "Nothing is lost" in said
    assert await app.records("out") == []


@pytest.mark.parametrize("name", CASES)
async def test_it_is_a_dead_letter_and_the_others_come_through(app, name):
    case = CASES[name]
    await app.seed([*GOOD, case.value, *GOOD])
    began = time.monotonic()
    await app.run(pipeline(case, more="on_error: {dead_letter: {log: {topic: dlq}}}\n"))
    assert time.monotonic() - began < 20
    [dead] = await app.records("dlq")
    raw = case.value if case.value is None or isinstance(case.value, bytes) else orjson.dumps(case.value)
    assert dead.value == raw
    headers = {key: value.decode() for key, value in dead.headers}
    assert (headers["streamd.phase"], headers["streamd.offset"]) == (case.phase, "50")
    assert case.message in headers["streamd.message"]
    assert len(await app.records("out")) == len(GOOD) * 2
    assert app.total("streamd_failed_records_total", phase=case.phase) == 1


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.mended])
async def test_once_the_pipeline_is_mended_everything_comes_out_once(app, name):
    case = CASES[name]
    await app.seed([*GOOD, case.value, *GOOD])
    with pytest.raises(FatalError):
        await app.run(pipeline(case))
    await app.run(pipeline(case, case.mended))
    out = await app.values()
    assert out[50] == case.becomes
    assert [v.get("n") for v in out[:50]] == [v["n"] for v in GOOD] == [v.get("n") for v in out[51:]]


async def test_a_line_of_a_file_too_long_for_a_record(app, tmp_path):
    (tmp_path / "in.ndjson").write_text('{"n": 1}\n{"n": 2, "pad": "' + "x" * 5000 + '"}\n{"n": 3}\n')
    text = "name: p\nsource: {file: {path: in.ndjson, max_record_bytes: 1KiB}}\n" + ADD + SINK
    with pytest.raises(FatalError, match="'source' failed on the record at offset 9 of"):
        await app.run(text)
    assert await app.records("out") == []
    await app.run(text + "on_error: {dead_letter: {log: {topic: dlq}}}\n")
    assert [v["n"] for v in await app.values()] == [1, 3]
    [dead] = await app.records("dlq")
    assert dead.value == b'{"n": 2, "pad": "'.ljust(1024, b"x")


async def test_a_document_too_large_for_the_log(app):
    """A small record that the stages blow up to 18 MB; the log takes 16 MiB."""
    await app.seed([{"n": 1, "t": "x"}, {"n": 900_000, "t": "y"}, {"n": 2, "t": "z"}])
    stages = "stages:\n- set: {" + ", ".join(f"a{i}: t * n" for i in range(20)) + "}\n"
    with pytest.raises(FatalError, match=r"sink 'sink' failed on the record at offset 1 .*takes at most 16777216"):
        await app.run(HEAD + stages + SINK)
    assert await app.records("out") == []
    await app.run(HEAD + stages + SINK + "on_error: {dead_letter: {log: {topic: dlq}}}\n")
    assert [v["n"] for v in await app.values()] == [1, 2]
    [dead] = await app.records("dlq")
    assert dead.value == b'{"n":900000,"t":"y"}'
    assert dict(dead.headers)["streamd.phase"] == b"load"
    assert app.total("streamd_failed_records_total", phase="load") == 1

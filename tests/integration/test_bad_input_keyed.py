"""Keys and times that stages by key and time cannot work with, and state that does not belong to its pipeline: over the
embedded log, and through every kind of stage that keeps something.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from demo.inline_app import InlineApp
from streamd.errors import FatalError
from streamd.transport.embedded.log import log_path

HEAD = "name: p\nsource: {log: {topic: in, event_time: {field: t, max_future: 1h}}}\nsink: {log: {topic: out}}\n"
DEAD = "on_error: {dead_letter: {log: {topic: dlq}}}\n"
STAGES = {
    "window": "stages: [window: {by: k, tumbling: 10ms, aggregate: {n: count()}}]\n",
    "windows by two": "stages: [window: {by: [k, t], count: 1, aggregate: {n: count()}}]\n",
    "aggregate": "stages: [aggregate: {by: k, values: {n: count()}}]\n",
    "sets": "stages: [aggregate: {by: {sets: [[k], []]}, values: {n: count()}}]\n",
    "join": "stages:\n- {id: j, join: {left: source, right: source, on: k, within: 1ms, fields: {k: left.k}}}\n",
    "dedupe": "stages: [dedupe: {by: k, within: 1ms}]\n",
    "key_by": "stages: [key_by: {by: k, partitions: 2}]\n",
}
SORT = "stages: [sort: {}]\n"
HUGE = 70_000
BAD_KEYS: dict[str, tuple[bytes, str]] = {
    "missing": (b'{"t": 5}', "field 'k' is missing"),
    "null": (b'{"k": null, "t": 5}', "null"),
    "a huge text": (b'{"k": "%b", "t": 5}' % (b"x" * HUGE), "takes at most 65536"),
    "a text that is huge in UTF-8": (orjson.dumps({"k": "\u00e9" * 40_000, "t": 5}), "takes at most 65536"),
    "a huge list": (orjson.dumps({"k": [1] * HUGE, "t": 5}), "takes at most 65536"),
    "an integer of more than 64 bits": (b'{"k": 123456789012345678901234567890, "t": 5}', ""),
}
# What Python cannot hash, or mixes up, is a key as any other.
ODD_KEYS = ([1, 2], {"a": {"b": 1}}, [], {}, True, 1, False, 0, "1", "", 1.5, "\u00e9")


@pytest.fixture
def app(tmp_path: Path) -> InlineApp:
    return InlineApp(tmp_path)


def row(key: object, at: int = 5) -> dict[str, object]:
    return {"k": key, "t": at}


# `key_by` keeps no key: any that can be written is one.
@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in STAGES for name in BAD_KEYS if kind != "key_by" or "64" not in name]
)
async def test_a_record_with_a_bad_key_is_a_dead_letter_and_changes_nothing(
    app: InlineApp, kind: str, name: str
) -> None:
    value, message = BAD_KEYS[name]
    await app.seed([row("a"), value, row("a", 6), row("a", 30)])
    await app.run(HEAD + STAGES[kind] + DEAD)
    [dead] = await app.records("dlq")
    assert dead.value == value
    headers = {key: text.decode() for key, text in dead.headers}
    assert headers["streamd.phase"] == "transform"
    assert message in headers["streamd.message"]
    assert "xxx" not in headers["streamd.message"], "a message never has what is in records"
    if kind == "window":
        assert [(v["k"], v["n"]) for v in await app.values()] == [("a", 2)]
    if kind == "aggregate":
        assert [v["n"] for v in await app.values()] == [1, 2, 3]


async def test_a_bad_key_stops_a_pipeline_that_says_nothing_else(app: InlineApp) -> None:
    await app.seed([row("a"), row(None)])
    with pytest.raises(FatalError, match=r"failed on the record at offset 1 of in.*a key is null; leave such records"):
        await app.run(HEAD + STAGES["window"])


async def test_a_key_that_is_no_finite_number_is_refused(app: InlineApp) -> None:
    await app.seed([{"k": 1.0, "t": 5}, {"k": 10.0, "t": 5}])
    stages = "stages: [aggregate: {by: {big: k * 1e308 - k * 1e308}, values: {n: count()}}]\n"
    await app.run(HEAD + stages + DEAD)
    assert await app.values() == [{"big": 0, "n": 1}]
    assert await app.values("dlq") == [{"k": 10.0, "t": 5}]


async def test_lists_and_objects_are_keys_and_no_two_are_mixed_up(app: InlineApp) -> None:
    await app.seed([row(key) for key in ODD_KEYS for _ in range(2)])
    await app.run(HEAD + STAGES["aggregate"])
    found = [(v["k"], v["n"]) for v in await app.values()]
    assert orjson.dumps(found) == orjson.dumps([(key, n) for key in ODD_KEYS for n in (1, 2)])


BAD_TIMES: dict[str, tuple[Callable[[], bytes], str]] = {
    "missing": (lambda: b'{"k":"a"}', "field 't' is missing"),
    "null": (lambda: b'{"k":"a","t":null}', "this one is null"),
    "negative": (lambda: b'{"k":"a","t":-70}', "before 1970"),
    "none at all": (lambda: b'{"k":"a","t":-1}', "has no time"),
    "no time": (lambda: b'{"k":"a","t":"soon"}', "not an ISO 8601 time"),
    "a list": (lambda: b'{"k":"a","t":[5]}', "this one is a list"),
    "a flag": (lambda: b'{"k":"a","t":true}', "this one is a boolean"),
    "two hours ahead": (lambda: orjson.dumps(row("a", int(time.time() * 1000) + 7_200_000)), "than max_future allows"),
    "microseconds": (lambda: orjson.dumps(row("a", int(time.time() * 1e6))), "looks like microseconds"),
    "nanoseconds": (lambda: orjson.dumps(row("a", time.time_ns())), "looks like nanoseconds"),
    "out of all range": (lambda: b'{"k":"a","t":1e300}', "number of milliseconds"),
    "more than 64 bits": (lambda: b'{"k":"a","t":99999999999999999999999}', "m"),
}


@pytest.mark.parametrize("kind", ["window", "join", "sort"])
@pytest.mark.parametrize("name", BAD_TIMES)
async def test_a_record_with_a_bad_time_moves_no_watermark(app: InlineApp, kind: str, name: str) -> None:
    make, message = BAD_TIMES[name]
    value = make()
    await app.seed([row("a"), value, row("a", 6), row("a", 30)])
    await app.run(HEAD + STAGES.get(kind, SORT) + DEAD)
    [dead] = await app.records("dlq")
    assert dead.value == value
    assert message in dict(dead.headers)["streamd.message"].decode()
    assert app.total("streamd_late_records_total") == 0
    if kind == "window":
        assert [(v["k"], v["n"]) for v in await app.values()] == [("a", 2)]


async def test_iso_times_are_times(app: InlineApp) -> None:
    rows = [row("a", at) for at in ("1970-01-01T00:00:00.005Z", "1970-01-01T01:00:00.006+01:00", "1970-01-01T00:00:01")]  # type: ignore[arg-type]
    await app.seed(rows)
    await app.run(HEAD + STAGES["window"])
    assert [(v["window_start"], v["n"]) for v in await app.values()] == [(0, 2)]


async def test_times_in_seconds_are_told_of_once_with_what_to_write(
    app: InlineApp, capsys: pytest.CaptureFixture[str]
) -> None:
    now = int(time.time())
    await app.seed([row("a", now + n) for n in range(50)])
    await app.run(HEAD + STAGES["window"] + "batch: {max_records: 10}\n")
    said = capsys.readouterr()
    assert (said.out + said.err).count("Event times look like seconds") == 1
    assert "event_time: {field: t * 1000}" in said.out + said.err


# State that does not belong to the pipeline.


def change(app: InlineApp, statement: str) -> None:
    """Do something to the app's log behind its back."""
    with sqlite3.connect(log_path(app.folder, "app")) as connection:
        assert connection.execute(statement).rowcount > 0
    connection.close()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM changelog", "has no checkpoint, .*it was deleted or truncated"),
        ("DELETE FROM changelog WHERE key = CAST('__meta__' AS BLOB)", "has no checkpoint"),
        ("DELETE FROM changelog WHERE key != CAST('__meta__' AS BLOB)", r"has 0 keys, .* left \d+: part of it was"),
        (
            "UPDATE changelog SET value = CAST(replace(value, '\"checkpoint\":', '\"checkpoint\":7') AS BLOB)",
            "belong to checkpoint",
        ),
        ("UPDATE changelog SET key = CAST('else' || key AS BLOB)", "tables that the stage does not have|no store has"),
    ],
)
@pytest.mark.parametrize("kind", ["window", "aggregate", "join"])
async def test_a_changelog_that_is_not_as_it_was_is_refused_with_the_way_out(
    app: InlineApp, kind: str, statement: str, message: str
) -> None:
    await app.seed([row("a"), row("b", 6)])
    await app.run(HEAD + STAGES[kind])
    before = await app.values()
    change(app, statement)
    await app.seed([row("a", 7)])
    with pytest.raises(FatalError, match=message) as caught:
        await app.run(HEAD + STAGES[kind])
    assert "`streamd state reset`" in str(caught.value)
    assert "Nothing was computed from it" in str(caught.value)
    assert await app.values() == before


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("by: k, tumbling: 10ms", "by: k, tumbling: 20ms", "tumbling has changed"),
        ("by: k, tumbling: 10ms", "by: [k, t], tumbling: 10ms", ".*by.t is new"),
        ("by: k, tumbling: 10ms", "by: k, session: {gap: 10ms}", "session is new, tumbling is gone"),
    ],
)
async def test_state_of_another_version_of_the_pipeline_is_refused(
    app: InlineApp, before: str, after: str, changed: str
) -> None:
    await app.seed([row("a")])
    await app.run(HEAD + STAGES["window"])
    with pytest.raises(FatalError, match=f"was written with other settings: {changed}.*`streamd state reset`"):
        await app.run(HEAD + STAGES["window"].replace(before, after))


async def test_state_of_a_stage_that_is_new_begins_with_nothing(app: InlineApp) -> None:
    await app.seed([row("a")])
    await app.run(HEAD)
    await app.seed([row("a", 6)])
    await app.run(HEAD + STAGES["aggregate"])
    assert (await app.values())[1:] == [{"k": "a", "n": 1}]


@pytest.mark.parametrize("now", ["", "stages: [{id: other, aggregate: {by: k, values: {n: count()}}}]\n"])
async def test_state_of_a_stage_that_is_not_there_any_more_is_refused(app: InlineApp, now: str) -> None:
    """Taken out, or by another name: neither is it lost in silence, nor gone on from when the stage comes back."""
    await app.seed([row("a")])
    await app.run(HEAD + STAGES["aggregate"])
    await app.seed([row("a", 6)])
    left = r"has state of a stage 'aggregate', as of checkpoint \d.* `streamd state reset FILE aggregate`"
    with pytest.raises(FatalError, match=left):
        await app.run(HEAD + now)
    await app.run(HEAD + STAGES["aggregate"])
    assert await app.values() == [{"k": "a", "n": 1}, {"k": "a", "n": 2}]


async def test_a_stage_that_is_taken_out_after_a_reset_begins_with_nothing_when_it_comes_back(app: InlineApp) -> None:
    await app.seed([row("a")])
    await app.run(HEAD + STAGES["aggregate"])
    change(app, "DELETE FROM cursor WHERE sink = 'aggregate'")
    change(app, "DELETE FROM changelog WHERE store = 'aggregate'")
    await app.seed([row("a", 6)])
    await app.run(HEAD)
    await app.seed([row("a", 7)])
    await app.run(HEAD + STAGES["aggregate"])
    assert (await app.values())[2:] == [{"k": "a", "n": 1}]

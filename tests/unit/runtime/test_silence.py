"""Windows that end although nothing comes, in running tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.inline_app import InlineApp
from streamd.clock import SYSTEM_CLOCK

WINDOWS = """
stages: [window: {by: k, tumbling: 50ms, aggregate: {n: count()}}]
sink: {log: {topic: out}}
"""


@pytest.fixture
def app(tmp_path: Path) -> InlineApp:
    return InlineApp(tmp_path)


async def test_windows_end_when_nothing_has_come_for_long_enough(app: InlineApp) -> None:
    await app.seed([{"k": "a", "t": 10}, {"k": "b", "t": 20}, {"k": "a", "t": 30}])
    text = "name: p\nsource: {log: {topic: in, event_time: {field: t, idle: 100ms}}}\n" + WINDOWS

    async def both() -> bool:
        return len(await app.values()) == 2

    await app.run_until(text, both)
    assert [(v["k"], v["n"], v["window_end"]) for v in await app.values()] == [("a", 2, 50), ("b", 1, 50)]


async def test_what_silence_has_ended_stays_so_after_a_restart(app: InlineApp) -> None:
    await app.seed([{"k": "a", "t": 10}])
    text = "name: p\nsource: {log: {topic: in, event_time: {field: t, idle: 100ms}}}\n" + WINDOWS

    async def given() -> bool:
        return bool(await app.values())

    await app.run_until(text, given)
    await app.seed([{"k": "a", "t": 11}])
    await app.run(text)
    assert [v["n"] for v in await app.values()] == [1]
    assert app.total("streamd_late_records_total", stage="window") == 1


async def test_by_the_processing_clock_windows_end_by_themselves(app: InlineApp) -> None:
    await app.seed([{"k": "a"}, {"k": "a"}])
    text = "name: p\nsource: {log: {topic: in, event_time: {clock: processing}}}\n" + WINDOWS

    async def counted() -> bool:
        return sum(v["n"] for v in await app.values()) == 2

    await app.run_until(text, counted)
    assert all(v["window_end"] - v["window_start"] == 50 for v in await app.values())


async def test_one_silent_partner_of_a_join_does_not_hold_back_the_other(app: InlineApp) -> None:
    await app.seed([{"k": "a", "t": 5}], "left")
    await app.seed([{"k": "a", "t": 8}, {"k": "b", "t": 500}], "right")
    text = """
name: p
sources:
- {id: l, log: {topic: left, event_time: {field: t, idle: 100ms}}}
- {id: r, log: {topic: right, event_time: {field: t, idle: 100ms}}}
stages: [join: {left: l, right: r, on: k, within: 10ms, type: full, fields: {at: 'get(left.t, 0)'}}]
sink: {log: {topic: out}}
"""

    async def alone() -> bool:
        return len(await app.values()) == 2

    await app.run_until(text, alone)
    assert [v["at"] for v in await app.values()] == [5, 0]


async def test_a_clock_that_is_set_back_makes_nothing_late(app: InlineApp, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(1_700_000_000_000, 0, -60_000))
    monkeypatch.setattr(SYSTEM_CLOCK, "now_ms", lambda: next(now))
    (app.folder / "in.ndjson").write_text('{"k":"a"}\n' * 4)
    text = "name: p\nsource: {file: {path: in.ndjson, event_time: {clock: processing}}}\n" + WINDOWS
    await app.run(text + "batch: {max_records: 1}\n")
    assert [v["n"] for v in await app.values()] == [4]
    assert app.total("streamd_late_records_total", stage="window") == 0

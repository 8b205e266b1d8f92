"""Keyed stages in a running task: rows, lateness, the watermark from stage to stage, and what a restart begins with."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.counted import REGISTRY
from demo.inline_app import InlineApp
from streamd.errors import ConfigError

COUNT = """
name: p
source: {log: {topic: in, event_time: {field: t, out_of_order: 5ms, max_future: null}}}
stages:
- {id: counted, counted: {by: k, late: drop}}
sink: {log: {topic: out}}
"""


def events(*times: int, k: str = "a") -> list[dict[str, object]]:
    return [{"k": k, "t": t} for t in times]


async def test_what_is_over_by_the_watermark_is_given_and_nothing_else(tmp_path: Path) -> None:
    app = InlineApp(tmp_path, REGISTRY)
    await app.seed([*events(1, 3, 11), *events(2, k="b"), *events(15, 24)])
    await app.run(COUNT)
    assert await app.values() == [{"key": "a", "end": 10, "count": 2}, {"key": "b", "end": 10, "count": 1}]
    assert [record.timestamp for record in await app.records("out")] == [9, 9]


async def test_state_and_watermark_go_on_after_a_restart(tmp_path: Path) -> None:
    app = InlineApp(tmp_path, REGISTRY)
    await app.seed(events(1, 12))
    await app.run(COUNT)
    assert await app.values() == []
    await app.seed([*events(2, 13, 16, 3, 25)])
    await app.run(COUNT)
    # 3 came when 16 had moved the watermark to 11; 2 was in time by the 7 that was kept from the first run.
    assert await app.values() == [{"key": "a", "end": 10, "count": 2}, {"key": "a", "end": 20, "count": 3}]
    assert app.total("streamd_late_records_total", stage="counted") == 1


async def test_late_is_decided_by_each_record_whatever_the_batches_are(tmp_path: Path) -> None:
    for size in (1, 2, 100):
        folder = tmp_path / str(size)
        folder.mkdir()
        app = InlineApp(folder, REGISTRY)
        await app.seed(events(1, 14, 2, 15, 3, 4, 30))
        await app.run(COUNT + f"batch: {{max_records: {size}}}\n")
        assert await app.values() == [{"key": "a", "end": 10, "count": 2}, {"key": "a", "end": 20, "count": 2}]
        assert app.total("streamd_late_records_total", stage="counted") == 2


async def test_late_records_can_be_kept(tmp_path: Path) -> None:
    app = InlineApp(tmp_path, REGISTRY)
    await app.seed(events(1, 30, 2))
    await app.run(COUNT.replace("late: drop", "late: dead_letter") + "on_error: {dead_letter: {log: {topic: dlq}}}\n")
    [kept] = await app.values("dlq")
    assert kept == {"k": "a", "t": 2}
    headers = {name: value.decode() for name, value in (await app.records("dlq"))[0].headers}
    assert headers["streamd.error"] == "LateRecordError"
    assert headers["streamd.topic"] == "in"


async def test_late_records_can_go_to_a_sink_of_their_own(tmp_path: Path) -> None:
    app = InlineApp(tmp_path, REGISTRY)
    await app.seed(events(1, 30, 2))
    await app.run(COUNT.replace("late: drop", "late: {log: {topic: late}}"))
    [late] = await app.records("late")
    assert (late.value, late.key, late.timestamp) == (b'{"k":"a","t":2}', b"k2", 1_700_000_000_002)
    assert app.total("streamd_sink_records_total", sink="counted_late") == 1


async def test_late_records_of_documents_are_written_as_such(tmp_path: Path) -> None:
    """Behind another keyed stage there are no bytes any more."""
    app = InlineApp(tmp_path, REGISTRY)
    (tmp_path / "in.csv").write_text("k,t\na,1\na,30\na,2\n")
    await app.run(
        COUNT.replace("log: {topic: in,", "file: {path: in.csv, format: csv, types: {t: int},").replace(
            "late: drop", "late: {log: {topic: late}}"
        )
    )
    assert await app.values("late") == [{"k": "a", "t": 2}]


async def test_late_records_for_dead_letters_need_some(tmp_path: Path) -> None:
    app = InlineApp(tmp_path, REGISTRY)
    with pytest.raises(ConfigError) as caught:
        await app.run(COUNT.replace("late: drop", "late: dead_letter"))
    [problem] = caught.value.diagnostics
    assert "has none" in problem.message  # type: ignore[attr-defined]


async def test_a_row_that_fails_is_one_records_failure(tmp_path: Path) -> None:
    app = InlineApp(tmp_path, REGISTRY)
    await app.seed([*events(1), *events(2, k="no"), *events(3, 30)])
    await app.run(COUNT.replace("late: drop", "refuse: 'no'") + "on_error: {dead_letter: {log: {topic: dlq}}}\n")
    assert await app.values() == [{"key": "a", "end": 10, "count": 2}]
    assert await app.values("dlq") == [{"k": "no", "t": 2}]


async def test_the_next_stage_follows_the_one_before_it(tmp_path: Path) -> None:
    """What the first gives is in the windows of the second before these are closed."""
    app = InlineApp(tmp_path, REGISTRY)
    await app.seed([*events(1, 2, 11), *events(3, 12, k="b"), *events(35)])
    await app.run(COUNT.replace("sink:", "- {id: again, counted: {by: \"'n' + str(count)\", size: 20}}\nsink:"))
    assert await app.values() == [{"key": "n1", "end": 20, "count": 3}, {"key": "n2", "end": 20, "count": 1}]


async def test_a_bounded_input_ends_with_everything_given(tmp_path: Path) -> None:
    app = InlineApp(tmp_path, REGISTRY)
    (tmp_path / "in.ndjson").write_text('{"k": "a", "t": 1}\n{"k": "a", "t": 12}\n')
    await app.run(COUNT.replace("{log: {topic: in, event_time", "{file: {path: in.ndjson, event_time"))
    assert await app.values() == [{"key": "a", "end": 10, "count": 1}, {"key": "a", "end": 20, "count": 1}]


async def test_times_that_no_event_can_have_are_errors_of_their_records(tmp_path: Path) -> None:
    app = InlineApp(tmp_path, REGISTRY)
    await app.seed([*events(1, -1, -70), {"k": "a", "t": "yesterday"}, *events(30)])
    await app.run(COUNT + "on_error: skip\n")
    assert await app.values() == [{"key": "a", "end": 10, "count": 1}]
    assert app.total("streamd_skipped_records_total", component="source") == 3

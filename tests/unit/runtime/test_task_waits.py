"""What a task says of itself while a stage holds it back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demo.inline_app import InlineApp
from streamd.runtime.process import Process
from streamd.runtime.task import FEW_TASKS, QUIET_GAP, Task, quiet_gap

LIMITED = """
name: p
source: {file: {path: in.ndjson}}
stages:
- rate_limit: 1/h
sink: {log: {topic: out}}
commit_interval: 10ms
"""


async def test_the_lag_of_a_file_is_in_bytes(tmp_path: Path) -> None:
    app = InlineApp(tmp_path)
    await app.seed([], "out")
    (tmp_path / "in.ndjson").write_text('{"n": 1}\n' * 10)
    run = asyncio.create_task(app.run(LIMITED))
    try:
        async with asyncio.timeout(20):
            while not await app.records("out"):  # noqa: ASYNC110 - another reader of the log, which tells nobody
                await asyncio.sleep(0.01)
        assert app.total("streamd_source_lag_bytes") == 81
        assert app.total("streamd_source_lag_records") == 0
    finally:
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run


async def test_the_age_of_a_transaction_grows_until_it_is_committed(tmp_path: Path) -> None:
    """One series for each task, which goes with the task."""
    app = InlineApp(tmp_path)
    await app.seed([], "out")
    (tmp_path / "in.ndjson").write_text('{"n": 1}\n' * 10)

    def ages() -> list[float]:
        families = {family.name: family for family in app.metrics.snapshot().families}
        age = families.get("streamd_transaction_age_seconds")
        return [] if age is None else [*age.values]

    async def until(condition: Any) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - a gauge tells nobody
                await asyncio.sleep(0.01)

    run = asyncio.create_task(app.run(LIMITED.replace("10ms", "1h")))
    try:
        await until(lambda: ages() and ages()[0] > 0)
        [young] = ages()
        await until(lambda: ages()[0] > young + 0.1)
    finally:
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    assert ages() == []
    again = asyncio.create_task(app.run(LIMITED))
    try:
        async with asyncio.timeout(20):
            while not await app.records("out"):  # noqa: ASYNC110 - another reader of the log, which tells nobody
                await asyncio.sleep(0.01)
        await until(lambda: ages() == [0.0])
    finally:
        again.cancel()
        with pytest.raises(asyncio.CancelledError):
            await again


@pytest.mark.parametrize(("until", "progress"), [(0.0, 10.0), (50.0, 50.0), (500.0, 100.0)])
def test_holding_still_on_purpose_is_no_standstill(until: float, progress: float) -> None:
    """A rate limit and a back-off reach to `until`; it is 100 now, and the last batch was at 10."""
    process: Any = Process.__new__(Process)
    process._stages, process._waits_until = {"limit": SimpleNamespace(ready_at=until)}, 0.0
    task: Any = Task.__new__(Task)
    task._progress, task._process, task._clock = 10.0, process, SimpleNamespace(monotonic=lambda: 100.0)
    assert task.last_progress == progress


def test_a_process_with_many_tasks_commits_drained_input_less_often() -> None:
    """Few tasks answer as soon as they can; of a hundred, each leaves a good part of a second to the others."""
    assert {quiet_gap(tasks) for tasks in range(FEW_TASKS + 1)} == {QUIET_GAP}
    assert 100 / quiet_gap(100) < 150, "commits a second, all tasks together"
    gaps = [quiet_gap(tasks) for tasks in range(1, 200)]
    assert gaps == sorted(gaps)


async def test_only_running_tasks_are_counted(tmp_path: Path) -> None:
    app = InlineApp(tmp_path)
    await app.seed([{"n": 1}], "in")
    await app.run("name: p\nsource: {log: {topic: in}}\nsink: {log: {topic: out}}\n")
    assert await app.values() == [{"n": 1}]
    assert Task.running == 0

"""When a task says that it has nothing to do: not with a batch in its hands, and not before an input with an end is."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.inline_app import InlineApp

SLOW = """
import asyncio

async def process(batch):
    await asyncio.sleep(0.4)  # longer than a run waits until it believes that nothing is left to do
    return batch
"""

CHAINED = """
name: p
sources:
- {id: a, log: {topic: in}}
- {id: b, log: {topic: between}}
stages:
- {id: slow, from: a, python: "slow_stage:process"}
sinks:
- {from: slow, log: {topic: between}}
- {from: b, log: {topic: out}}
"""


async def test_a_task_that_is_still_working_on_a_batch_is_not_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_stage.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    app = InlineApp(tmp_path)
    await app.seed([{"n": 1}])
    await app.run(CHAINED)
    assert await app.values() == [{"n": 1}], "what the slow part gave is read by the other before the run ends"


async def test_an_input_with_an_end_is_read_to_it_however_slowly_it_comes(tmp_path: Path) -> None:
    app = InlineApp(tmp_path)
    await app.run("name: p\nsource: {generate: {count: 3, rate: 3, fields: {n: _offset}}}\nsink: {log: {topic: out}}\n")
    assert await app.values() == [{"n": 0}, {"n": 1}, {"n": 2}]

"""Records that are tried again for longer than a transaction may be open: over several attempts at their task."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from demo.inline_app import InlineApp
from streamd.record import SourceRecord
from streamd.runtime import process
from streamd.runtime.retries import RetriedRecord, Retries

STAGE = """
seen = []
fails = 0

def handle(batch):
    global fails
    for record in batch:
        seen.append(record.value["n"])
        if record.value["n"] == 3 and fails > 0:
            fails -= 1
            raise ValueError("not now")
    return batch
"""
PIPELINE = 'stages:\n- python: "stage_of_retries:handle"\non_error: {{retry: {{backoff: 10ms, {} deadline: 10s}}}}\n'


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InlineApp:
    (tmp_path / "stage_of_retries.py").write_text(STAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "stage_of_retries", raising=False)
    monkeypatch.setattr(process, "WAIT_IN_PLACE", 0.0)
    return InlineApp(tmp_path)


def stage(fails: int):
    module = importlib.import_module("stage_of_retries")
    module.fails = fails
    return module


async def test_a_record_that_needs_long_is_waited_for_without_a_transaction_and_in_order(app: InlineApp) -> None:
    await app.seed([{"n": n} for n in range(8)])
    module = stage(fails=6)
    await app.run(PIPELINE.format(""))
    assert [value["n"] for value in await app.values()] == list(range(8))
    # A batch that fails is given again one by one; then what came before is committed, and not done again.
    assert module.seen.count(0) <= 3
    assert module.seen.count(2) <= 3
    assert module.fails == 0


async def test_the_tries_are_counted_over_all_attempts(app: InlineApp) -> None:
    await app.seed([{"n": n} for n in range(5)])
    stage(fails=1000)
    await app.run(PIPELINE.format("attempts: 4, then: {dead_letter: {log: {topic: dlq}}},"))
    assert [value["n"] for value in await app.values()] == [0, 1, 2, 4]
    [dead] = await app.records("dlq")
    assert dict(dead.headers)["streamd.attempt"] == b"4"


def test_a_record_is_remembered_until_it_is_committed() -> None:
    retries = Retries()
    record = RetriedRecord("set", "orders", 7)
    batch = [SourceRecord(None, b"", 0, offset) for offset in (6, 7)]
    assert retries.since(record, 50.0) == (50.0, 1)
    retries.keep(record, 50.0, 3)
    retries.committed()
    assert retries.among(batch)
    assert [retries.before(position) for position in (0, 6, 7, 8, {"offset": 0})] == [7, 1, 1, 1, 1]
    assert not retries.among(batch[:1])
    assert retries.since(record, 99.0) == (50.0, 3)
    retries.passed(batch)
    assert retries.since(record, 99.0) == (50.0, 3), "an attempt that fails after it goes on counting"
    retries.committed()
    assert not retries.among(batch)
    assert retries.before(0) is None

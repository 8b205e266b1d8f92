"""Keys with a `ttl`: each is forgotten at its own moment, whatever batches, checkpoints, crashes and memory are."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.inline_app import InlineApp
from streamd.component.state import key_of
from streamd.errors import TransientError
from streamd.record import END
from streamd.runtime.checkpoint import Checkpoint
from streamd.stages.aggregate import AggregateConfig, AggregateStage
from streamd.state.cold import ColdTier
from streamd.state.spill import Spill
from streamd.state.store import TableStore

LATE, TTL = 10, 25
PIPELINE = """
name: p
source: {log: {topic: in, event_time: {field: t, out_of_order: 10ms, max_future: null}}}
stages:
- {id: kept, aggregate: {by: k, values: {n: count(), all: sum(t)}, ttl: 25ms}}
sink: {log: {topic: out}}
commit_interval: 1ms
"""
# Time goes on, in disorder, with gaps.
EVENTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.integers(0, 12)), min_size=1, max_size=40)


def in_time(events: list[tuple[str, int, int]]) -> list[tuple[str, int]]:
    now, found = 0, []
    for key, back, step in events:
        now += step
        found.append((key, max(0, now - back)))
    return found


def expected(events: list[tuple[str, int]]) -> list[tuple[str, int, int, int]]:
    """(key, how many, their sum, time of the result), record by record."""
    kept: dict[str, tuple[int, int, int]] = {}
    high, found = 0, []
    for key, time in events:
        high = max(high, time)
        watermark = high - LATE
        at = max(time, watermark)
        count, total, last = kept.get(key, (0, 0, at))
        if last <= watermark - TTL:
            count, total, last = 0, 0, at
        kept[key] = count + 1, total + time, max(last, at)
        found.append((key, count + 1, total + time, at))
    return found


class Failing:
    """Checkpoints of which some fail: {number: whether that is before it is durable}."""

    def __init__(self, failures: dict[int, bool]) -> None:
        self.failures, self.number, self.commit = failures, 0, Checkpoint.commit

    async def __call__(self, checkpoint: Checkpoint) -> None:
        self.number += 1
        before = self.failures.get(self.number)
        if before:
            raise TransientError("before")
        await self.commit(checkpoint)
        if before is False:
            raise TransientError("after")


async def run(events: list[tuple[str, int]], size: int, failures: dict[int, bool]) -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        app, failing = InlineApp(Path(folder)), Failing(failures)
        await app.seed([{"k": key, "t": time} for key, time in events])
        with patch.object(Checkpoint, "commit", lambda checkpoint: failing(checkpoint)):
            await app.run(PIPELINE + f"batch: {{max_records: {size}}}\n")
        found = [(orjson.loads(r.value or b""), r.timestamp) for r in await app.records("out")]
        return [(r["k"], r["n"], r["all"], at) for r, at in found]


@settings(max_examples=25)
@given(EVENTS, st.integers(1, 7), st.dictionaries(st.integers(1, 8), st.booleans(), max_size=4))
def test_a_pipeline_against_brute_force(
    events: list[tuple[str, int, int]], size: int, failures: dict[int, bool]
) -> None:
    records = in_time(events)
    assert asyncio.run(run(records, size, failures)) == expected(records)


class Run:
    """The stage over a store of its own, its changelog a dict."""

    def __init__(self, folder: Path, budget: int | None) -> None:
        self.folder, self.budget = folder, budget
        self.log: dict[bytes, bytes | None] = {}

    async def open(self) -> None:
        config = AggregateConfig.model_validate({"by": "k", "values": {"n": "count()", "all": "sum(t)"}, "ttl": 0.025})
        self.stage = AggregateStage(config, SimpleNamespace(base_dir=None, clock=None))  # type: ignore[arg-type]
        self.spill = None if self.budget is None else Spill(ColdTier(self.folder, "t"), lambda: self.budget or 0)
        self.store = TableStore("s", self.spill)
        await self.stage.open(SimpleNamespace(store=self.store))  # type: ignore[arg-type]
        self.store.load(self.log)
        self.store.loaded()
        self.stage.restored()

    def commit(self) -> None:
        for name, value in self.store.changes():
            if value is None:
                self.log.pop(name, None)
            else:
                self.log[name] = value
        if self.spill is not None:
            self.spill.settle()
            self.spill.fit()
        self.store.committed()

    def close(self) -> None:
        if self.spill is not None:
            self.spill.close()


async def check(events: list[tuple[str, int]], steps: list[str], budget: int | None, folder: Path) -> None:
    run = Run(folder, budget)
    await run.open()
    wanted, found, turns = expected(events), [], iter(steps)
    high, at, durable, durable_high = 0, 0, 0, 0
    while at < len(events):
        batch = events[at : at + 3]
        rows, out = [], list[Any]()
        for key, time in batch:
            high = max(high, time)
            # A key of one field, and one of several.
            rows.append((None, time, high - LATE, key if key != "c" else key_of(["c"]), time))
        run.stage.process(rows, out, [])
        run.stage.advance(high - LATE, out)
        found += [(key, r.value["n"], r.value["all"], r.timestamp) for r, (key, _) in zip(out, batch, strict=True)]
        at += len(batch)
        alive = {key if key != "c" else key_of(["c"]) for key, _, _, time in wanted[:at] if time > high - LATE - TTL}
        assert {key for key, _ in run.stage.view.scan()} == alive
        step = next(turns, "commit")
        if step == "commit":
            run.commit()
            durable, durable_high = at, high
        elif step == "crash":
            run.close()
            await run.open()
            at, high = durable, durable_high
            del found[durable:]
    assert found == wanted
    run.stage.advance(END - 1, [])
    run.commit()
    assert run.log == {}, "nothing is left"
    run.close()

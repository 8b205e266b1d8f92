"""Whichever checkpoints fail, before or after they are durable: windows give what they give without that."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from demo.inline_app import InlineApp
from streamd.errors import TransientError
from streamd.runtime.checkpoint import Checkpoint

PIPELINE = """
name: p
source: {log: {topic: in, event_time: {field: t, out_of_order: 10ms, max_future: null}}}
stages:
- {id: tens, window: {by: k, tumbling: 10ms, grace: 2ms, late: dead_letter, aggregate: {n: count(), all: 'collect(t, 9)'}}}
- {id: again, window: {by: k, hopping: {size: 40ms, every: 20ms}, aggregate: {n: sum(n)}}}
- {id: visits, from: source, window: {by: k, session: {gap: 7ms}, aggregate: {n: count()}}}
sinks:
- {id: out, from: again, log: {topic: out}}
- {id: visited, from: visits, log: {topic: visited}}
on_error: {dead_letter: {log: {topic: dlq}}}
commit_interval: 1ms
"""  # noqa: E501 (a pipeline)
EVENTS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30)), min_size=1, max_size=40)


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


async def run(values: list[dict[str, Any]], size: int, failures: dict[int, bool]) -> list[list[Any]]:
    with tempfile.TemporaryDirectory() as folder:
        app, failing = InlineApp(Path(folder)), Failing(failures)
        await app.seed(values)
        with patch.object(Checkpoint, "commit", lambda checkpoint: failing(checkpoint)):
            await app.run(PIPELINE + f"batch: {{max_records: {size}}}\n")
        return [await app.values(topic) for topic in ("out", "visited", "dlq")]


@settings(max_examples=12)
@given(EVENTS, st.integers(1, 7), st.dictionaries(st.integers(1, 8), st.booleans(), min_size=1, max_size=4))
def test_what_comes_out_is_the_same(events: list[tuple[str, int]], size: int, failures: dict[int, bool]) -> None:
    # Time goes on, in disorder.
    values = [{"k": key, "t": 4 * number + at} for number, (key, at) in enumerate(events)]
    plain = asyncio.run(run(values, 100, {}))
    assert asyncio.run(run(values, size, failures)) == plain

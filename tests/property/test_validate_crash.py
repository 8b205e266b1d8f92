"""Unique keys and scores against brute force, over batches of any sizes and checkpoints that fail before or after they
are durable, with records that are late.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from demo.inline_app import InlineApp
from demo.quality_oracle import counts_of, judged
from streamd.errors import TransientError
from streamd.runtime.checkpoint import Checkpoint

WITHIN, WINDOW, DISORDER = 12, 20, 10
PIPELINE = f"""
name: p
source: {{log: {{topic: in, event_time: {{field: t, out_of_order: {DISORDER}ms, max_future: null}}}}}}
stages:
- id: checked
  validate:
    rules:
    - {{name: unique, unique: k, within: {WITHIN}ms}}
    - {{name: low, field: v, range: [null, 89]}}
    - {{name: odd, check: v % 2 == 1, severity: info}}
    action: drop
    score: {{window: {WINDOW}ms}}
sinks:
- {{from: checked.records, log: {{topic: out}}}}
- {{from: checked.scores, log: {{topic: scores}}}}
commit_interval: 1ms
""".replace("severity: info", "severity: info, action: tag")
EVENTS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.sampled_from([1, 2, 95])), min_size=1, max_size=40
)


async def run(values: list[Any], size: int, failures: dict[int, bool]) -> tuple[list[Any], list[Any], float]:
    number, commit = 0, Checkpoint.commit

    async def failing(checkpoint: Checkpoint) -> None:
        nonlocal number
        number += 1
        before = failures.get(number)
        if before:
            raise TransientError("before")
        await commit(checkpoint)
        if before is False:
            raise TransientError("after")

    with tempfile.TemporaryDirectory() as folder:
        app = InlineApp(Path(folder))
        await app.seed(values)
        with patch.object(Checkpoint, "commit", failing):
            await app.run(PIPELINE + f"batch: {{max_records: {size}}}\n")
        checks = app.total("streamd_quality_checks_total", rule="unique", result="failed")
        return await app.values(), await app.values("scores"), checks


@settings(max_examples=25)
@given(EVENTS, st.integers(1, 7), st.dictionaries(st.integers(1, 8), st.booleans(), max_size=4))
def test_as_brute_force_says(events: list[tuple[str, int, int]], size: int, failures: dict[int, bool]) -> None:
    # Time goes on, in more disorder than there may be; the last one closes the windows of the others.
    made = [(key, 4 * number + at, value) for number, (key, at, value) in enumerate(events)] + [("z", 10_000, 1)]
    found, windows = judged(made, WITHIN, WINDOW, DISORDER)
    values = [{"k": key, "t": time, "v": value} for key, time, value in made]
    out, scores, checks = asyncio.run(run(values, size, failures))
    assert out == [
        {"k": key, "t": time, "v": value, "failed_rules": names}
        for (key, time, value), names in found
        if names in ([], ["odd"])
    ]
    assert counts_of(scores) == {end: counts for end, counts in windows.items() if end < 9_000}
    # Checks count once what is committed, unless the answer to the commit was lost.
    failed = sum("unique" in names for _, names in found)
    assert checks <= failed
    assert checks == failed or False in failures.values()

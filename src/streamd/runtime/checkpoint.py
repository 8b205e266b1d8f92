"""The checkpoint: a task's outputs, state, positions and cursors become durable together, everywhere in this order.

    1  seal       reading stands still: positions are those of the records processed, no more
    2  changelog  what stages remember anew joins the transaction, and so does the checkpoint's number
    3  flush      writers make what they took durable and give their cursors; produced records are acknowledged
    4  positions  positions, cursors and the number join the transaction
    5  commit     the transport commits; an exception leaves the outcome unknown
    6  publish    writers publish what they withheld; the task goes on

What a crash leaves at each step, and who repairs it:

    before 2 to 3  open transaction, file bytes beyond cursor   open() of the next attempt aborts; writers cut off
    4              the same, positions pending                  open() aborts them too, and reads stable ones only
    5              committed or aborted, the transport knows    open() waits for the outcome and reads it
    6              committed, something not yet published       writers publish it when opened with the cursor

State is in memory alone between two checkpoints: the next attempt restores it from the changelog, as it was committed.
No other module knows this order. Whatever fails in 2 to 5 is raised, and the task is opened anew from what is
committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from streamd.clock import Clock
from streamd.component.sink import Writer
from streamd.component.transaction import Transaction
from streamd.errors import TransientError
from streamd.observability import catalog
from streamd.observability.metrics import MetricSet
from streamd.record import Position, TaskId
from streamd.runtime.faults import fault_during, fault_point
from streamd.state.task_stores import TaskStores


class Checkpoint:
    """The checkpoints of one task, one after another.

    `positions` by (source id, partition) is the task's own mapping, as it is at each commit: where to go on after the
    last record that was processed. A reader's own position may be ahead of it, of a read that nobody has taken yet.
    `beside`: what is kept with them, by source id. `writers` by sink id. `times` gives what is to be kept of event
    time. `timeout` in seconds bounds steps 2 to 5 together.
    """

    def __init__(
        self,
        task: TaskId,
        transaction: Transaction,
        positions: Mapping[tuple[str, int], Position],
        beside: Mapping[str, Any],
        writers: Mapping[str, Writer],
        state: TaskStores,
        times: Callable[[], Mapping[str, int]],
        metrics: MetricSet,
        clock: Clock,
        timeout: float,
    ) -> None:
        self._transaction, self._positions, self._writers, self._state = transaction, positions, writers, state
        self._beside = beside
        self._times = times
        self._clock, self._timeout = clock, timeout
        place = {"pipeline": task.pipeline, "part": task.part, "partition": task.partition}
        self._count = metrics.counter(catalog.CHECKPOINTS, pipeline=task.pipeline)
        self._duration = metrics.histogram(catalog.CHECKPOINT_DURATION, pipeline=task.pipeline)
        self._time = metrics.gauge(catalog.CHECKPOINT_TIME, **place)
        self._flushes = {
            name: metrics.histogram(catalog.SINK_DURATION, pipeline=task.pipeline, sink=name) for name in writers
        }

    async def commit(self) -> None:
        """Make everything processed so far durable. Raises what made it fail; the task must then be opened anew."""
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                await self._commit()
        except TimeoutError:
            message = f"A checkpoint did not finish within {self._timeout:g} s; it is tried again from the last one."
            raise TransientError(message) from None
        # 6: nothing after the commit may undo it, so it has no part in the deadline.
        self._state.committed()
        for writer in self._writers.values():
            await writer.committed()
        self._count.add()
        self._duration.observe(self._clock.monotonic() - began)
        self._time.set(self._clock.now_ms() / 1000)

    async def _commit(self) -> None:
        # 1
        positions = dict(self._positions)
        self._transaction.begin()
        fault_point("after_produce")
        # 2
        now_ms = self._clock.now_ms()
        cursors: dict[str, Any] = {
            **self._beside,
            **self._state.write(self._transaction, positions, self._times(), now_ms),
        }
        fault_point("after_changelog")
        # 3
        for name, writer in self._writers.items():
            began = self._clock.monotonic()
            cursor = await writer.flush()
            if cursor is not None:
                cursors[name] = cursor
            self._flushes[name].observe(self._clock.monotonic() - began)
        await self._transaction.flush()
        fault_point("after_flush")
        # 4
        await self._transaction.put_positions(positions, cursors)
        fault_point("after_positions")
        # 5
        fault_point("before_commit")
        await fault_during("commit_sent", self._transaction.commit())
        fault_point("after_commit")

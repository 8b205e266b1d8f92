"""The contract of a sink. A class per sink in `sinks/NAME.py`; the engine wraps it with metrics and retries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from streamd.component.context import TaskContext
from streamd.record import Row


class Writer(Protocol):
    """One task's open sink."""

    def write(self, rows: Sequence[Row]) -> list[tuple[int, Exception]]:
        """Take rows (plain tuples key, value, timestamp, headers), in order; never blocks.

        Returns [(index, LoadError)…] for single rows that it refuses, normally []. A sink whose transport is the
        task's transaction appends there; any other buffers until `drain` or `flush`.
        """

    @property
    def backlog(self) -> int:
        """Bytes taken and not yet written. The task stops reading above its limit and calls `drain`."""

    async def drain(self) -> None:
        """Write out what is buffered if it is a full batch (size or time), return when the backlog is small.

        Raises TransientError: the engine calls again with back-off, nothing may have been lost or written twice
        beyond what the sink's `Delivery:` line admits.
        """

    async def flush(self) -> Any:
        """Checkpoint step: make everything taken durable. Returns the cursor, any JSON value, or None.

        The cursor is committed with the task's positions and given to `Sink.open` when the task starts again, so that
        what was written after the last checkpoint can be cut off. Same errors as `drain`.
        """

    async def committed(self) -> None:
        """Called after each commit. Publish what was withheld until now (a rename); must not fail for good."""

    async def close(self) -> None:
        """Release everything without publishing what is not committed. Called once; never raises."""


class Sink(Protocol):
    """A sink of one pipeline, made as `Sink(config, context)`."""

    async def prepare(self) -> None:
        """Check that it can be written, create what may be created. Called by the supervisor before any task runs."""

    async def open(self, task: TaskContext, cursor: Any) -> Writer:
        """Open for one task. `cursor` is what the last committed flush returned, None for the first time.

        Must undo everything that was written after that cursor, where the sink promises exactly once.
        """

    async def close(self) -> None:
        """Release what the sink itself holds. Called once; never raises."""

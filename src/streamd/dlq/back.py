"""Writes letters' records to the partitions of the topic that they came from, in the replay's own transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamd.component.context import PipelineContext, TaskContext
from streamd.component.sink import Writer
from streamd.dlq.entry import TopicSettings
from streamd.errors import LoadError
from streamd.record import Row
from streamd.runtime.failure import ORIGIN


class BackSink:
    """A topic whose partitions are taken, not chosen."""

    def __init__(self, settings: TopicSettings, context: PipelineContext) -> None:
        self._topic, self._context = settings.topic, context

    async def prepare(self) -> None:
        """The topic is there: its records have been read."""

    async def open(self, task: TaskContext, cursor: Any) -> Writer:
        """Append to the task's transaction."""
        transaction: Any = task.transaction
        if task.transport == "kafka":
            count = await transaction.partition_count(self._topic)
        else:
            from streamd.transport.embedded.topic import opened

            async with opened(self._context) as log:
                count = await log.partitions(self._topic) or 0
        return _Back(self._topic, transaction, count)

    async def close(self) -> None:
        """Nothing is held between writers."""


class _Back:
    def __init__(self, topic: str, transaction: Any, partitions: int) -> None:
        self._topic, self._append, self._partitions = topic, transaction.append, partitions

    def write(self, rows: Sequence[Row]) -> list[tuple[int, Exception]]:
        """Append each where it came from. Refuses rows whose partition is gone, or that are too large."""
        refused: list[tuple[int, Exception]] = []
        for index, (key, value, timestamp, headers) in enumerate(rows):
            origin = next(origin or b"" for name, origin in headers if name == ORIGIN)
            partition = int(origin.rsplit(b"/", 2)[1])
            if partition >= self._partitions:
                refused.append((index, LoadError(f"topic {self._topic} has no partition {partition} any more")))
                continue
            try:
                self._append(self._topic, partition, key, value, timestamp, headers)
            except LoadError as error:
                refused.append((index, error))
        return refused

    @property
    def backlog(self) -> int:
        """What waits is the transaction's to count."""
        return 0

    async def drain(self) -> None:
        """The task drains its transaction itself."""

    async def flush(self) -> Any:
        """The transaction's commit covers everything."""
        return None

    async def committed(self) -> None:
        """Nothing was withheld."""

    async def close(self) -> None:
        """The transaction belongs to the task."""

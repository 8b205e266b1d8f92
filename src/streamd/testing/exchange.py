"""An exchange in memory: its own writer and reader, over partitions of the test's world instead of a topic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamd.component.context import TaskContext
from streamd.component.sink import Writer
from streamd.component.source import Reader
from streamd.exchange.reader import ExchangeReader
from streamd.exchange.sink import ExchangeWriter
from streamd.record import Position, Row
from streamd.testing.memory import MemoryReader, MemoryTransaction, World
from streamd.transport.partitioner import Partitioner


class MemoryExchangeSink:
    """The end that records go into. `source`: the id of the other one."""

    def __init__(self, settings: Any, source: str, partitions: int, world: World) -> None:
        self._topic, self._partitions = settings.topic, partitions
        world.topics[settings.topic] = source

    async def prepare(self) -> None:
        """Nothing to check."""

    async def open(self, task: TaskContext, cursor: Any) -> Writer:
        """Append to the task's transaction."""
        assert isinstance(task.transaction, MemoryTransaction)
        partitioner = Partitioner(self._partitions, task.task.partition)
        inner = _Appending(self._topic, partitioner, task.transaction)
        return ExchangeWriter(inner, self._topic, self._partitions, task)

    async def close(self) -> None:
        """Nothing is held."""


class _Appending:
    backlog = 0

    def __init__(self, topic: str, partitioner: Partitioner, transaction: MemoryTransaction) -> None:
        self._topic, self._partitioner, self._transaction = topic, partitioner, transaction

    def write(self, rows: Sequence[Row]) -> list[tuple[int, Exception]]:
        """Append, each row to the partition of its key."""
        for key, value, timestamp, headers in rows:
            self._transaction.append(self._topic, self._partitioner.partition(key), key, value, timestamp, headers)
        return []

    async def drain(self) -> None:
        """Nothing waits."""

    async def flush(self) -> Any:
        """The transaction's commit keeps everything."""

    async def committed(self) -> None:
        """Nothing was withheld."""

    async def close(self) -> None:
        """The transaction belongs to the task."""


class MemoryExchangeSource:
    """The end that records come out of."""

    def __init__(self, source: str, partitions: int, world: World, context: Any) -> None:
        self._source, self._partitions, self._world, self._context = source, partitions, world, context
        for partition in range(partitions):
            world.stream(source, partition).internal = True

    async def prepare(self) -> None:
        """Nothing to check."""

    async def partitions(self) -> int:
        """As the plan says."""
        return self._partitions

    async def open(self, partition: int, position: Position | None, task: Any = None) -> Reader:
        """Go on after what is committed."""
        reader = MemoryReader(self._world.stream(self._source, partition), position or 0)
        return ExchangeReader(reader, "test", self._context.clock, lambda before: None)

    async def close(self) -> None:
        """Nothing is held."""

"""What the tests of the Kafka data plane share: transactions and readers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

from streamd.record import TaskId
from streamd.transport.kafka.batch_commit import KafkaBatchCommit
from streamd.transport.kafka.client import LATEST, KafkaClient
from streamd.transport.kafka.reader import PartitionReader
from streamd.transport.kafka.transactional import KafkaTransaction, TransactionOptions

SOURCE = ("in", 0)


class Workbench:
    """Makes transactions and readers of one test, and closes them after it."""

    def __init__(self, client: KafkaClient) -> None:
        self.client = client
        self.task = TaskId("test", uuid.uuid4().hex, 0, 0)
        self.group = f"group-{self.task.pipeline}"
        self._open: list[Any] = []

    def transaction(self, source: str | None = None, *, client: KafkaClient | None = None, **options: Any) -> Any:
        """A transaction of the test's one task, which reads partition 0 of the topic `source`; not opened."""
        return self._made(KafkaTransaction, source, client, options)

    def batch_commit(self, source: str | None = None, **options: Any) -> Any:
        """The same, at least once."""
        return self._made(KafkaBatchCommit, source, None, options)

    def _made(self, kind: Any, source: str | None, client: KafkaClient | None, options: dict[str, Any]) -> Any:
        sources = {SOURCE: source} if source else {}
        made = kind(client or self.client, self.task, sources, self.group, TransactionOptions(**options))
        self._open.append(made)
        return made

    def reader(self, topic: str, position: int = 0, partition: int = 0, **options: Any) -> PartitionReader:
        reader = PartitionReader(self.client, topic, partition, position, **options)
        self._open.append(reader)
        return reader

    async def close(self) -> None:
        for opened in reversed(self._open):
            await opened.close()


async def read_until(reader: PartitionReader, count: int, deadline: float = 20.0) -> list[Any]:
    """Records until `count` have come."""
    found: list[Any] = []
    async with asyncio.timeout(deadline):
        while len(found) < count:
            found += await reader.read(1000, 1.0)
    return found


async def read_to_end(reader: PartitionReader, end: int, deadline: float = 20.0) -> list[Any]:
    """Records until the position is `end`."""
    found: list[Any] = []
    async with asyncio.timeout(deadline):
        while reader.position() < end:
            found += await reader.read(1000, 1.0)
    return found


async def commit(transaction: Any, offset: int, cursors: dict[str, Any] | None = None) -> None:
    """Steps 2 to 4 of a checkpoint."""
    await transaction.flush()
    await transaction.put_positions({SOURCE: offset}, cursors or {})
    await transaction.commit()


async def until(condition: Callable[[], object], deadline: float = 30.0) -> None:
    """Wait for something that nothing announces."""
    async with asyncio.timeout(deadline):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def settled(client: KafkaClient, topic: str, end: int) -> int:
    """Wait until everything before `end` is stable: markers are written after the commit was acknowledged."""
    async with asyncio.timeout(20):
        while (found := await client.find_offset(topic, 0, LATEST)) < end:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return found

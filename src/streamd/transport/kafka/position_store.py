"""Where a task's positions are kept: in its group's offsets, or, without a Kafka source, in a topic of their own."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from typing import Any, Final, Protocol

from aiokafka.protocol.commit import OffsetCommitRequest

from streamd.component.transaction import Committed
from streamd.errors import NotFoundError, UnavailableError
from streamd.record import Position, TaskId
from streamd.transport.kafka.client import EARLIEST, LATEST, KafkaClient
from streamd.transport.kafka.coordinator import GROUP, Coordinator
from streamd.transport.kafka.outbox import Outbox, Producer
from streamd.transport.kafka.positions import Offsets, PositionBook, SourcePartition
from streamd.transport.kafka.protocol import READ_UNCOMMITTED, OffsetFetch, TxnOffsetCommit, codes
from streamd.transport.kafka.reader import PartitionReader

NO_GENERATION: Final = -1


class Membership(Protocol):
    """Proof of a group's membership; `transport.kafka.membership.Membership` is one."""

    @property
    def group(self) -> str: ...
    @property
    def member_id(self) -> str: ...
    @property
    def generation(self) -> int: ...


class GroupPositions:
    """Positions as offsets of a group, for a task with Kafka sources: {(source id, partition): topic}."""

    def __init__(
        self, client: KafkaClient, connection: Hashable, group: str, sources: Mapping[SourcePartition, str]
    ) -> None:
        self._client, self._connection = client, connection
        self._book = PositionBook(sources)
        self._member, self._generation = "", NO_GENERATION
        self._set_group(group)

    def update_membership(self, membership: Membership) -> None:
        """Whose offsets are committed from now on."""
        self._set_group(membership.group)
        self._member, self._generation = membership.member_id, membership.generation

    def _set_group(self, group: str) -> None:
        self.group = group
        self._coordinator = Coordinator(self._client, GROUP, group, self._connection)

    async def load(self, deadline: float) -> Committed:
        """What is committed, once no transaction is pending on it."""
        partitions = self._book.partitions
        answer = await self._coordinator.ask(
            OffsetFetch(self.group, [(topic, numbers, {}) for topic, numbers in partitions.items()], True, {}),
            lambda answer: {answer.error_code} | {part[4] for topic in answer.topics for part in topic[1]},
            f"give the offsets of group {self.group}",
            deadline,
            repeatable=True,
        )
        return self._book.load(
            {(topic, part[0]): (part[1], part[3] or "") for topic, parts, _ in answer.topics for part in parts}
        )

    async def put(
        self,
        producer: Producer,
        positions: Mapping[SourcePartition, Position],
        cursors: Mapping[str, Any],
        deadline: float,
    ) -> None:
        """Make positions part of the producer's open transaction. Raises FencedError for a stale generation."""
        commit = self._book.offsets(positions, cursors)
        topics: dict[str, list[Any]] = {}
        for (topic, partition), offset in commit.offsets.items():
            topics.setdefault(topic, []).append((partition, offset, -1, commit.metadata, {}))
        request = TxnOffsetCommit(
            producer.transactional_id,
            self.group,
            producer.id,
            producer.epoch,
            self._generation,
            self._member,
            None,
            [(topic, parts, {}) for topic, parts in topics.items()],
            {},
        )
        await self._coordinator.ask(request, codes, self._doing, deadline, repeatable=False)

    def prepare(self, positions: Mapping[SourcePartition, Position], cursors: Mapping[str, Any]) -> Offsets:
        """What `commit` writes."""
        return self._book.offsets(positions, cursors)

    async def commit(self, offsets: Offsets, deadline: float) -> None:
        """Commit outside any transaction. Raises FencedError for a stale generation."""
        topics: dict[str, list[Any]] = {}
        for (topic, partition), offset in offsets.offsets.items():
            topics.setdefault(topic, []).append((partition, offset, offsets.metadata))
        request = OffsetCommitRequest(self.group, self._generation, self._member, -1, list(topics.items()))
        await self._coordinator.ask(request, codes, self._doing, deadline, repeatable=True)

    @property
    def _doing(self) -> str:
        return f"commit offsets of group {self.group} as member {self._member!r} of generation {self._generation}"


class TopicPositions:
    """Positions as the last record of the task's key in a compacted topic, `streamd.APP.PIPELINE.positions`."""

    def __init__(self, client: KafkaClient, task: TaskId, create: bool) -> None:
        self._client = client
        self._task = task
        self._create = create
        self._book = PositionBook({})
        self.topic = f"streamd.{task.app}.{task.pipeline}.positions"

    async def load(self, deadline: float) -> Committed:
        """What is committed. The caller's own transactions must be settled; this waits for those of other tasks.

        Raises NotFoundError when the topic is missing and may not be made.
        """
        until = time.monotonic() + deadline
        await self._ensure_topic(deadline)
        client, topic = self._client, self.topic
        # Another task's open transaction holds the stable end back, before or behind our last record: read past all
        # that was there when we began.
        end = await client.find_offset(topic, 0, LATEST, isolation=READ_UNCOMMITTED, deadline=deadline)
        reader = PartitionReader(client, topic, 0, await client.find_offset(topic, 0, EARLIEST, deadline=deadline))
        key = str(self._task).encode()
        document: bytes | None = None
        try:
            while reader.position() < end:
                if time.monotonic() > until:
                    raise UnavailableError(
                        f"{topic} could not be read to its end {end} within {deadline:g} s: a transaction of another "
                        f"task is open at {reader.position()}"
                    )
                for record in await reader.read(10_000, 0.5):
                    if record.key == key:
                        document = record.value
        finally:
            await reader.close()
        return self._book.load_document(document)

    async def _ensure_topic(self, deadline: float) -> None:
        try:
            await self._client.partition_count(self.topic, 1.0)
        except NotFoundError:
            if not self._create:
                raise
            await self._client.create_compacted_topic(self.topic, deadline)
            await self._client.partition_count(self.topic, deadline)

    def put(
        self, outbox: Outbox, positions: Mapping[SourcePartition, Position], cursors: Mapping[str, Any], now_ms: int
    ) -> None:
        """Append the positions to what the outbox sends next."""
        document = self._book.document(positions, cursors)
        outbox.append(self.topic, 0, str(self._task).encode(), document, now_ms, ())

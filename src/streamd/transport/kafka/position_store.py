"""Where a task's positions are kept: in its group's offsets, or, without a Kafka source, in a topic of their own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, Literal, Protocol

from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.group import HeartbeatRequest

from streamd.component.transaction import Committed
from streamd.errors import NotFoundError, NotMemberError, UnavailableError
from streamd.record import Position, TaskId
from streamd.transport.kafka.client import EARLIEST, LATEST, KafkaClient
from streamd.transport.kafka.coordinator import GROUP, Coordinator
from streamd.transport.kafka.error_codes import REBALANCE_IN_PROGRESS
from streamd.transport.kafka.outbox import Outbox, OutboxOptions, Producer, join_nothing
from streamd.transport.kafka.positions import Offsets, PositionBook, SourcePartition, fenced_document, signature_of
from streamd.transport.kafka.protocol import READ_UNCOMMITTED, OffsetFetch, TxnOffsetCommit, codes
from streamd.transport.kafka.reader import PartitionReader

log = logging.getLogger("streamd.kafka")

NO_GENERATION: Final = -1
_COUNT_WITHIN: Final = 2.0  # seconds
_STEP: Final = 10.0  # seconds that one request may take, with all that is tried again
_TAIL: Final = 20_000  # offsets of all tasks, among them one per transaction for its end
NEWS_WITHIN: Final = 2.0
"""Seconds from a new generation to the news of it: its leader has to place all partitions meanwhile."""


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
        self,
        client: KafkaClient,
        connection: Hashable,
        group: str,
        sources: Mapping[SourcePartition, str],
        task: TaskId | None = None,
    ) -> None:
        """`task`: whose commits these are, to be signed; None leaves no signature."""
        self._client, self._connection = client, connection
        self._book = PositionBook(sources, None if task is None else signature_of(task))
        self._member, self._generation = "", NO_GENERATION
        self._updated = asyncio.Event()
        self._set_group(group)

    def update_membership(self, membership: Membership) -> None:
        """Whose offsets are committed from now on."""
        if membership.group != self.group:
            self._set_group(membership.group)
        self._member, self._generation = membership.member_id, membership.generation
        self._updated.set()

    def _set_group(self, group: str) -> None:
        self.group = group
        self._coordinator = Coordinator(self._client, GROUP, group, self._connection)

    async def load(self, deadline: float) -> Committed:
        """What is committed, once no transaction is pending on it.

        A partition that was added to its topic after the pipeline had begun is read from its beginning, whatever
        `start` says of those that were there: what was written before anybody noticed is new as well.
        """
        offsets = await self._fetch(self._book.partitions, True, deadline)
        committed = self._book.load(offsets)
        if self._book.began and all(offset >= 0 for offset, _ in offsets.values()):
            return committed
        if any(offset < 0 for offset, _ in offsets.values()):
            await self._client.refresh()  # what is known of a topic may be older than the partition
        counts = {topic: await self._count(topic) for topic in self._book.partitions}
        added = [place for place, (offset, _) in offsets.items() if offset < 0 and await self._added(place, counts)]
        for topic, partition in added:
            earliest = await self._client.find_offset(topic, partition, EARLIEST, deadline=deadline)
            log.info("%s[%d] was added: reading it from its beginning, %d", topic, partition, earliest)
            offsets[topic, partition] = earliest, ""
        committed = self._book.load(offsets)
        if not self._book.began and all(counts.values()):
            self._book.began = counts
        return committed

    async def _fetch(
        self, partitions: Mapping[str, Sequence[int]], stable: bool, deadline: float
    ) -> dict[tuple[str, int], tuple[int, str]]:
        """{(topic, partition): (committed offset or -1, metadata)}."""
        answer = await self._coordinator.ask(
            OffsetFetch(self.group, [(topic, list(numbers), {}) for topic, numbers in partitions.items()], stable, {}),
            lambda answer: {answer.error_code} | {part[4] for topic in answer.topics for part in topic[1]},
            f"give the offsets of group {self.group}",
            deadline,
            repeatable=True,
        )
        return {(topic, part[0]): (part[1], part[3] or "") for topic, parts, _ in answer.topics for part in parts}

    async def _count(self, topic: str) -> int:
        """How many partitions a topic has now; 0 when nobody says."""
        try:
            return await self._client.partition_count(topic, _COUNT_WITHIN)
        except (NotFoundError, UnavailableError):
            return 0

    async def _added(self, place: tuple[str, int], counts: Mapping[str, int]) -> bool:
        """Whether some task of the pipeline began when the partition was not there yet."""
        topic, partition = place
        others = [number for number in range(counts[topic]) if number != partition]
        # A task may be for a partition that only another of its topics has.
        if partition >= counts[topic] or not others:
            return False
        found = await self._fetch({topic: others}, False, _STEP)
        began = [self._book.began_in(metadata).get(topic) for offset, metadata in found.values() if offset >= 0]
        return any(count is not None and count <= partition for count in began)

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

        def request() -> TxnOffsetCommit:
            return TxnOffsetCommit(
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

        await self._as_member(request, deadline, repeatable=False)

    def prepare(self, positions: Mapping[SourcePartition, Position], cursors: Mapping[str, Any]) -> Offsets:
        """What `commit` writes."""
        return self._book.offsets(positions, cursors)

    async def commit(self, offsets: Offsets, deadline: float) -> None:
        """Commit outside any transaction. Raises FencedError for a stale generation."""
        topics: dict[str, list[Any]] = {}
        for (topic, partition), offset in offsets.offsets.items():
            topics.setdefault(topic, []).append((partition, offset, offsets.metadata))

        def request() -> OffsetCommitRequest:
            return OffsetCommitRequest(self.group, self._generation, self._member, -1, list(topics.items()))

        await self._as_member(request, deadline, repeatable=True)

    async def check_member(self, deadline: float) -> None:
        """Raise NotMemberError unless the membership holds now. Without one there is nothing to check."""
        if self._generation == NO_GENERATION:
            return
        await self._coordinator.ask(
            HeartbeatRequest(self.group, self._generation, self._member),
            lambda answer: {answer.error_code} - {REBALANCE_IN_PROGRESS},
            f"confirm member {self._member!r} of generation {self._generation} of group {self.group}",
            deadline,
            repeatable=True,
        )

    async def _as_member(self, request: Callable[[], Any], deadline: float, *, repeatable: bool) -> None:
        """Commit; where the generation is refused, once more under each that comes within `NEWS_WITHIN` seconds.

        A refused commit has done nothing. Under a later generation the same one is right as long as nobody else has
        run the task meanwhile: of a transaction its epoch proves that, of others whoever brings the news.
        """
        while True:
            refused = self._member, self._generation
            try:
                await self._coordinator.ask(request(), codes, self._doing, deadline, repeatable=repeatable)
                return
            except NotMemberError:
                if not await self._news(refused):
                    raise

    async def _news(self, old: tuple[str, int]) -> bool:
        """Wait for another membership than `old`; False when none comes in time."""
        try:
            async with asyncio.timeout(NEWS_WITHIN):
                while (self._member, self._generation) == old:
                    self._updated.clear()
                    await self._updated.wait()
        except TimeoutError:
            return False
        return True

    @property
    def _doing(self) -> str:
        return f"commit offsets of group {self.group} as member {self._member!r} of generation {self._generation}"


class TopicPositions:
    """Positions as the last record of the task's key in a compacted topic, `streamd.APP.PIPELINE.positions`."""

    def __init__(self, client: KafkaClient, task: TaskId, create: bool) -> None:
        self._client = client
        self._task = task
        self._create = create
        self._book = PositionBook({}, signature_of(task))
        self._key, self._fenced_key = f"{task}".encode(), f"{task} fenced".encode()
        self.topic = f"streamd.{task.app}.{task.pipeline}.positions"

    async def load(self, deadline: float) -> Committed:
        """What is committed. The caller's own transactions must be settled; this waits for those of other tasks.

        Raises NotFoundError when the topic is missing and may not be made.
        """
        until = time.monotonic() + deadline
        await self._ensure_topic(deadline)
        # Another task's open transaction holds the stable end back, before or behind our last record: read past all
        # that was there when we began.
        begin = await self._client.find_offset(self.topic, 0, EARLIEST, deadline=deadline)
        end = await self._end(deadline)
        documents = await self._read((self._key,), (begin, end), 1, until, "read_committed")
        return self._book.load_document(documents[-1][1] if documents else None)

    async def written(self, deadline: float) -> list[tuple[int, bytes]]:
        """The newest documents of the task with their offsets, in order, whether committed or not, also those of
        `sign_fenced`. For diagnosis.
        """
        until = time.monotonic() + deadline
        begin = await self._client.find_offset(self.topic, 0, EARLIEST, deadline=deadline)
        end = await self._end(deadline)
        keys = self._key, self._fenced_key
        return list(await self._read(keys, (max(begin, end - _TAIL), end), 1000, until, "read_uncommitted"))

    async def sign_fenced(self, deadline: float) -> None:
        """Leave this process's signature beside the positions, outside any transaction: no fence can prevent it.

        It has a key of its own, which `load` passes over. Raises StreamdError when it cannot be written.
        """
        connection = ("fenced", id(self))
        outbox = Outbox(self._client, connection, OutboxOptions(delivery=deadline), join_nothing)
        try:
            outbox.start(Producer(-1, -1, None))
            outbox.append(self.topic, 0, self._fenced_key, fenced_document(self._task), int(time.time() * 1000), ())
            await outbox.flush()
        finally:
            outbox.stop()
            self._client.release(connection)

    async def _end(self, deadline: float) -> int:
        return await self._client.find_offset(self.topic, 0, LATEST, isolation=READ_UNCOMMITTED, deadline=deadline)

    async def _read(
        self,
        keys: Sequence[bytes],
        span: tuple[int, int],
        keep: int,
        until: float,
        isolation: Literal["read_committed", "read_uncommitted"],
    ) -> deque[tuple[int, bytes]]:
        """The newest `keep` documents of the keys within the offsets [begin, end); `until`: monotonic seconds."""
        (begin, end), topic = span, self.topic
        reader = PartitionReader(self._client, topic, 0, begin, isolation=isolation)
        documents: deque[tuple[int, bytes]] = deque(maxlen=keep)
        try:
            while reader.position() < end:
                if time.monotonic() > until:
                    raise UnavailableError(
                        f"{topic} could not be read to its end {end} in time: a transaction of another task is open "
                        f"at {reader.position()}"
                    )
                for record in await reader.read(10_000, 0.5):
                    if record.key in keys and record.value is not None:
                        documents.append((record.offset, record.value))
        finally:
            await reader.close()
        return documents

    async def _ensure_topic(self, deadline: float) -> None:
        try:
            await self._client.partition_count(self.topic, 1.0)
        except NotFoundError:
            if not self._create:
                raise NotFoundError(
                    f"the topic of positions {self.topic} does not exist, and streamd may not make it "
                    "(`create_topics: false`): make it with 1 partition and cleanup.policy=compact"
                ) from None
            await self._client.create_compacted_topic(self.topic, deadline)
            await self._client.partition_count(self.topic, deadline)

    def put(
        self, outbox: Outbox, positions: Mapping[SourcePartition, Position], cursors: Mapping[str, Any], now_ms: int
    ) -> None:
        """Append the positions to what the outbox sends next."""
        document = self._book.document(positions, cursors)
        outbox.append(self.topic, 0, self._key, document, now_ms, ())

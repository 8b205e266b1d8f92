"""The checkpoint's transaction on Kafka: outputs and positions in one Kafka transaction per commit.

One transactional id per task, `streamd.<task>`: opening fences every older instance and settles what it left, at once.
Beside that, the offsets name the group's member and generation, so that a node which lost its membership is refused.
The order of requests is AddPartitionsToTxn → Produce and AddOffsetsToTxn side by side → TxnOffsetCommit → EndTxn. A
request whose outcome is in doubt is not repeated unless that is harmless: the transaction is spent, and the next `open`
tells what is committed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from streamd.component.transaction import Committed
from streamd.errors import StreamdError
from streamd.record import Position, TaskId
from streamd.transport.kafka.client import KafkaClient
from streamd.transport.kafka.coordinator import GROUP, TRANSACTION, Coordinator
from streamd.transport.kafka.outbox import Lane, Outbox, OutboxOptions, Producer
from streamd.transport.kafka.positions import PositionBook, SourcePartition
from streamd.transport.kafka.protocol import (
    AddOffsetsToTxn,
    AddPartitionsToTxn,
    EndTxn,
    InitProducerId,
    OffsetFetch,
    TxnOffsetCommit,
    codes,
)

log = logging.getLogger("streamd.kafka")

NO_GENERATION: Final = -1
_DRAINED: Final = 2 << 20  # bytes that may be on their way when `drain` returns
_CLOSE_WITHIN: Final = 2.0


@dataclass(frozen=True, slots=True)
class TransactionOptions:
    """`timeout`: seconds after which the broker aborts an open transaction. `opening`: seconds that `open` may take.

    `step`: seconds that each request of a commit may take, with all that is tried again.
    """

    outbox: OutboxOptions = field(default_factory=OutboxOptions)
    timeout: float = 10.0
    opening: float = 60.0
    step: float = 10.0

    @classmethod
    def for_interval(cls, commit_interval: float, **outbox: object) -> TransactionOptions:
        """The defaults for a commit every `commit_interval` seconds; `outbox` are fields of OutboxOptions."""
        timeout = max(10.0, 10 * commit_interval)
        return cls(OutboxOptions(**{"delivery": timeout, **outbox}), timeout)  # type: ignore[arg-type]


class KafkaTransaction:
    """`Transaction` (component/transaction.py) of one task.

    `sources`: {(source id, partition): topic} of the task's Kafka sources on the same cluster; their positions are
    offsets of `group`. `append` and `append_rows` are the `Outbox`'s own.
    """

    def __init__(
        self,
        client: KafkaClient,
        task: TaskId,
        sources: Mapping[SourcePartition, str],
        group: str,
        options: TransactionOptions | None = None,
    ) -> None:
        self._client = client
        self._options = options or TransactionOptions()
        self._id = f"streamd.{task}"
        self._connections = (("data", id(self)), ("control", id(self)))
        self._coordinator = Coordinator(client, TRANSACTION, self._id, self._connections[1])
        self._book = PositionBook(sources)
        self._producer = Producer(-1, -1, self._id)
        self._outbox = Outbox(client, self._connections[0], self._options.outbox, self._join)
        self._known = False  # the broker has a transaction open for us, or may have
        self._joining_offsets: asyncio.Task[None] | None = None
        self.update_membership(group, "", NO_GENERATION)
        self.append = self._outbox.append
        self.append_rows = self._outbox.append_rows

    def update_membership(self, group: str, member_id: str, generation: int) -> None:
        """Whose offsets are committed from now on; member "" and generation -1 for a group without members."""
        self._group, self._member, self._generation = group, member_id, generation
        self._group_coordinator = Coordinator(self._client, GROUP, group, self._connections[1])

    @property
    def backlog(self) -> int:
        """Bytes appended and not yet acknowledged by the brokers."""
        return self._outbox.backlog

    async def partition_count(self, topic: str) -> int:
        """How many partitions an output topic has. Raises NotFoundError, AccessDeniedError, UnavailableError."""
        return await self._client.partition_count(topic)

    async def open(self) -> Committed:
        """See `Transaction.open`."""
        request = InitProducerId(self._id, int(self._options.timeout * 1000))
        answer = await self._coordinator.ask(
            request,
            lambda answer: (answer.error_code,),
            f"open transactional id {self._id}",
            self._options.opening,
            repeatable=True,
        )
        self._producer = Producer(answer.producer_id, answer.producer_epoch, self._id)
        committed = self._book.load(await self._fetch_offsets())
        self._outbox.start(self._producer)
        return committed

    async def _fetch_offsets(self) -> dict[tuple[str, int], tuple[int, str]]:
        """{(topic, partition): (offset, or -1, and metadata)}, once no transaction is pending on any of them."""
        partitions = self._book.partitions
        if not partitions:
            return {}
        answer = await self._group_coordinator.ask(
            OffsetFetch(self._group, [(topic, numbers, {}) for topic, numbers in partitions.items()], True, {}),
            lambda answer: {answer.error_code} | {part[4] for topic in answer.topics for part in topic[1]},
            f"give the offsets of group {self._group}",
            self._options.opening,
            repeatable=True,
        )
        return {(topic, part[0]): (part[1], part[3] or "") for topic, parts, _ in answer.topics for part in parts}

    def begin(self) -> None:
        """See `Transaction.begin`: the broker hears of the transaction with the first batch or offset."""

    async def drain(self) -> None:
        """See `Transaction.drain`. Full batches go out by themselves; this waits until few are on their way."""
        await self._outbox.drain(_DRAINED)

    async def flush(self) -> None:
        """See `Transaction.flush`."""
        await self._outbox.flush()

    async def put_positions(self, positions: Mapping[SourcePartition, Position], cursors: Mapping[str, object]) -> None:
        """See `Transaction.put_positions`."""
        commit = self._book.offsets(positions, cursors)
        self._join_offsets()
        assert self._joining_offsets is not None
        await self._joining_offsets
        topics: dict[str, list[tuple[int, int, int, str, dict[int, bytes]]]] = {}
        for (topic, partition), offset in commit.offsets.items():
            topics.setdefault(topic, []).append((partition, offset, -1, commit.metadata, {}))
        request = TxnOffsetCommit(
            self._id,
            self._group,
            self._producer.id,
            self._producer.epoch,
            self._generation,
            self._member,
            None,
            [(topic, parts, {}) for topic, parts in topics.items()],
            {},
        )
        await self._group_coordinator.ask(
            request,
            codes,
            f"commit offsets of group {self._group} as member {self._member!r} of generation {self._generation}",
            self._options.step,
            repeatable=False,
        )

    async def commit(self) -> None:
        """See `Transaction.commit`."""
        await self._end(commit=True)

    async def abort(self) -> None:
        """See `Transaction.abort`."""
        if self._joining_offsets is not None:
            await self._joining_offsets
        await self._outbox.discard()
        await self._end(commit=False)

    async def close(self) -> None:
        """See `Transaction.close`."""
        try:
            if self._known:
                async with asyncio.timeout(_CLOSE_WITHIN):
                    await self.abort()
        except (StreamdError, TimeoutError) as error:
            log.debug("closing %s: %r", self._id, error)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """See `Transaction.abandon`."""
        self._outbox.stop()
        if self._joining_offsets is not None:
            self._joining_offsets.cancel()
        for connection in self._connections:
            self._client.release(connection)

    async def _join(self, lanes: Sequence[Lane]) -> None:
        """Make lanes part of the transaction; the group's offsets follow at once, as they will be needed."""
        if self._joining_offsets is not None:
            await self._joining_offsets
        topics: dict[str, list[int]] = {}
        for lane in lanes:
            topics.setdefault(lane.topic, []).append(lane.partition)
        self._known = True
        await self._coordinator.ask(
            AddPartitionsToTxn(self._id, self._producer.id, self._producer.epoch, list(topics.items())),
            codes,
            f"write to {', '.join(map(str, lanes))} in transaction {self._id}",
            self._options.step,
            repeatable=True,
        )
        if self._book.partitions:
            self._join_offsets()

    def _join_offsets(self) -> None:
        if self._joining_offsets is None:
            self._known = True
            self._joining_offsets = asyncio.create_task(self._add_offsets())

    async def _add_offsets(self) -> None:
        await self._coordinator.ask(
            AddOffsetsToTxn(self._id, self._producer.id, self._producer.epoch, self._group),
            lambda answer: (answer.error_code,),
            f"commit offsets of group {self._group} in transaction {self._id}",
            self._options.step,
            repeatable=True,
        )

    async def _end(self, *, commit: bool) -> None:
        if self._known:
            await self._coordinator.ask(
                EndTxn(self._id, self._producer.id, self._producer.epoch, commit),
                lambda answer: (answer.error_code,),
                f"{'commit' if commit else 'abort'} transaction {self._id}",
                self._options.step,
                repeatable=False,
            )
        self._outbox.leave()
        self._joining_offsets = None
        self._known = False

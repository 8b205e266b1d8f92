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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from streamd.clock import SYSTEM_CLOCK, Clock
from streamd.component.transaction import Committed
from streamd.errors import UnavailableError
from streamd.record import Position, TaskId
from streamd.transport.kafka.changelogs import KafkaChangelogs
from streamd.transport.kafka.client import KafkaClient
from streamd.transport.kafka.coordinator import TRANSACTION, Coordinator
from streamd.transport.kafka.outbox import Lane, Outbox, OutboxOptions, Producer
from streamd.transport.kafka.position_store import GroupPositions, Membership, TopicPositions
from streamd.transport.kafka.positions import SourcePartition
from streamd.transport.kafka.protocol import AddOffsetsToTxn, AddPartitionsToTxn, EndTxn, InitProducerId, codes

log = logging.getLogger("streamd.kafka")

_DRAINED: Final = 2 << 20  # bytes that may be on their way when `drain` returns
_CLOSE_WITHIN: Final = 2.0


@dataclass(frozen=True, slots=True)
class TransactionOptions:
    """`timeout`: seconds after which the broker aborts an open transaction. `opening`: seconds that `open` may take.

    `step`: seconds that each request of a commit may take, with all that is tried again. `create_topics`: whether the
    topic for positions may be made, for a task without a Kafka source.
    """

    outbox: OutboxOptions = field(default_factory=OutboxOptions)
    timeout: float = 10.0
    opening: float = 60.0
    step: float = 10.0
    create_topics: bool = True


def code_of(answer: Any) -> tuple[int]:
    """The one error code of an answer that has one."""
    return (answer.error_code,)


class KafkaTransaction:
    """`Transaction` (component/transaction.py) of one task.

    `sources`: {(source id, partition): topic} of the task's Kafka sources on the same cluster; their positions are
    offsets of `group`. `append`, `append_rows` and `compress` are the `Outbox`'s own, `restore` and `put_state` the
    `KafkaChangelogs`', and so are those of `Tails`. `on_closed` is called once.
    """

    def __init__(
        self,
        client: KafkaClient,
        task: TaskId,
        sources: Mapping[SourcePartition, str],
        group: str,
        options: TransactionOptions | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        on_closed: Callable[[], None] | None = None,
    ) -> None:
        self._client = client
        self._options = options or TransactionOptions()
        self._clock = clock
        self._on_closed = on_closed
        self._id = f"streamd.{task}"
        self._connections = (("data", id(self)), ("control", id(self)))
        self._coordinator = Coordinator(client, TRANSACTION, self._id, self._connections[1])
        self._group = GroupPositions(client, self._connections[1], group, sources, task) if sources else None
        self._topic = TopicPositions(client, task, self._options.create_topics)
        self._producer = Producer(-1, -1, self._id)
        self._outbox = Outbox(client, self._connections[0], self._options.outbox, self._join)
        self._known = False  # the broker has a transaction open for us, or may have
        self._joining_group: asyncio.Task[None] | None = None
        self.append = self._outbox.append
        self.append_rows = self._outbox.append_rows
        changelogs = KafkaChangelogs(client, task, self._outbox, self._options.create_topics, clock)
        self.restore, self.put_state = changelogs.restore, changelogs.put
        self.changelog_range, self.restore_tail = changelogs.changelog_range, changelogs.restore_tail
        self.compress = self._outbox.compress

    def update_membership(self, membership: Membership | None) -> None:
        """Who commits offsets from now on; without a membership they are committed to a group without members."""
        if self._group is not None and membership is not None:
            self._group.update_membership(membership)

    @property
    def backlog(self) -> int:
        """Bytes appended and not yet acknowledged by the brokers."""
        return self._outbox.backlog

    async def partition_count(self, topic: str) -> int:
        """How many partitions an output topic has. Raises NotFoundError, AccessDeniedError, UnavailableError."""
        return await self._client.partition_count(topic)

    async def open(self) -> Committed:
        """See `Transaction.open`."""
        await self._client.start(self._options.opening)
        if self._group is not None:
            # A node that lost its membership unawares must not fence who has the task now.
            await self._group.check_member(self._options.opening)
        answer = await self._coordinator.ask(
            InitProducerId(self._id, int(self._options.timeout * 1000)),
            code_of,
            f"open transactional id {self._id}",
            self._options.opening,
            repeatable=True,
        )
        self._producer = Producer(answer.producer_id, answer.producer_epoch, self._id)
        # Only now: what an older instance had under way is settled, and none can commit any more.
        committed = await (self._group or self._topic).load(self._options.opening)
        self._outbox.start(self._producer)
        return committed

    def begin(self) -> None:
        """See `Transaction.begin`: the broker hears of the transaction with the first batch or position."""

    async def drain(self) -> None:
        """See `Transaction.drain`. Full batches go out by themselves; this waits until few are on their way."""
        await self._outbox.drain(_DRAINED)

    async def flush(self) -> None:
        """See `Transaction.flush`."""
        await self._outbox.flush()

    async def put_positions(self, positions: Mapping[SourcePartition, Position], cursors: Mapping[str, Any]) -> None:
        """See `Transaction.put_positions`."""
        try:
            if self._group is None:
                self._topic.put(self._outbox, positions, cursors, self._clock.now_ms())
                await self._outbox.flush()
            else:
                await self._join_group(self._group)
                await self._group.put(self._producer, positions, cursors, self._options.step)
        except BaseException:
            # Outputs must never be committed without their positions, whatever the caller does next.
            self._outbox.fail(UnavailableError("the positions are not in the transaction: it must not be committed"))
            raise

    async def commit(self) -> None:
        """See `Transaction.commit`."""
        await self._outbox.flush()
        try:
            await self._end(commit=True)
        except BaseException:
            # It may be committed all the same: nothing must be asked of it any more, an abort least of all.
            self._known = False
            raise

    async def abort(self) -> None:
        """See `Transaction.abort`."""
        if self._joining_group is not None:
            await self._joining_group
        await self._outbox.discard()
        await self._end(commit=False)

    async def close(self) -> None:
        """See `Transaction.close`."""
        try:
            if self._known:
                async with asyncio.timeout(_CLOSE_WITHIN):
                    await self.abort()
        except Exception as error:
            # Whatever made a batch fail, foreseen or not, was raised where it was awaited.
            log.debug("closing %s: %s", self._id, type(error).__name__)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """See `Transaction.abandon`."""
        self._outbox.stop()
        if self._joining_group is not None:
            self._joining_group.cancel()
        for connection in self._connections:
            self._client.release(connection)
        on_closed, self._on_closed = self._on_closed, None
        if on_closed is not None:
            on_closed()

    async def _join(self, lanes: Sequence[Lane]) -> None:
        """Make lanes part of the transaction; the group's offsets follow at once, as they will be needed."""
        if self._joining_group is not None:
            await self._joining_group  # the coordinator takes one at a time
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
        if self._group is not None:
            self._join_group(self._group)

    def _join_group(self, group: GroupPositions) -> asyncio.Task[None]:
        """Make the group's offsets part of the transaction, once."""
        if self._joining_group is None:
            self._known = True
            self._joining_group = asyncio.create_task(self._add_offsets(group.group))
            self._joining_group.add_done_callback(_retrieve)
        return self._joining_group

    async def _add_offsets(self, group: str) -> None:
        await self._coordinator.ask(
            AddOffsetsToTxn(self._id, self._producer.id, self._producer.epoch, group),
            code_of,
            f"commit offsets of group {group} in transaction {self._id}",
            self._options.step,
            repeatable=True,
        )

    async def _end(self, *, commit: bool) -> None:
        if self._known:
            await self._coordinator.ask(
                EndTxn(self._id, self._producer.id, self._producer.epoch, commit),
                code_of,
                f"{'commit' if commit else 'abort'} transaction {self._id}",
                self._options.step,
                repeatable=False,
            )
        self._outbox.leave()
        self._joining_group = None
        self._known = False


def _retrieve(task: asyncio.Task[None]) -> None:
    """The error is raised where the task is awaited; when the transaction was spent before, nobody asks for it."""
    if not task.cancelled():
        task.exception()

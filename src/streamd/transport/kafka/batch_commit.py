"""The checkpoint on Kafka for `delivery: at_least_once`: outputs first, then positions, without a transaction.

The producer is idempotent and waits for all in-sync replicas, so that nothing is lost and a retry writes nothing
twice; but what was written since the last commit is written again after a crash, and no older instance is fenced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from streamd.clock import SYSTEM_CLOCK, Clock
from streamd.component.transaction import Committed
from streamd.record import Position, TaskId
from streamd.transport.kafka.changelogs import KafkaChangelogs
from streamd.transport.kafka.client import KafkaClient
from streamd.transport.kafka.outbox import Outbox, Producer, join_nothing
from streamd.transport.kafka.position_store import GroupPositions, Membership, TopicPositions
from streamd.transport.kafka.positions import Offsets, SourcePartition
from streamd.transport.kafka.protocol import InitProducerId
from streamd.transport.kafka.transactional import TransactionOptions

_DRAINED = 2 << 20


class KafkaBatchCommit:
    """`Transaction` (component/transaction.py) of one task, at least once. Arguments: `KafkaTransaction`."""

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
        self._connections = (("data", id(self)), ("control", id(self)))
        self._group = GroupPositions(client, self._connections[1], group, sources, task) if sources else None
        self._topic = TopicPositions(client, task, self._options.create_topics)
        self._outbox = Outbox(client, self._connections[0], self._options.outbox, join_nothing)
        self._offsets: Offsets | None = None
        self.append = self._outbox.append
        self.append_rows = self._outbox.append_rows
        changelogs = KafkaChangelogs(client, task, self._outbox, self._options.create_topics, clock)
        self.restore, self.put_state = changelogs.restore, changelogs.put
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
        """See `Transaction.open`. No older instance is fenced."""
        await self._client.start(self._options.opening)
        if self._group is not None:
            await self._group.check_member(self._options.opening)
        committed = await (self._group or self._topic).load(self._options.opening)
        self._outbox.start(await self._new_producer())
        return committed

    async def _new_producer(self) -> Producer:
        deadline = self._options.opening
        request = InitProducerId(None, int(self._options.timeout * 1000))
        answer = await self._client.ask_any(request, self._connections[1], deadline, "give a producer id")
        return Producer(answer.producer_id, answer.producer_epoch, None)

    def begin(self) -> None:
        """See `Transaction.begin`: nothing to do."""

    async def drain(self) -> None:
        """See `Transaction.drain`."""
        await self._outbox.drain(_DRAINED)

    async def flush(self) -> None:
        """See `Transaction.flush`."""
        await self._outbox.flush()

    async def put_positions(self, positions: Mapping[SourcePartition, Position], cursors: Mapping[str, Any]) -> None:
        """See `Transaction.put_positions`: kept until `commit`, when all output is acknowledged."""
        await self._outbox.flush()
        if self._group is None:
            self._topic.put(self._outbox, positions, cursors, self._clock.now_ms())
        else:
            self._offsets = self._group.prepare(positions, cursors)

    async def commit(self) -> None:
        """See `Transaction.commit`. Raises FencedError for a stale generation: what was written stays written."""
        await self._outbox.flush()
        if self._group is not None and self._offsets is not None:
            await self._group.commit(self._offsets, self._options.step)
            self._offsets = None

    async def abort(self) -> None:
        """See `Transaction.abort`: drops what was not sent yet; what was sent stays."""
        self._offsets = None
        await self._outbox.discard()

    async def close(self) -> None:
        """See `Transaction.close`."""
        self.abandon()

    def abandon(self) -> None:
        """See `Transaction.abandon`."""
        self._outbox.stop()
        for connection in self._connections:
            self._client.release(connection)
        on_closed, self._on_closed = self._on_closed, None
        if on_closed is not None:
            on_closed()

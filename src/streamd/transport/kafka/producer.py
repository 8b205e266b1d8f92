"""Writing to Kafka outside of a Kafka transaction: for a task whose checkpoint is kept elsewhere. At least once.

Idempotent, acknowledged by all in-sync replicas: nothing is lost and no retry writes twice. What was flushed and then
not covered by the task's checkpoint, because of a crash, is written again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streamd.record import Row
from streamd.transport.kafka.leases import ClientLease
from streamd.transport.kafka.opening import SHORTEST_TIMEOUT, transaction_options
from streamd.transport.kafka.outbox import Lane, Outbox, Producer
from streamd.transport.kafka.protocol import InitProducerId
from streamd.transport.kafka.settings import KafkaSettings

# Bytes under way at which `drain` lets the task go on.
_DRAINED = 2 << 20
_OPENING = 60.0  # seconds


class AtLeastOnceProducer:
    """One producer of one task. After an error it is spent: close it and make a new one."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Raises NotFoundError and FatalError when the settings' TLS files cannot be used. Connects nothing yet."""
        self._lease = ClientLease(settings, "producer")
        self._connections = ("data", id(self))
        self._outbox = Outbox(
            self._lease.client, self._connections, transaction_options(settings, 0.0).outbox, _join_nothing
        )
        self.compress = self._outbox.compress

    async def open(self) -> None:
        """Connect and get a producer id. Raises UnavailableError, AccessDeniedError, FatalError."""
        client = self._lease.client
        await client.start(_OPENING)
        request = InitProducerId(None, int(SHORTEST_TIMEOUT * 1000))
        answer = await client.ask_any(request, self._connections, _OPENING, "give a producer id")
        self._outbox.start(Producer(answer.producer_id, answer.producer_epoch, None))

    async def partition_count(self, topic: str) -> int:
        """How many partitions a topic has. Raises NotFoundError, AccessDeniedError, UnavailableError."""
        return await self._lease.client.partition_count(topic)

    def append_rows(
        self, topic: str, rows: Sequence[Row], partition_of: Callable[[bytes | None], int]
    ) -> list[tuple[int, Exception]]:
        """Take rows; returns [(index, LoadError)…] of those that are too large."""
        return self._outbox.append_rows(topic, rows, partition_of)

    @property
    def backlog(self) -> int:
        """Bytes taken and not yet acknowledged."""
        return self._outbox.backlog

    async def drain(self) -> None:
        """Return when the backlog is small. Raises what made a batch fail."""
        await self._outbox.drain(_DRAINED)

    async def flush(self) -> None:
        """Return when all is acknowledged. Raises what made a batch fail."""
        await self._outbox.flush()

    def close(self) -> None:
        """Drop what is not acknowledged; never raises."""
        self._outbox.stop()
        self._lease.client.release(self._connections)
        self._lease.give_back()


async def _join_nothing(lanes: Sequence[Lane]) -> None:
    """Without a transaction there is none to join."""

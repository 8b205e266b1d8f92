"""Reads a task's changelogs while another node writes them. Nothing here can fence or hold up anybody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from streamd.component.context import PipelineContext
from streamd.record import RawRecord, TaskId
from streamd.transport.kafka.changelogs import changelog_topic
from streamd.transport.kafka.client import EARLIEST, LATEST
from streamd.transport.kafka.leases import ClientLease
from streamd.transport.kafka.reader import PartitionReader
from streamd.transport.kafka.topic import cluster_of

_STEP: Final = 10.0  # seconds that one step may take


class FollowedChangelogs:
    """The changelogs of one task, over the client that all readers of this process share."""

    def __init__(self, task: TaskId, context: PipelineContext) -> None:
        """Raises ConfigError when no cluster is named, NotFoundError and FatalError when its TLS files are no use."""
        self._task = task
        self._lease = ClientLease(cluster_of(context, f"task {task}"), "consumer")

    async def open(self) -> None:
        """Connect. Raises UnavailableError, AccessDeniedError."""
        await self._lease.client.start(_STEP)

    def log(self, stage: str) -> FollowedChangelog:
        """The changelog of one stage."""
        return FollowedChangelog(self._lease, changelog_topic(self._task, stage), self._task.partition)

    def close(self) -> None:
        """The client is not needed any more."""
        self._lease.give_back()


class FollowedChangelog:
    """`state.standby.Log` of one partition of a changelog topic: what is committed there, nothing else."""

    def __init__(self, lease: ClientLease, topic: str, partition: int) -> None:
        self._client, self._topic, self._partition = lease.client, topic, partition
        self._reader: PartitionReader | None = None

    async def range(self) -> tuple[int, int]:
        """(first position that is there, the one behind the last). Raises NotFoundError while there is no topic."""
        client, topic, partition = self._client, self._topic, self._partition
        first = await client.find_offset(topic, partition, EARLIEST, deadline=_STEP)
        return first, await client.find_offset(topic, partition, LATEST, deadline=_STEP)

    def seek(self, position: int) -> None:
        """Read from here on."""
        self._reader = PartitionReader(self._client, self._topic, self._partition, position)

    async def read(self, max_records: int, timeout: float) -> Sequence[RawRecord]:
        """Committed records in order, none when nothing came for `timeout` seconds. Raises as `PartitionReader`."""
        assert self._reader is not None
        return await self._reader.read(max_records, timeout)

    def lag(self) -> int | None:
        """Offsets up to the end as it was heard last; None before anything was."""
        return None if self._reader is None else self._reader.lag()

    async def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            await self._reader.close()

"""A task's changelogs on Kafka: one compacted topic for each stateful stage, one partition of it for each task."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from streamd.clock import Clock
from streamd.component.transaction import Change, Changelog
from streamd.errors import FatalError, LoadError, NotFoundError, UnavailableError
from streamd.record import TaskId
from streamd.transport.kafka.client import EARLIEST, LATEST, KafkaClient
from streamd.transport.kafka.outbox import Outbox
from streamd.transport.kafka.protocol import READ_UNCOMMITTED
from streamd.transport.kafka.reader import PartitionReader

# Compaction leaves the segment alone that is written to: a smaller one than usual keeps the rest to read short.
_TOPIC_SETTINGS: Final = {"segment.bytes": "67108864"}
_LOOK: Final = 0.2  # seconds to learn whether a topic is there
_STEP: Final = 30.0  # seconds that one step may take
_AT_ONCE: Final = 10_000
_NO_HEADERS: Final = ()


def changelog_topic(task: TaskId, stage: str) -> str:
    """The topic with the changes of a stage's stores."""
    return f"streamd.{task.app}.{task.pipeline}.{stage}.changelog"


class KafkaChangelogs:
    """Reads a task's changelogs, and appends to them through the task's outbox: so in its transaction.

    `create`: whether topics may be made, and made larger.
    """

    def __init__(self, client: KafkaClient, task: TaskId, outbox: Outbox, create: bool, clock: Clock) -> None:
        self._client, self._task, self._outbox, self._create, self._clock = client, task, outbox, create, clock
        self._known: set[str] = set()  # topics that are there, with enough partitions

    async def restore(self, changelog: Changelog, load: Callable[[Sequence[Change]], None]) -> None:
        """See `Transaction.restore`. The task's own transactions must be settled."""
        await self.restore_tail(changelog, load, None)

    async def changelog_range(self, changelog: Changelog) -> tuple[int, int]:
        """See `Tails.changelog_range`. Nothing of the task must be open: its control records count."""
        client, topic, partition = self._client, changelog_topic(self._task, changelog.stage), self._task.partition
        if topic not in self._known:
            await self._ensure(topic, max(changelog.tasks, partition + 1))
            self._known.add(topic)
        # Only this task writes here, and nothing of it is open any more: all that is there is committed or aborted.
        end = await client.find_offset(topic, partition, LATEST, isolation=READ_UNCOMMITTED, deadline=_STEP)
        return await client.find_offset(topic, partition, EARLIEST, deadline=_STEP), end

    async def restore_tail(
        self, changelog: Changelog, load: Callable[[Sequence[Change]], None], start: int | None
    ) -> None:
        """See `Tails.restore_tail`."""
        client, topic, partition = self._client, changelog_topic(self._task, changelog.stage), self._task.partition
        first, end = await self.changelog_range(changelog)
        if first > 0:
            # Compaction leaves holes, and never moves the beginning.
            raise FatalError(
                f"The changelog {topic}[{partition}] begins at offset {first}: records were deleted from it, by "
                "retention or by hand, and state with them. Nothing was computed from it. See that it has "
                "cleanup.policy=compact and nothing else, and put back what was there before; or begin anew: stop the "
                "pipeline, delete its changelogs and its positions with `streamd state reset`, and start it again."
            )
        reader = PartitionReader(client, topic, partition, first if start is None else start)
        moved = time.monotonic()
        try:
            # The last offsets may be control records: the reader's position passes them, no record has them.
            while (before := reader.position()) < end:
                if records := await reader.read(_AT_ONCE, 1.0):
                    load([(record.key or b"", record.value) for record in records])
                if reader.position() > before:
                    moved = time.monotonic()
                elif time.monotonic() - moved > _STEP:
                    raise UnavailableError(
                        f"{topic}[{partition}] could not be read from {before} to its end {end}: a transaction that is "
                        "not this task's is open there"
                    )
        finally:
            await reader.close()

    def put(self, changelog: Changelog, changes: Sequence[Change]) -> None:
        """See `Transaction.put_state`."""
        topic, partition, now = changelog_topic(self._task, changelog.stage), self._task.partition, self._clock.now_ms()
        append = self._outbox.append
        try:
            for key, value in changes:
                append(topic, partition, key, value, now, _NO_HEADERS)
        except LoadError as error:
            raise FatalError(f"Stage {changelog.stage!r} keeps more for one key than {topic} takes: {error}.") from None

    async def _ensure(self, topic: str, partitions: int) -> None:
        """Have the topic with at least as many partitions."""
        client = self._client
        # What was known of it may be old: a topic that was deleted since must be missed here.
        await client.refresh()
        try:
            count = await client.partition_count(topic, _LOOK)
        except NotFoundError:
            if not self._create:
                raise NotFoundError(
                    f"the changelog {topic} does not exist, and streamd may not make it (`create_topics: false`): make "
                    f"it with {_partitions(partitions)} and cleanup.policy=compact"
                ) from None
            await client.create_compacted_topic(topic, _STEP, partitions, _TOPIC_SETTINGS)
            count = await client.partition_count(topic, _STEP)
        until = time.monotonic() + _STEP
        while count < partitions:
            if not self._create:
                raise FatalError(
                    f"The changelog {topic} has {count} partitions, and {partitions} tasks need one each: give it "
                    "more, or allow streamd to with `create_topics: true`."
                )
            await client.add_partitions(topic, partitions, _STEP)
            await client.refresh()
            count = await client.partition_count(topic, _STEP)
            if time.monotonic() > until:
                raise UnavailableError(f"{topic} was to have {partitions} partitions, and still has {count}")


def _partitions(count: int) -> str:
    return f"{count} partition{'' if count == 1 else 's'}"

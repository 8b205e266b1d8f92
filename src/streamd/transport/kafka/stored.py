"""Kafka's side of looking at state, and of forgetting it: changelogs, positions, groups of one pipeline."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka.protocol.commit import OffsetCommitRequest

from streamd.component.stored import Forgotten, StoredChange, StoreId
from streamd.errors import TransientError, UnavailableError
from streamd.observability.identity import running_here
from streamd.record import TaskId
from streamd.transport.kafka.admin import KafkaAdmin, Topic
from streamd.transport.kafka.changelogs import changelog_topic
from streamd.transport.kafka.client import EARLIEST, LATEST, KafkaClient
from streamd.transport.kafka.coordinator import GROUP, Coordinator
from streamd.transport.kafka.membership import group_name
from streamd.transport.kafka.outbox import Outbox, OutboxOptions, Producer, join_nothing
from streamd.transport.kafka.positions import signature_in, without_cursor
from streamd.transport.kafka.protocol import OffsetDelete, OffsetFetch, codes
from streamd.transport.kafka.reader import PartitionReader
from streamd.transport.kafka.settings import KafkaSettings

_WITHIN: Final = 10.0  # seconds for one question
_STANDS_STILL: Final = 30.0  # seconds without anything new until a changelog is given up
_AT_ONCE: Final = 10_000
_GONE_WITHIN: Final = 20.0  # seconds until a topic that was deleted is gone everywhere
_CONNECTION: Final = "stored"


@asynccontextmanager
async def opened(
    settings: KafkaSettings, app: str, pipeline: str, parts: Mapping[str, int], group: str | None, topics: Iterable[str]
) -> AsyncIterator[KafkaStored]:
    """`KafkaStored`, connected for the time of the block. Raises UnavailableError, AccessDeniedError, FatalError."""
    client, admin = KafkaClient(settings.client_arguments("admin"), settings), KafkaAdmin(settings)
    try:
        await client.start(_WITHIN)
        await admin.start()
        yield KafkaStored(client, admin, app, pipeline, parts, group, frozenset(topics))
    finally:
        await admin.close()
        await client.close()


class KafkaStored:
    """`StoredState` (component/stored.py) of one pipeline on one cluster.

    `parts`: {stage: the part it is in}. `group`: that keeps its positions, None where they are in a topic of their own.
    `topics`: those that it reads as a member of the group.
    """

    def __init__(
        self,
        client: KafkaClient,
        admin: KafkaAdmin,
        app: str,
        pipeline: str,
        parts: Mapping[str, int],
        group: str | None,
        topics: frozenset[str],
    ) -> None:
        self._client, self._admin, self._parts = client, admin, parts
        self._app, self._pipeline = app, pipeline
        self._prefix = f"streamd.{app}.{pipeline}."
        self._group, self._sources = group, topics
        self._known: dict[str, Topic] | None = None

    # Looking.

    async def stores(self) -> Sequence[StoreId]:
        """See `StoredState.stores`."""
        return [
            StoreId(stage, self._parts.get(stage, -1), partition)
            for stage, topic in sorted((await self._changelogs()).items())
            for partition in range(topic.partitions)
        ]

    async def changes(self, store: StoreId) -> AsyncIterator[Sequence[StoredChange]]:
        """See `StoredState.changes`."""
        async for batch in self._read(self._topic(store.stage), store.partition):
            yield [StoredChange(record.key or b"", record.value, record.timestamp) for record in batch]

    def where(self, stage: str) -> str:
        """See `StoredState.where`."""
        return self._topic(stage)

    async def _read(self, topic: str, partition: int) -> AsyncIterator[Sequence[Any]]:
        client = self._client
        begin = await client.find_offset(topic, partition, EARLIEST, deadline=_WITHIN)
        end = await client.find_offset(topic, partition, LATEST, deadline=_WITHIN)
        reader = PartitionReader(client, topic, partition, begin)
        moved = time.monotonic()
        try:
            while (before := reader.position()) < end:
                if records := await reader.read(_AT_ONCE, 1.0):
                    yield records
                if reader.position() > before:
                    moved = time.monotonic()
                elif time.monotonic() - moved > _STANDS_STILL:
                    raise UnavailableError(f"{topic}[{partition}] could not be read from {before} to its end {end}")
        finally:
            await reader.close()

    async def _changelogs(self) -> dict[str, Topic]:
        """{stage: its changelog}, those of stages that the pipeline does not have any more among them."""
        found = {}
        for name, topic in (await self._own()).items():
            stage = name.removeprefix(self._prefix).removesuffix(".changelog")
            if name == self._topic(stage):
                found[stage] = topic
        return found

    async def _own(self) -> dict[str, Topic]:
        if self._known is None:
            everything = await self._admin.topics()
            self._known = {name: topic for name, topic in everything.items() if name.startswith(self._prefix)}
        return self._known

    def _topic(self, stage: str) -> str:
        return changelog_topic(TaskId(self._app, self._pipeline, 0, 0), stage)

    @property
    def _positions(self) -> str:
        return f"{self._prefix}positions"

    # Forgetting.

    async def running(self) -> str | None:
        """Who runs the pipeline, in words, as far as it can be seen; None when nobody does.

        One without a group is seen only where it runs on this machine.
        """
        if self._group is not None:
            found = await self._admin.describe_group(self._group)
            if found.members:
                who = ", ".join(
                    sorted({f"{member.client_id} at {member.host.lstrip('/')}" for member in found.members})
                )
                return f"group {self._group} has members ({who})"
            return None
        for text in (await self._documents()).values():
            signed = signature_in(text)
            if signed is not None and running_here(signed.who):
                return f"it runs on this machine (pid {signed.who.pid})"
        return None

    async def positions(self) -> list[Forgotten]:
        """Where positions are, and what they say."""
        by_topic: dict[str, list[str]] = {}
        for (topic, partition), (offset, _) in sorted((await self._offsets()).items()):
            by_topic.setdefault(topic, []).append(f"{topic}[{partition}] {offset}")
        found = [Forgotten("positions", f"group {self._group}", ", ".join(texts)) for texts in by_topic.values()]
        if self._positions in await self._own():
            found.append(Forgotten("positions", f"topic {self._positions}", "all of it"))
        return found

    async def changelogs(self, stage: str | None) -> list[Forgotten]:
        """The changelogs, of one stage or of all, and the topics that records are moved through by key."""
        found = [
            Forgotten("changelog", f"topic {topic.name}", await self._extent(topic))
            for name, topic in sorted((await self._changelogs()).items())
            if stage in (None, name)
        ]
        if stage is None:
            found += [
                Forgotten("exchange", f"topic {name}", await self._extent(topic))
                for name, topic in sorted((await self._own()).items())
                if name.endswith(".exchange")
            ]
        return found

    async def _extent(self, topic: Topic) -> str:
        numbers = range(topic.partitions)
        ends = await self._admin.offsets(topic.name, numbers, "latest", committed=False)
        begins = await self._admin.offsets(topic.name, numbers, "earliest")
        offsets = sum(ends[number] - begins[number] for number in numbers)
        partitions = f"{topic.partitions} partition{'s'[: topic.partitions != 1]}"
        return f"{partitions}, {offsets} offset{'s'[: offsets != 1]}"

    async def forget(self, stage: str | None) -> None:
        """Delete positions, changelogs and exchanges; of one stage what it remembers, while positions stay.

        Positions go first: what is done halfway is refused by the tasks, and can be done again.
        """
        if stage is None:
            await self._delete_offsets()
        else:
            await self._drop_cursor(stage)
        named = {one.name.removeprefix("topic ") for one in await self.changelogs(stage)}
        if stage is None and self._positions in await self._own():
            named.add(self._positions)
        await self._admin.delete_topics(named)
        await self._until_gone(named)

    async def _until_gone(self, topics: set[str]) -> None:
        """A pipeline that starts while a topic is about to go would take it for its own."""
        until = time.monotonic() + _GONE_WITHIN
        while left := await self._admin.topics(topics) if topics else {}:
            if time.monotonic() > until:
                names = ", ".join(sorted(left))
                raise TransientError(f"deleted topics are still there ({names}): wait before starting")
        self._known = None

    async def _offsets(self) -> dict[tuple[str, int], tuple[int, str]]:
        """{(topic, partition): (offset, metadata)} of the group that are the pipeline's."""
        if self._group is None:
            return {}
        answer = await self._coordinator().ask(
            OffsetFetch(self._group, None, True, {}),
            lambda answer: {answer.error_code} | {part[4] for topic in answer.topics for part in topic[1]},
            f"give the offsets of group {self._group}",
            _WITHIN,
            repeatable=True,
        )
        return {
            (topic, part[0]): (part[1], part[3] or "")
            for topic, parts, _ in answer.topics
            for part in parts
            if part[1] >= 0 and self._owns(topic, part[3] or "")
        }

    def _owns(self, topic: str, text: str) -> bool:
        """Whether an offset of the group is the pipeline's: a group that the user named may be others' as well."""
        if self._group == group_name(self._app, self._pipeline):
            return True
        signed = signature_in(text)
        return topic in self._sources and (signed is None or signed.pipeline == f"{self._app}.{self._pipeline}")

    async def _delete_offsets(self) -> None:
        by_topic: dict[str, list[int]] = {}
        for topic, partition in await self._offsets():
            by_topic.setdefault(topic, []).append(partition)
        if not by_topic or self._group is None:
            return
        await self._coordinator().ask(
            OffsetDelete(self._group, [(topic, sorted(numbers)) for topic, numbers in by_topic.items()]),
            lambda answer: {answer.error_code} | {part[1] for topic in answer.topics for part in topic[1]},
            f"delete offsets of group {self._group}",
            _WITHIN,
            repeatable=True,
        )

    async def _drop_cursor(self, stage: str) -> None:
        """Have the committed positions not expect a changelog of the stage."""
        offsets = await self._offsets()
        topics: dict[str, list[tuple[int, int, str]]] = {}
        for (topic, partition), (offset, text) in offsets.items():
            topics.setdefault(topic, []).append((partition, offset, without_cursor(text, stage)))
        if topics and self._group is not None:
            await self._coordinator().ask(
                OffsetCommitRequest(self._group, -1, "", -1, list(topics.items())),
                codes,
                f"commit offsets of group {self._group}",
                _WITHIN,
                repeatable=True,
            )
        documents = {key: text for key, text in (await self._documents()).items() if b" " not in key}
        rewritten = {key: without_cursor(text.decode(), stage).encode() for key, text in documents.items()}
        await self._write({key: text for key, text in rewritten.items() if text != documents[key]})

    async def _documents(self) -> dict[bytes, bytes]:
        """{key: newest text} of the topic of positions."""
        found: dict[bytes, bytes] = {}
        if self._positions in await self._own():
            async for batch in self._read(self._positions, 0):
                found |= {record.key: record.value for record in batch if record.key and record.value}
        return found

    async def _write(self, documents: Mapping[bytes, bytes]) -> None:
        if not documents:
            return
        outbox = Outbox(self._client, _CONNECTION, OutboxOptions(delivery=_WITHIN), join_nothing)
        try:
            outbox.start(Producer(-1, -1, None))
            for key, text in documents.items():
                outbox.append(self._positions, 0, key, text, int(time.time() * 1000), ())
            await outbox.flush()
        finally:
            outbox.stop()

    def _coordinator(self) -> Coordinator:
        assert self._group is not None
        return Coordinator(self._client, GROUP, self._group, _CONNECTION)

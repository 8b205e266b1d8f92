"""The scratch in a user's Kafka: topics and groups of its own, made, written, read, and deleted afterwards.

Of what is the user's, topics' partition counts are asked for, and with `--sample` records read, without a group.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import DeleteGroupsRequest

from streamd.errors import StreamdError
from streamd.transport.kafka.admin import KafkaAdmin, open_admin
from streamd.transport.kafka.connection import CLOSE_TIMEOUT, connect, disconnect
from streamd.transport.kafka.failures import explain
from streamd.transport.kafka.settings import KafkaSettings
from streamd.verify.feed import SourceFeed
from streamd.verify.progress import Place
from streamd.verify.records import Made, Records
from streamd.verify.scratch import Input

READ_AT_ONCE = 5000  # records
_DELETE_WITHIN = 20.0  # seconds; a group whose member was killed is not empty before its session is over
_PAUSE = 0.5


async def partitions(settings: KafkaSettings, topics: Collection[str]) -> dict[str, int]:
    """How many partitions topics have; those that do not exist are left out."""
    async with open_admin(settings) as admin:
        return {name: topic.partitions for name, topic in (await admin.topics(topics)).items()}


async def make_topics(settings: KafkaSettings, wanted: Mapping[str, int | None]) -> None:
    """Make topics: {name: partitions, None for the broker's default}. They keep records whatever their times say."""
    async with open_admin(settings) as admin:
        for name, count in wanted.items():
            await admin.create_topic(name, count, config={"retention.ms": "-1"})


async def delete_all(settings: KafkaSettings, prefix: str, topics: Iterable[str], groups: Iterable[str]) -> list[str]:
    """Delete the topics that hold `prefix` in their names, and groups. Gives what is left, in words.

    `topics`: those that are known to be there, for the words.
    """
    names = sorted(topics)
    try:
        async with open_admin(settings) as admin:
            names = sorted(name for name in await admin.topics() if prefix in name)
            await _delete_topics(admin, names)
        undeleted = [group for group in groups if not await _delete_group(settings, group)]
    except StreamdError as error:
        what = f"topics {', '.join(names)}" if names else "topics and groups"
        return [f"{what} ({error})"]
    return [f"group {group} (it expires by itself)" for group in undeleted]


async def _delete_topics(admin: KafkaAdmin, names: Sequence[str]) -> None:
    for begin in range(0, len(names), 50):
        await admin.delete_topics(names[begin : begin + 50])


async def _delete_group(settings: KafkaSettings, group: str) -> bool:
    """Delete a group, once its members have left or are given up."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _DELETE_WITHIN
    client = await connect(settings, f"delete group {group}")
    try:
        while True:
            try:
                node = await client.coordinator_lookup(CoordinationType.GROUP, group)
                answer = await client.send(node, DeleteGroupsRequest([group]), group=ConnectionGroup.COORDINATION)
                code = answer.results[0][1]
            except KafkaError:
                code = -1
            if code in (0, 69):  # deleted, or there is none
                return True
            if loop.time() > deadline or code in (29, 30):  # not authorised
                return False
            await asyncio.sleep(_PAUSE)
    finally:
        await disconnect(client)


class KafkaFeed(SourceFeed):
    """A topic of Kafka, the same for all runs."""

    def __init__(
        self, source: Input, records: Records, base_ms: int, first: int, step: int, settings: KafkaSettings
    ) -> None:
        super().__init__(source, records, base_ms, first, step)
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None

    async def open(self) -> None:
        """Connect; the topic is there already."""
        arguments = self._settings.client_arguments("producer")
        self._producer = AIOKafkaProducer(**arguments, enable_idempotence=True)
        try:
            await self._producer.start()
        except (KafkaError, OSError) as error:
            await self.close()
            raise explain(error, self._settings, "write the input") from error

    async def write(self, made: Sequence[Made], times: Sequence[int]) -> None:
        """See `SourceFeed.write`."""
        assert self._producer is not None
        sent = []
        try:
            for (partition, key, value), time in zip(made, times, strict=True):
                topic = self.source.topic
                future = await self._producer.send(topic, value, key=key, partition=partition, timestamp_ms=time)
                sent.append(future)
                self.ends[partition] += 1
            await self._producer.flush()
            for future in sent:
                await future
        except KafkaError as error:
            raise explain(error, self._settings, "write the input") from error

    async def close(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._producer.stop()
            except TimeoutError:  # it waits for Kafka for ever
                await self._producer.client.close()


class KafkaProbe:
    """Offsets of a group. `topics`: {topic: id of the source that reads it}."""

    def __init__(self, settings: KafkaSettings, group: str, topics: Mapping[str, str]) -> None:
        self._settings, self._group, self._topics = settings, group, topics
        self._admin: AIOKafkaAdminClient | None = None

    async def committed(self) -> dict[Place, int]:
        """See `Probe.committed`."""
        try:
            if self._admin is None:
                self._admin = AIOKafkaAdminClient(**self._settings.client_arguments("admin"))
                await self._admin.start()
            offsets = await self._admin.list_consumer_group_offsets(self._group)
        except (KafkaError, OSError):  # the next look tells
            return {}
        return {
            (self._topics[at.topic], at.partition): found.offset
            for at, found in offsets.items()
            if at.topic in self._topics and found.offset >= 0
        }

    async def close(self) -> None:
        """Disconnect."""
        if self._admin is not None:
            await self._admin.close()


@asynccontextmanager
async def _consumer(settings: KafkaSettings) -> AsyncIterator[AIOKafkaConsumer]:
    arguments = settings.client_arguments("consumer")
    consumer = AIOKafkaConsumer(
        **arguments, isolation_level="read_committed", enable_auto_commit=False, auto_offset_reset="earliest"
    )
    try:
        await consumer.start()
        yield consumer
    except (KafkaError, OSError) as error:
        raise explain(error, settings, "read a topic") from error
    finally:
        await consumer.stop()


async def read(
    settings: KafkaSettings, topic: str, start: Mapping[int, int] | None = None, limit: int | None = None
) -> AsyncIterator[tuple[int, list[object]]]:
    """(partition, records) of what is committed in a topic, partition by partition, from its beginning or `start`."""
    async with open_admin(settings) as admin:
        count = await admin.partitions(topic)
        ends = await admin.offsets(topic, range(count), "latest", committed=True)
        begins = await admin.offsets(topic, range(count), "earliest")
    starts = begins if start is None else {partition: start.get(partition, end) for partition, end in ends.items()}
    if all(starts[partition] >= end for partition, end in ends.items()):
        return  # aiokafka cannot end a consumer that has done nothing
    async with _consumer(settings) as consumer:
        for partition, end in ends.items():
            at, begin = TopicPartition(topic, partition), starts[partition]
            if begin >= end:
                continue
            consumer.assign([at])
            consumer.seek(at, begin)
            left = limit
            while await consumer.position(at) < end and left != 0:
                found = await consumer.getmany(at, timeout_ms=1000, max_records=min(READ_AT_ONCE, left or READ_AT_ONCE))
                records = [record for record in found.get(at, ()) if record.offset < end]
                left = None if left is None else left - len(records)
                if records:
                    yield partition, records


async def sample(settings: KafkaSettings, topic: str, count: int) -> list[Made]:
    """The first records of a topic, about `count`, the same number from each partition."""
    known = (await partitions(settings, [topic])).get(topic, 0)
    made: list[Made] = []
    if known:
        async for partition, records in read(settings, topic, limit=max(1, count // known)):
            made += [Made(partition, record.key, record.value) for record in records]  # type: ignore[attr-defined]
    return made

"""The kafka source and sink on a real broker."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import TopicPartition

from services.kafka import KafkaBroker, produce, read_topic
from streamd.component.context import PipelineContext, TaskContext
from streamd.errors import LoadError, NotFoundError, PositionLostError
from streamd.record import TaskId
from streamd.sinks.kafka import KafkaSink, KafkaSinkConfig
from streamd.sources.kafka import KafkaSource, KafkaSourceConfig
from streamd.transport.kafka.admin import open_admin
from streamd.transport.kafka.leases import closed
from streamd.transport.kafka.opening import transaction
from streamd.transport.kafka.settings import KafkaSettings

pytestmark = pytest.mark.kafka

NOW = 1_700_000_000_000


@pytest.fixture
def settings(kafka: KafkaBroker) -> KafkaSettings:
    return KafkaSettings.model_validate({"bootstrap": kafka.bootstrap})


@pytest.fixture
def context(settings: KafkaSettings, tmp_path: Path) -> PipelineContext:
    return PipelineContext(f"app-{uuid.uuid4().hex[:8]}", "pipeline", tmp_path, tmp_path, kafka=settings)


@pytest.fixture
async def source(context: PipelineContext) -> AsyncIterator[Callable[..., KafkaSource]]:
    made: list[KafkaSource] = []

    def make(topic: str, *, within: PipelineContext = context, **fields: Any) -> KafkaSource:
        made.append(KafkaSource(KafkaSourceConfig.model_validate({"topic": topic} | fields), within))
        return made[-1]

    yield make
    for one in made:
        await one.close()


@pytest.fixture
async def fresh(settings: KafkaSettings) -> AsyncIterator[str]:
    """A name that no topic has; what gets it is deleted."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    async with open_admin(settings) as admin:
        await admin.delete_topics([name])


async def take(reader: Any, count: int) -> list[bytes]:
    """The values of the next `count` records."""
    values: list[bytes] = []
    async with asyncio.timeout(20):
        while len(values) < count:
            values.extend(record.value for record in await reader.read(count - len(values), 0.5))
    return values


async def forget_before(kafka: KafkaBroker, topic: str, offset: int) -> None:
    """What retention does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(offset)})
    finally:
        await admin.close()


@pytest.mark.parametrize(
    ("start", "expected"),
    [("earliest", [b"0", b"1", b"2", b"new"]), ({"timestamp": NOW + 2000}, [b"2", b"new"]), ("latest", [b"new"])],
)
async def test_where_a_partition_begins(kafka, make_topic, source, start, expected):
    topic = await make_topic()
    for number in range(3):
        await produce(kafka.bootstrap, topic, [b"%d" % number], timestamp_ms=NOW + number * 1000)
    reader = await source(topic, start=start).open(0, None)
    try:
        before = reader.position()
        assert before == 4 - len(expected)
        await produce(kafka.bootstrap, topic, [b"new"], timestamp_ms=NOW + 9000)
        assert await take(reader, len(expected)) == expected
        assert reader.position() == 4
    finally:
        await reader.close()


async def test_it_goes_on_from_a_position(kafka, make_topic, source):
    topic = await make_topic()
    await produce(kafka.bootstrap, topic, [b"0", b"1", b"2"])
    reader = await source(topic, start="latest", options={"fetch.max.wait.ms": 50}, max_bytes=2048).open(0, 1)
    try:
        assert await take(reader, 2) == [b"1", b"2"]
        assert reader.lag() == 0
        assert not reader.ended
    finally:
        await reader.close()


async def test_the_readers_of_a_source_share_a_client(kafka, make_topic, source):
    topic = await make_topic(partitions=3)
    for partition in range(3):
        await produce(kafka.bootstrap, topic, [b"%d" % partition], partition=partition)
    one = source(topic)
    assert await one.partitions() == 3
    readers = await asyncio.gather(*(one.open(partition, None) for partition in range(3)))
    try:
        assert [await take(reader, 1) for reader in readers] == [[b"0"], [b"1"], [b"2"]]
    finally:
        for reader in readers:
            await reader.close()


@pytest.mark.parametrize(("policy", "expected"), [("earliest", [b"3", b"4", b"new"]), ("latest", [b"new"])])
async def test_a_lost_position_goes_on_where_it_is_told_to(kafka, make_topic, source, policy, expected):
    topic = await make_topic()
    await produce(kafka.bootstrap, topic, [b"%d" % number for number in range(5)])
    await forget_before(kafka, topic, 3)
    reader = await source(topic, on_position_lost=policy).open(0, 1)
    try:
        assert await reader.read(10, 5) == ()
        assert reader.position() == 6 - len(expected)
        await produce(kafka.bootstrap, topic, [b"new"])
        assert await take(reader, len(expected)) == expected
    finally:
        await reader.close()


async def test_a_lost_position_stops_the_task_unless_told_otherwise(kafka, make_topic, source):
    topic = await make_topic()
    await produce(kafka.bootstrap, topic, [b"%d" % number for number in range(5)])
    await forget_before(kafka, topic, 3)
    reader = await source(topic).open(0, 1)
    try:
        with pytest.raises(PositionLostError, match="offset 1"):
            await reader.read(10, 5)
    finally:
        await reader.close()


async def test_a_missing_topic_is_made_or_refused(context, settings, source, fresh):
    forbidden = PipelineContext("a", "p", context.state_dir, context.base_dir, kafka=settings, create_topics=False)
    with pytest.raises(NotFoundError, match=rf"topic {fresh} does not exist.*`create_topics: true`"):
        await source(fresh, within=forbidden).prepare()
    with pytest.raises(NotFoundError, match=fresh):
        await source(fresh).partitions()
    await source(fresh, create={"partitions": 3}).prepare()
    assert await source(fresh).partitions() == 3
    await source(fresh, within=forbidden).prepare()


class Output:
    """A sink's writer in a task of its own, and how to commit."""

    def __init__(self, context: PipelineContext, transport: str = "kafka") -> None:
        self.task = TaskId(context.app, context.pipeline, 0, 0)
        self.transaction: Any = transaction(self.task, (), context, None, "exactly_once", 0.2)
        self.context = TaskContext(context, self.task, 1, self.transaction, transport)

    async def commit(self) -> None:
        await self.transaction.flush()
        await self.transaction.put_positions({("s", 0): 1}, {})
        await self.transaction.commit()


ROWS: Sequence[Any] = [(b"k%d" % n, b"v%d" % n, NOW + n, [("n", b"%d" % n)]) for n in range(200)]


async def test_a_sink_appends_to_the_tasks_transaction(kafka, context, settings, make_topic):
    topic = await make_topic(partitions=5)
    sink = KafkaSink(KafkaSinkConfig.model_validate({"topic": topic, "compression": "gzip"}), context)
    await sink.prepare()
    output = Output(context)
    await output.transaction.open()
    try:
        writer = await sink.open(output.context, None)
        output.transaction.begin()
        assert writer.write(ROWS) == []
        assert (writer.backlog, await writer.flush()) == (0, None)
        assert await read_topic(kafka.bootstrap, topic) == []
        await output.commit()
        await writer.committed()
        await writer.close()
        records = await read_topic(kafka.bootstrap, topic, expected=len(ROWS))
    finally:
        await output.transaction.close()
        await closed()
    found = sorted((r.key, r.value, r.timestamp, list(r.headers)) for r in records)
    assert found == sorted(ROWS)
    java = DefaultPartitioner()
    assert all(record.partition == java(record.key, list(range(5)), list(range(5))) for record in records)


async def test_a_row_that_is_too_large_is_refused_alone(context, make_topic):
    topic = await make_topic()
    sink = KafkaSink(KafkaSinkConfig.model_validate({"topic": topic}), context)
    output = Output(context)
    await output.transaction.open()
    try:
        writer = await sink.open(output.context, None)
        output.transaction.begin()
        rows = [ROWS[0], (b"k", b"x" * 20_000_000, NOW, ()), ROWS[1]]
        [(index, error)] = writer.write(rows)
        assert index == 1
        assert isinstance(error, LoadError)
    finally:
        await output.transaction.close()
        await closed()


async def test_beside_another_checkpoint_it_writes_at_least_once(kafka, context, make_topic):
    topic = await make_topic(partitions=2)
    sink = KafkaSink(KafkaSinkConfig.model_validate({"topic": topic, "compression": "lz4"}), context)
    output = Output(context, transport="embedded")
    try:
        writer = await sink.open(output.context, None)
        assert writer.write(ROWS) == []
        assert writer.backlog > 0
        await writer.drain()
        assert await writer.flush() is None
        assert writer.backlog == 0
        records = await read_topic(kafka.bootstrap, topic)
        await writer.close()
    finally:
        await output.transaction.close()
        await closed()
    assert sorted(record.value for record in records) == sorted(row[1] for row in ROWS)


async def test_a_sinks_topic_is_made_as_it_says(context, settings, fresh):
    section = {"topic": fresh, "create": {"partitions": 7, "config": {"retention.ms": -1}}}
    await KafkaSink(KafkaSinkConfig.model_validate(section), context).prepare()
    async with open_admin(settings) as admin:
        assert await admin.partitions(fresh) == 7


async def test_a_sink_whose_topic_is_gone_says_so(context, fresh):
    output = Output(context)
    await output.transaction.open()
    try:
        with pytest.raises(NotFoundError, match=fresh):
            await KafkaSink(KafkaSinkConfig.model_validate({"topic": fresh}), context).open(output.context, None)
    finally:
        await output.transaction.close()
        await closed()

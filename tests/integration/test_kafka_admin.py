"""Administrative calls to a real broker: topics made and missing, offsets, groups, and brokers that are not there."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer

from services.kafka import KafkaBroker, produce
from streamd.errors import FatalError, NotFoundError, UnavailableError
from streamd.transport.kafka.admin import KafkaAdmin, open_admin
from streamd.transport.kafka.settings import KafkaSettings

pytestmark = pytest.mark.kafka


def at(bootstrap: str, **options: object) -> KafkaSettings:
    return KafkaSettings.model_validate({"bootstrap": bootstrap, "options": options})


@pytest.fixture
async def admin(kafka: KafkaBroker) -> AsyncIterator[KafkaAdmin]:
    async with open_admin(at(kafka.bootstrap)) as opened:
        yield opened


@pytest.fixture
async def topic(admin: KafkaAdmin) -> AsyncIterator[str]:
    """A name that no topic has yet; whatever gets it is deleted."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    await admin.delete_topics([name])


async def test_the_cluster_names_its_brokers(kafka, admin):
    cluster = await admin.cluster()
    assert [f"{broker.host}:{broker.port}" for broker in cluster.brokers] == [kafka.bootstrap]
    assert cluster.controller >= 0


async def test_a_topic_is_made_as_said_and_only_once(admin, topic):
    assert await admin.topics([topic]) == {}
    assert await admin.topics([topic]) == {}, "asking does not make it"
    assert await admin.create_topic(topic, 3, 1, {"retention.ms": "1000"})
    assert not await admin.create_topic(topic, 5)
    found = (await admin.topics([topic]))[topic]
    assert (found.partitions, found.replication_factor, found.leaderless) == (3, 1, 0)
    assert await admin.partitions(topic) == 3
    assert topic in await admin.topics()


async def test_a_topic_has_the_brokers_defaults_unless_told_otherwise(admin, topic):
    await admin.create_topic(topic)
    assert await admin.partitions(topic) == 4


async def test_ensure_makes_a_topic_only_where_it_may(admin, topic):
    with pytest.raises(NotFoundError, match=rf"topic {topic} does not exist at .*`create_topics: true`"):
        await admin.ensure_topic(topic, create=False)
    assert (await admin.ensure_topic(topic, create=True, partitions=2)).partitions == 2
    assert (await admin.ensure_topic(topic, create=False)).partitions == 2


@pytest.mark.parametrize(
    ("partitions", "replicas", "config", "said"),
    [
        (1, 7, {}, "INVALID_REPLICATION_FACTOR"),
        (1, 1, {"no.such.setting": "1"}, "INVALID_CONFIG"),
        (-3, 1, {}, "INVALID_PARTITIONS"),
    ],
)
async def test_what_kafka_refuses_is_told_with_its_words(admin, topic, partitions, replicas, config, said):
    with pytest.raises(FatalError, match=rf"refused to create topic {topic}: {said}"):
        await admin.create_topic(topic, partitions, replicas, config)


async def test_partitions_can_be_added(admin, topic):
    await admin.create_topic(topic, 1)
    await admin.create_partitions(topic, 3)
    assert await admin.partitions(topic) == 3


async def test_offsets_by_mark_and_by_time(kafka, admin, make_topic):
    topic = await make_topic(partitions=2)
    for time in (1000, 2000, 3000):
        await produce(kafka.bootstrap, topic, [b"v"], partition=0, timestamp_ms=time)
    assert await admin.offsets(topic, [0, 1], "earliest") == {0: 0, 1: 0}
    assert await admin.offsets(topic, [0, 1], "latest") == {0: 3, 1: 0}
    assert await admin.offsets(topic, [0, 1], 1500) == {0: 1, 1: 0}
    assert await admin.offsets(topic, [0], 9999) == {0: 3}, "a time after the last record is the end"
    with pytest.raises(FatalError, match="has 2 partitions; there is no partition 5"):
        await admin.offsets(topic, [5], "latest")
    with pytest.raises(NotFoundError, match="no-such-topic"):
        await admin.offsets("no-such-topic", [0], "latest")


async def test_the_committed_end_is_before_an_open_transaction(kafka, admin, make_topic):
    topic = await make_topic()
    await produce(kafka.bootstrap, topic, [b"a"])
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=uuid.uuid4().hex)
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"b")
        assert await admin.offsets(topic, [0], "latest") == {0: 1}
        assert await admin.offsets(topic, [0], "latest", committed=False) == {0: 2}
        await producer.commit_transaction()
        async with asyncio.timeout(10):  # the marker follows the answer to the commit
            while await admin.offsets(topic, [0], "latest") != {0: 3}:
                pass
    finally:
        await producer.stop()


async def test_deleting_what_is_not_there_is_no_error(admin):
    await admin.delete_topics(["no-such-topic"])
    await admin.delete_topics([])


async def test_a_group_that_nobody_knows_is_dead(admin):
    group = await admin.describe_group(f"none-{uuid.uuid4().hex}")
    assert (group.state, group.members) == ("Dead", ())


async def test_a_broker_that_is_not_there_is_named():
    with pytest.raises(UnavailableError) as caught:
        await KafkaAdmin(at("127.0.0.1:1")).start()
    message = str(caught.value)
    assert message.startswith("Kafka cannot be reached at 127.0.0.1:1 to connect: ")
    assert "`kafka.bootstrap`" in message
    assert "PLAINTEXT" in message


async def test_a_name_that_does_not_resolve_is_named():
    with pytest.raises(UnavailableError, match=r"no-such-host\.invalid:9092"):
        await KafkaAdmin(at("no-such-host.invalid:9092")).start()


async def test_one_broker_of_several_is_enough(kafka):
    async with open_admin(at(f"127.0.0.1:1,{kafka.bootstrap}")) as admin:
        assert (await admin.cluster()).brokers


async def test_a_port_that_does_not_speak_kafka():
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(UnavailableError, match=f"127.0.0.1:{port}"):
            await KafkaAdmin(at(f"127.0.0.1:{port}")).start()


async def test_a_call_goes_through_a_restart_and_is_given_up_in_time(tmp_path):
    broker = KafkaBroker(tmp_path)
    try:
        await asyncio.to_thread(broker.start)
        async with open_admin(at(broker.bootstrap, **{"request.timeout.ms": 2000})) as admin:
            assert await admin.create_topic("before", 1)
            restart = asyncio.create_task(asyncio.to_thread(broker.restart))
            assert await admin.create_topic("meanwhile", 1)
            await restart
        async with open_admin(
            at(broker.bootstrap, **{"default.api.timeout.ms": 1000, "request.timeout.ms": 600})
        ) as admin:
            broker.pause()
            with pytest.raises(UnavailableError, match="to describe topics before"):
                await admin.topics(["before"])
    finally:
        broker.discard()

"""Three brokers, of which the one that matters dies, hangs or restarts, in turn: output resumes, and is exact."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from faults.brokers import QUICK, assert_exact, flowing, lasts, set_topic
from faults.systems import APP, KafkaSystem
from integration.kafka.workbench import read_until
from services.kafka import produce
from streamd.errors import PositionLostError
from streamd.transport.kafka.client import KafkaClient
from streamd.transport.kafka.coordinator import GROUP, TRANSACTION
from streamd.transport.kafka.reader import PartitionReader

pytestmark = pytest.mark.kafka

ROLES = ("transaction coordinator", "group coordinator", "input leader", "output leader")


@pytest.fixture
async def system(kafka_cluster, tmp_path):
    made = KafkaSystem(tmp_path, kafka_cluster.bootstrap, stateful=True, **QUICK)
    await made.open()
    yield made
    for broker in kafka_cluster.brokers:
        if not broker.running:
            await asyncio.to_thread(broker.start, ready=False)
    await whole(kafka_cluster)
    await made.close()


async def whole(cluster):
    """All brokers are back, for a topic to be in sync on each of them again."""
    for broker in cluster.brokers:
        await asyncio.to_thread(broker.wait_ready, len(cluster.brokers))


async def playing(cluster, system, role):
    """The broker that plays a role for the pipeline's task 0 now."""
    client = KafkaClient({"bootstrap_servers": cluster.bootstrap, "request_timeout_ms": 2000})
    await client.start(60)
    try:
        if role.endswith("leader"):
            topic = system.input if role == "input leader" else system.output
            await client.partition_count(topic)
            node = client.leader(topic, 0)
            assert node is not None
        else:
            task = f"streamd.{APP}.{system.pipeline}.0.0"
            kind, key = (TRANSACTION, task) if role == "transaction coordinator" else (GROUP, system.group)
            node = await client.coordinator(kind, key, 20)
    finally:
        await client.close()
    return cluster.broker(node)


async def kill_and_bring_back(cluster, system, tally, role):
    """kill -9 of the broker that plays a role now; output resumes without it, and with it again."""
    broker = await playing(cluster, system, role)
    await asyncio.to_thread(broker.kill)
    tally.injected("kafka", f"{role} killed")
    await system.resumed()
    await asyncio.to_thread(broker.start)
    await whole(cluster)
    await system.resumed()


async def test_the_coordinator_of_a_transaction_dies(kafka_cluster, system, run_daemon, tally):
    """kill -9 of the broker that coordinates a task's transactions: another takes over, from its log."""
    daemon = await run_daemon(workers=2)
    async with flowing(system, pause=0.2):
        await kill_and_bring_back(kafka_cluster, system, tally, "transaction coordinator")
    await assert_exact(system, daemon, tally)
    assert not daemon.logged("Pipeline failed")


@pytest.mark.campaign
async def test_each_role_is_killed_in_turn(kafka_cluster, system, run_daemon, tally):
    """Who plays the role is asked anew each time, and is back before the next one dies."""
    daemon = await run_daemon(workers=2)
    async with flowing(system, pause=0.2):
        for role in ROLES:
            await kill_and_bring_back(kafka_cluster, system, tally, role)
    await assert_exact(system, daemon, tally)
    assert not daemon.logged("Pipeline failed")


@pytest.mark.campaign
async def test_a_rolling_restart(kafka_cluster, system, run_daemon, tally):
    """Every broker in turn, in order: leadership moves away before each goes."""
    daemon = await run_daemon(workers=2)
    async with flowing(system, pause=0.2):
        for broker in kafka_cluster.brokers:
            await asyncio.to_thread(broker.restart)
            await whole(kafka_cluster)
            tally.injected("kafka", "broker restart")
            await system.resumed()
    await assert_exact(system, daemon, tally)
    assert not daemon.logged("Pipeline failed")


@pytest.mark.campaign
async def test_a_coordinator_stands_still(kafka_cluster, system, run_daemon, tally):
    """SIGSTOP: its connections stay open, the cluster goes on without it, and it wakes as one that was replaced."""
    daemon = await run_daemon(workers=2)
    async with flowing(system, pause=0.2):
        for role in ROLES[:2]:
            broker = await playing(kafka_cluster, system, role)
            await asyncio.to_thread(broker.pause)
            try:
                tally.injected("kafka", f"{role} stands still")
                await lasts(6)
            finally:
                broker.resume()
            await whole(kafka_cluster)
            await system.resumed()
    await assert_exact(system, daemon, tally)
    assert not daemon.logged("Pipeline failed")


@pytest.mark.campaign
async def test_too_few_replicas(kafka_cluster, system, run_daemon, tally):
    """One replica less than an output needs, then two of three brokers gone: it waits until they are back."""
    daemon = await run_daemon(workers=2)
    async with flowing(system, pause=0.2):
        await set_topic(system, system.output, min_insync_replicas=3)
        leader = await playing(kafka_cluster, system, "output leader")
        follower = next(broker for broker in kafka_cluster.brokers if broker is not leader)
        await asyncio.to_thread(follower.kill)
        tally.injected("kafka", "a replica too few")
        # Where the lost one was a coordinator, transactions end before a record of theirs is refused: what is left of
        # them cannot be ended either.
        refusals = ("NOT_ENOUGH_REPLICAS", "CONCURRENT_TRANSACTIONS")
        await system.until(lambda: any(one in daemon.log.read_text() for one in refusals), "an output is refused")
        await asyncio.to_thread(follower.start)
        await whole(kafka_cluster)
        await system.resumed()
        await set_topic(system, system.output, min_insync_replicas=2)
        gone = [broker for broker in kafka_cluster.brokers if broker is not leader]
        for broker in gone:
            await asyncio.to_thread(broker.kill)
        tally.injected("kafka", "two of three brokers gone")
        await lasts(1)  # what was on its way comes out
        came = system.came
        await lasts(3)
        assert system.came == came, "one broker alone must not commit"
        for broker in gone:
            await asyncio.to_thread(broker.start, ready=False)
        await whole(kafka_cluster)
        await system.resumed()
    await assert_exact(system, daemon, tally)
    assert not daemon.logged("Pipeline failed")


@pytest.mark.campaign
async def test_a_replica_that_was_not_in_sync_becomes_leader(kafka_cluster, tally):
    """Records that were read are gone, others stand at their offsets: a lost position, never read on in silence."""
    topic = f"unclean-{uuid.uuid4().hex[:8]}"
    leader, other, _ = kafka_cluster.brokers
    await make_on(kafka_cluster, topic, [leader.node, other.node])
    client = KafkaClient({"bootstrap_servers": kafka_cluster.bootstrap, "request_timeout_ms": 2000})
    await client.start()
    reader = PartitionReader(client, topic, 0, 0, outage=90)
    try:
        await produce(kafka_cluster.bootstrap, topic, [b"1"] * 10)
        assert len(await read_until(reader, 10)) == 10
        await asyncio.to_thread(other.kill)
        await produce(kafka_cluster.bootstrap, topic, [b"2"] * 10)
        assert len(await read_until(reader, 10)) == 10, "read, though one replica alone has them"
        await reader._restart()  # or else it asks before there is anything at its offset, and is refused
        await asyncio.to_thread(leader.kill)
        await asyncio.to_thread(other.start)
        await produce(",".join(b.bootstrap for b in kafka_cluster.brokers[1:]), topic, [b"3"] * 30)
        tally.injected("kafka", "unclean leader")
        with pytest.raises(PositionLostError, match="has lost what it had from offset 10 on"):
            await read_until(reader, 1, deadline=60)
    finally:
        await reader.close()
        await client.close()
        await asyncio.to_thread(leader.start)
        await whole(kafka_cluster)


async def make_on(cluster, topic, nodes):
    """A topic of one partition on these brokers only, whose leader may be one that is not in sync."""
    settings = {"unclean.leader.election.enable": "true", "min.insync.replicas": "1"}
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(topic, -1, -1, {0: nodes}, settings)])
    finally:
        await admin.close()
    assert answer.topic_errors[0][1] == 0, answer

"""Nodes that keep copies of each other's state: who takes a task over reads what came since, and stays exact."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from faults.nodes import CountedSystem, flowing
from faults.oracle import KEYS
from faults.systems import APP, IN_PARTITIONS
from services.kafka import read_topic

pytestmark = pytest.mark.kafka

RESTORED = "State restored"


class CopiedSystem(CountedSystem):
    """With one standby copy of each task's state."""

    def __init__(self, folder, bootstrap, **options):
        super().__init__(folder, bootstrap, settings={"state": {"standbys": 1}}, **options)


@pytest.fixture
def nodes_system():
    return CopiedSystem


async def copies(node, pipeline):
    """{partition: state} of the copies that a node keeps."""
    found = json.loads(await node.ask(f"/api/v1/pipelines/{pipeline}") or '{"standbys": []}')
    return {one["partition"]: one["state"] for one in found["standbys"]}


async def copied(nodes, deadline=60.0):
    """Wait until each task has its copy on another node, and it is complete: {node: partitions}."""
    owned = await nodes.settled(deadline)
    async with asyncio.timeout(deadline):
        while True:
            found = {node: await copies(node, nodes.system.pipeline) for node in nodes.alive}
            flat = [number for kept in found.values() for number in kept]
            states = {state for kept in found.values() for state in kept.values()}
            if sorted(flat) == list(range(IN_PARTITIONS)) and states == {"following"}:
                assert all(not owned[node] & kept.keys() for node, kept in found.items())
                return {node: set(kept) for node, kept in found.items()}
            await asyncio.sleep(0.05)


def restores(node, since=0):
    """{partition: the newest restore of it}, of those behind the first `since`."""
    return {int(line["task"].rpartition(".")[2]): line for line in node.logged(RESTORED)[since:]}


async def test_a_killed_nodes_tasks_go_where_their_copies_are(nodes, tally):
    """kill -9 of a node: the other one has its state already, and reads of the changelogs only what came since."""
    for _ in range(2):
        await nodes.join()
    async with flowing(nodes.system):
        owned = await nodes.settled()
        victim, heir = sorted(owned, key=lambda node: -len(owned[node]))
        await copied(nodes)
        async with asyncio.timeout(30):  # the gauge follows what the API tells at once
            while await heir.metric("streamd_standbys", state="following") != len(owned[victim]):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        before = len(heir.logged(RESTORED))
        await nodes.kill(victim)
        tally.injected("kafka", "node kill -9, with a standby")
        await nodes.system.resumed()
        restored = restores(heir, before)
        assert restored.keys() == owned[victim]
        assert all(0 < line["local"] <= KEYS for line in restored.values()), restored
        assert not heir.logged("Standby copy failed unexpectedly")
        # There is nobody left to keep copies, which is said once and is no error.
        assert len(heir.logged("There are too few nodes for standby copies")) >= 1
        assert await copies(heir, nodes.system.pipeline) == {}
        # It comes back, goes on from what lies on its disk, and is given its old tasks or copies of the others.
        nodes.alive.append(victim)
        await victim.start()
        await copied(nodes)
        assert any(line["goes_on"] for line in victim.logged("Standby copy is complete")) or any(
            line["local"] for line in victim.logged(RESTORED)
        )
    tally.judged("kafka", await nodes.exact())


async def test_one_node_alone_says_once_that_it_has_no_copies(nodes):
    """One node of an app runs as it does without copies, and says why there are none."""
    node = await nodes.join()
    async with flowing(nodes.system):
        await nodes.settled()
    await nodes.exact()
    [said] = node.logged("There are too few nodes for standby copies")
    assert said["copies"] == 0
    assert said["level"] == "info"


async def compacted_soon(bootstrap, topic):
    """Have a topic compacted all the time."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        settings = {
            "cleanup.policy": "compact", "segment.bytes": "1048576", "segment.ms": "500",
            "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "500", "delete.retention.ms": "86400000",
        }  # fmt: skip
        [answer] = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, settings)])
        assert not answer.resources[0][0], answer
    finally:
        await admin.close()


@pytest.mark.campaign
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2])
async def test_kills_of_three_nodes_in_turn(nodes, tally, seed):
    """Three nodes, changelogs that are compacted all the time, and one after another killed and started again."""
    chance, changelog = random.Random(seed), f"streamd.{APP}.{nodes.system.pipeline}.aggregate.changelog"
    for _ in range(3):
        await nodes.join()
    async with flowing(nodes.system):
        await nodes.settled()
        await compacted_soon(nodes.system.bootstrap, changelog)
        warm = cold = 0
        for _ in range(6):
            await copied(nodes)
            owned = await nodes.settled()
            victim = chance.choice([node for node in nodes.alive if owned[node]])
            others = [node for node in nodes.alive if node is not victim]
            before = {node: len(node.logged(RESTORED)) for node in others}
            await nodes.kill(victim)
            tally.injected("kafka", "node kill -9, with standbys")
            await nodes.system.resumed()
            restored = {p: line for node in others for p, line in restores(node, before[node]).items()}
            warm += sum(line["local"] > 0 for p, line in restored.items() if p in owned[victim])
            cold += sum(line["local"] == 0 for p, line in restored.items() if p in owned[victim])
            nodes.alive.append(victim)
            await victim.start()
        await copied(nodes)
    tally.judged("kafka", await nodes.exact())
    print(f"\n{warm} tasks of killed nodes were taken over with their copies, {cold} without")
    assert not cold
    assert warm
    left = await read_topic(nodes.system.bootstrap, changelog)
    ends = {record.partition: record.offset for record in left}
    assert len(left) < sum(ends.values()) / 2, "it was compacted"


@pytest.mark.campaign
@pytest.mark.timeout(300)
async def test_nodes_come_and_go_and_copies_follow(nodes, tally):
    """A node more or less: each task has its copy elsewhere again, whoever leaves, in order or not."""
    await nodes.join()
    async with flowing(nodes.system):
        for _ in range(2):
            await nodes.join()
            await copied(nodes)
        for node in tuple(nodes.alive):
            await nodes.restart(node)
            tally.injected("kafka", "restart of a node with standbys")
            await copied(nodes)
        await nodes.leave(nodes.alive[0])
        await copied(nodes)
        await nodes.system.resumed()
    tally.judged("kafka", await nodes.exact())

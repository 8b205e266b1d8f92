"""Members of a real group: join, leave, drain, eviction, and partitions that are added."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from services.kafka import KafkaBroker
from streamd.errors import FatalError, NotFoundError
from streamd.transport.kafka.admin import open_admin
from streamd.transport.kafka.membership import ASSIGNED_LIMIT, Assignment, GroupMember
from streamd.transport.kafka.settings import KafkaSettings

pytestmark = pytest.mark.kafka

FAST = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 200, "rebalance.timeout.ms": 6000}


class Node:
    """A member and what happened to it. `drain` runs in each revocation."""

    def __init__(self, settings: KafkaSettings, group: str, topics: list[str], **more: Any) -> None:
        self.assignments: list[Assignment] = []
        self.callback_seconds: list[float] = []
        self.revocations = 0
        self.changed = asyncio.Event()
        self.drain: Callable[[], Awaitable[None]] | None = None
        self.member = GroupMember(settings, group, topics, self.on_assigned, self.on_revoked, **more)

    def on_assigned(self, assignment: Assignment) -> None:
        self.assignments.append(assignment)
        self.changed.set()

    async def on_revoked(self) -> None:
        self.revocations += 1
        if self.drain is not None:
            await self.drain()

    @property
    def now(self) -> Assignment:
        return self.assignments[-1]

    async def until(self, condition: Callable[[Assignment], bool], deadline: float = 30.0) -> Assignment:
        async with asyncio.timeout(deadline):
            while self.member.assignment is None or not condition(self.now):
                self.changed.clear()
                await self.changed.wait()
        return self.now


@pytest.fixture
def settings(kafka: KafkaBroker) -> KafkaSettings:
    return KafkaSettings.model_validate({"bootstrap": kafka.bootstrap, "options": FAST})


@pytest.fixture
async def join(settings: KafkaSettings) -> AsyncIterator[Callable[..., Node]]:
    """`join(group, topics)` makes a node, not started; all are stopped at the end."""
    nodes: list[Node] = []

    def make(group: str, topics: list[str], *, using: KafkaSettings = settings, **more: Any) -> Node:
        nodes.append(Node(using, group, topics, **more))
        return nodes[-1]

    yield make
    await asyncio.gather(*(node.member.stop() for node in nodes))


@pytest.fixture
def group() -> str:
    return f"group-{uuid.uuid4().hex[:12]}"


async def eventually(condition: Callable[[], Awaitable[bool]], deadline: float = 30.0) -> None:
    """Return once the condition holds; TimeoutError after `deadline` seconds."""
    async with asyncio.timeout(deadline):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.02)


async def confirmed(node: Node) -> bool:
    return await node.member.confirm() is not None


def owners(*nodes: Node) -> dict[tuple[str, int], int]:
    """{(topic, partition): how many have it}."""
    found: dict[tuple[str, int], int] = {}
    for node in nodes:
        for topic, numbers in node.now.partitions.items():
            for number in numbers:
                found[topic, number] = found.get((topic, number), 0) + 1
    return found


async def test_alone_it_gets_everything(settings, make_topic, join, group):
    topic = await make_topic(partitions=3)
    node = join(group, [topic])
    await node.member.start()
    assert node.now.partitions == {topic: (0, 1, 2)}
    assert node.now.counts == {topic: 3}
    assert node.now.numbers == {0, 1, 2}
    assert node.member.membership == node.now.membership
    assert node.now.membership.generation >= 1
    assert not node.now.rejoined
    assert await node.member.confirm() == node.now.membership
    async with open_admin(settings) as admin:
        described = await admin.describe_group(group)
    assert [member.id for member in described.members] == [node.now.membership.member_id]
    assert described.protocol == "streamd-together-1"


async def test_joining_and_leaving_moves_no_more_than_it_must_and_keeps_topics_together(make_topic, join, group):
    topics = [await make_topic(partitions=6), await make_topic(partitions=4)]
    one, two, three = (join(group, topics) for _ in range(3))
    await one.member.start()
    assert one.now.numbers == set(range(6))

    await two.member.start()
    await one.until(lambda a: len(a.numbers) == 3)
    first, second = one.now.numbers, two.now.numbers
    assert first | second == set(range(6))
    assert not first & second
    for node in (one, two):
        for number in node.now.numbers:
            assert all(
                number in node.now.partitions.get(topic, ()) for topic in topics if number < node.now.counts[topic]
            )

    await three.member.start()
    await asyncio.gather(one.until(lambda a: len(a.numbers) == 2), two.until(lambda a: len(a.numbers) == 2))
    assert one.now.numbers < first
    assert two.now.numbers < second
    assert set(owners(one, two, three).values()) == {1}
    assert len(owners(one, two, three)) == 10

    kept = one.now.numbers, three.now.numbers
    began = time.monotonic()
    await two.member.leave()
    await asyncio.gather(one.until(lambda a: len(a.numbers) == 3), three.until(lambda a: len(a.numbers) == 3))
    assert time.monotonic() - began < 3, "the others need not wait for the session to run out"
    assert kept[0] < one.now.numbers
    assert kept[1] < three.now.numbers
    generations = [a.membership.generation for a in one.assignments]
    assert generations == sorted(set(generations))
    assert len({a.membership.member_id for a in one.assignments}) == 1


async def test_capacity_decides_shares(make_topic, join, group):
    topic = await make_topic(partitions=6)
    big, small = join(group, [topic], capacity=4), join(group, [topic], capacity=2)
    await big.member.start()
    await small.member.start()
    await big.until(lambda a: len(a.numbers) == 4)
    assert len(small.now.numbers) == 2


async def test_heartbeats_go_on_while_draining_and_the_others_wait(make_topic, join, group):
    topic = await make_topic(partitions=2)
    one, two = join(group, [topic]), join(group, [topic])
    await one.member.start()
    before = one.now.membership
    drained = asyncio.Event()
    seen: list[Any] = []

    async def drain() -> None:
        beats: set[float | None] = set()

        async def enough() -> bool:
            beats.add(one.member.last_heartbeat)
            return len(beats) > 5

        await eventually(enough)
        seen.extend([one.member.membership, one.member.assignment, start.done()])
        drained.set()

    one.drain = drain
    start = asyncio.create_task(two.member.start())
    await drained.wait()
    membership, assignment, other_started = seen
    assert not other_started, "the joining member gets nothing before the other has drained"
    assert membership == before, "commits of the old generation are valid until the drain is over"
    assert assignment is None
    await start
    await one.until(lambda a: len(a.numbers) == 1)
    assert one.now.membership.member_id == before.member_id
    assert not one.now.rejoined


async def test_a_drain_over_its_budget_is_cut_off(make_topic, join, group):
    topic = await make_topic(partitions=2)
    one, two = join(group, [topic]), join(group, [topic])
    await one.member.start()
    assert one.member.revoke_budget == pytest.approx(2.0)
    cut_off = asyncio.Event()

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cut_off.set()
            raise

    one.drain = forever
    await two.member.start()
    assert cut_off.is_set()
    await one.until(lambda a: len(a.numbers) == 1)
    assert not one.now.rejoined


async def test_a_join_waits_for_the_others_for_longer_than_other_requests_may(make_topic, settings, join, group):
    topic = await make_topic(partitions=2)
    patient = KafkaSettings.model_validate(
        {"bootstrap": settings.bootstrap, "options": {**FAST, "request.timeout.ms": 1000}}
    )
    one, two = join(group, [topic]), join(group, [topic], using=patient)
    await one.member.start()
    began = time.monotonic()

    async def long_enough() -> bool:
        return time.monotonic() - began > 1.8

    one.drain = lambda: eventually(long_enough)
    await two.member.start()
    await one.until(lambda a: len(a.numbers) == 1)
    assert len(two.assignments) == 1


async def test_taking_on_partitions_is_quick(make_topic, join, group):
    topic = await make_topic(partitions=50)
    node = join(group, [topic])
    taken: list[float] = []
    original = node.member.assigned

    def timed(*arguments: Any) -> None:
        began = time.monotonic()
        original(*arguments)
        taken.append(time.monotonic() - began)

    node.member.assigned = timed
    await node.member.start()
    assert max(taken) < ASSIGNED_LIMIT


async def test_added_partitions_are_noticed(settings, make_topic, join, group):
    topic = await make_topic(partitions=2)
    quick = KafkaSettings.model_validate(
        {"bootstrap": settings.bootstrap, "options": {**FAST, "metadata.max.age.ms": 500}}
    )
    node = join(group, [topic], using=quick)
    await node.member.start()
    async with open_admin(settings) as admin:
        await admin.create_partitions(topic, 5)
    assert (await node.until(lambda a: len(a.numbers) == 5)).counts == {topic: 5}
    assert node.revocations == 1


async def test_an_evicted_member_comes_back_as_a_new_one(make_topic, settings, join, group):
    topic = await make_topic(partitions=2)
    short = KafkaSettings.model_validate(
        {"bootstrap": settings.bootstrap, "options": {**FAST, "session.timeout.ms": 1000}}
    )
    node = join(group, [topic], using=short)
    await node.member.start()
    before = node.now.membership
    # The whole loop stands still for longer than the session, as in a process that was stopped.
    asyncio.get_running_loop().call_soon(time.sleep, 2.5)
    await node.until(lambda a: a.rejoined)
    assert node.revocations == 1
    assert node.now.membership.member_id != before.member_id
    assert node.now.membership.generation > before.generation
    assert node.now.numbers == {0, 1}
    assert await node.member.confirm() == node.now.membership


async def test_leaving_empties_the_group_and_ends_the_wait(settings, make_topic, join, group):
    topic = await make_topic(partitions=1)
    node = join(group, [topic])
    await node.member.start()
    waiting = asyncio.create_task(node.member.wait())
    await node.member.leave()
    await waiting
    assert node.member.membership is None
    assert node.member.assignment is None
    assert await node.member.confirm() is None
    assert node.revocations == 0
    async with open_admin(settings) as admin:
        assert (await admin.describe_group(group)).state == "Empty"
    await node.member.stop()


async def test_a_missing_topic_is_told_at_once(join, group):
    with pytest.raises(NotFoundError, match="topic no-such-topic does not exist"):
        await join(group, ["no-such-topic"]).member.start()


async def test_a_callback_that_fails_ends_the_membership(make_topic, join, group):
    topic = await make_topic(partitions=1)
    node = join(group, [topic])

    def broken(assignment: Assignment) -> None:
        raise KeyError("bug")

    node.member._on_assigned = broken
    with pytest.raises(FatalError, match=r"taking on partitions of group .* failed: KeyError"):
        await node.member.start()


async def test_giving_up_while_the_others_drain_holds_nobody_up(make_topic, join, group):
    topic = await make_topic(partitions=2)
    one, two = join(group, [topic]), join(group, [topic])
    await one.member.start()
    asked = asyncio.Event()
    go_on = asyncio.Event()

    async def drain() -> None:
        asked.set()
        await go_on.wait()

    one.drain = drain
    start = asyncio.create_task(two.member.start())
    await asked.wait()
    start.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await start
    go_on.set()
    await one.until(lambda a: len(a.numbers) == 2 and a.membership.generation > 1)
    assert time.monotonic() - began < FAST["session.timeout.ms"] / 1000
    assert two.member.membership is None


async def test_a_coordination_that_breaks_down_begins_anew(make_topic, join, group):
    topic = await make_topic(partitions=2)
    node = join(group, [topic])
    await node.member.start()
    before = node.now.membership

    async def broken(*arguments: Any) -> None:
        raise RuntimeError("a bug in the client")

    coordinator = node.member._coordinator
    coordinator.ensure_active_group = broken
    coordinator.request_rejoin()
    await node.until(lambda a: a.membership != before)
    assert node.now.rejoined
    assert node.now.numbers == {0, 1}
    assert node.revocations == 1


async def test_a_member_outlives_its_coordinators_broker(kafka_cluster):
    settings = KafkaSettings.model_validate(
        {
            "bootstrap": kafka_cluster.bootstrap,
            "options": {
                **FAST,
                "session.timeout.ms": 20_000,
                "rebalance.timeout.ms": 20_000,
                "request.timeout.ms": 2000,
            },
        }
    )
    topic = f"test-{uuid.uuid4().hex[:12]}"
    async with open_admin(settings) as admin:
        await admin.create_topic(topic, 2)
    node = Node(settings, f"group-{topic}", [topic])
    await node.member.start()
    try:
        before = node.now.membership
        broker = kafka_cluster.broker(node.member._coordinator.coordinator_id)
        await asyncio.to_thread(broker.kill)
        try:
            await eventually(lambda: confirmed(node), 60)
            assert node.member.membership is not None
            assert node.member.membership.member_id == before.member_id
        finally:
            await asyncio.to_thread(broker.start)
    finally:
        await node.member.stop()
        async with open_admin(settings) as admin:
            await admin.delete_topics([topic])


async def test_members_survive_a_restart_of_the_broker(tmp_path, caplog):
    caplog.set_level(logging.CRITICAL, "aiokafka")
    broker = KafkaBroker(tmp_path)
    try:
        await asyncio.to_thread(broker.start)
        settings = KafkaSettings.model_validate(
            {"bootstrap": broker.bootstrap, "options": {**FAST, "session.timeout.ms": 6000}}
        )
        async with open_admin(settings) as admin:
            await admin.create_topic("orders", 2)
        node = Node(settings, "group", ["orders"])
        await node.member.start()
        try:
            await asyncio.to_thread(broker.restart)
            await eventually(lambda: confirmed(node))
            assert node.now.numbers == {0, 1}
        finally:
            await node.member.stop()
    finally:
        broker.discard()

"""Nodes that die or stand still: the others take over, and what the zombie does when it wakes is refused."""

from __future__ import annotations

import os
import random
import signal

import pytest

from faults.campaign import strike
from faults.daemon import alive
from faults.nodes import SESSION, flowing

pytestmark = pytest.mark.kafka

# Seconds from the end of a session to output from all partitions: a generous deadline, the figure (below 1 s on a quiet
# machine) is printed.
TAKE_OVER = 8.0


async def two(nodes, **options):
    """Two nodes that have shared out the partitions: (the one with most, the other)."""
    for _ in range(2):
        await nodes.join(**options)
    owned = await nodes.settled()
    return sorted(owned, key=lambda node: -len(owned[node]))


async def taken_over(nodes, what):
    """Wait for output of all partitions; the longest time that one was silent."""
    await nodes.system.resumed()
    longest = max(nodes.system.gaps.values())
    print(f"\n{what}: a partition was silent for {longest:.2f} s at most, with a session of {SESSION:g} s")
    return longest


async def test_a_node_is_killed(nodes, tally):
    """kill -9 of a node: its partitions are at work again two seconds after its session has run out."""
    victim, _ = await two(nodes)
    async with flowing(nodes.system):
        nodes.system.watch()
        await nodes.kill(victim)
        tally.injected("kafka", "node kill -9")
        assert await taken_over(nodes, "kill -9 of a node") < SESSION + TAKE_OVER
    tally.judged("kafka", await nodes.exact())


async def test_a_frozen_node_wakes_as_a_zombie(nodes, tally):
    """A node that stood still beyond its session has its late commit refused by the broker, and joins anew."""
    zombie, _ = await two(nodes)
    async with flowing(nodes.system):
        nodes.system.watch()
        zombie.freeze()
        tally.injected("kafka", "node SIGSTOP")
        assert await taken_over(nodes, "a node frozen") < SESSION + TAKE_OVER
        zombie.thaw()
        await nodes.settled()
        await nodes.system.resumed()
    tally.judged("kafka", await nodes.exact())
    refusals = zombie.refusals()
    print(f"the zombie was told: {refusals}")
    assert refusals
    assert zombie.logged("Pipeline lost its place in its group")
    assert not zombie.logged("Worker died")


async def test_only_the_supervisor_is_frozen(nodes, tally):
    """Workers whose supervisor stands still lose their tasks with its session, and do not fence who has them now."""
    headless, other = await two(nodes)
    async with flowing(nodes.system):
        nodes.system.watch()
        os.kill(headless.pid, signal.SIGSTOP)
        tally.injected("kafka", "supervisor SIGSTOP")
        nodes.alive.remove(headless)  # its workers go on for as long as its session lasts
        await nodes.settled()
        assert await taken_over(nodes, "a supervisor frozen") < SESSION + TAKE_OVER
        before = await nodes.epochs()
        # An attempt of the headless workers would fence the new owner, if they were let.
        mark = len(headless.logged("Task will be tried again"))
        await nodes.system.until(
            lambda: len(headless.logged("Task will be tried again")) > mark, "an attempt without a membership"
        )
        assert await nodes.epochs() == before
        os.kill(headless.pid, signal.SIGCONT)
        nodes.alive.append(headless)
        await nodes.settled()
        await nodes.system.resumed()
    tally.judged("kafka", await nodes.exact())
    print(f"the workers were told: {headless.refusals()[:2]}")
    assert headless.refusals()
    assert not other.logged("Task will be tried again")


@pytest.mark.campaign
async def test_only_the_worker_is_frozen(nodes, tally):
    """A worker that stands still is replaced within its node: the group does not hear of it."""
    node, other = await two(nodes, stall_timeout="5s")
    async with flowing(nodes.system):
        # Not by the metric, which is brought up to date once a second.
        joined = len(other.logged("group joined"))
        frozen = await strike(node, random.Random(1), signal.SIGSTOP)
        tally.injected("kafka", "worker SIGSTOP")
        await nodes.system.until(lambda: not alive(frozen), "the frozen worker is killed")
        await nodes.system.resumed()
        assert len(other.logged("group joined")) == joined > 0
    tally.judged("kafka", await nodes.exact())
    assert "silent" in node.logged("Worker died")[0]["reason"]

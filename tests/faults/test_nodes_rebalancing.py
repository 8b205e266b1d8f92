"""Faults in the middle of a rebalance: at a node that takes partitions on, gives them up, or restores their state."""

from __future__ import annotations

import signal

import pytest

from faults.nodes import SESSION, flowing

pytestmark = pytest.mark.kafka

# Seconds from the end of a session to output from all partitions: a generous deadline, the figure is printed.
TAKE_OVER = 8.0
LONG = SESSION + 2  # seconds that a node stands still: until it is taken for dead


async def struck(nodes, point, action):
    """A node with a fault, and the rebalance that makes it strike: its own join, or that of another."""
    node = await nodes.join(env={"STREAMD_FAULT": f"{point}:{action}"})
    if point == "in_revoke":
        await nodes.settled()
        await nodes.join()
    return node


@pytest.mark.parametrize("point", ["in_assign", pytest.param("in_revoke", marks=pytest.mark.campaign)])
async def test_a_node_is_killed_in_a_rebalance(nodes, tally, point):
    """kill -9 while partitions are given out or given up: the others go on, and so does the node once it is back."""
    await nodes.join()
    async with flowing(nodes.system):
        node = await struck(nodes, point, "kill9")
        nodes.system.watch()
        assert await node.ended() == -signal.SIGKILL
        nodes.alive.remove(node)
        tally.injected("kafka", f"kill -9 {point}")
        await nodes.settled()
        await nodes.system.resumed()
        gap = max(nodes.system.gaps.values())
        await nodes.join()
        await nodes.settled()
        await nodes.system.resumed()
    tally.judged("kafka", await nodes.exact())
    print(f"\nkilled {point}: a partition was silent for {gap:.2f} s at most, with a session of {SESSION:g} s")
    assert gap < SESSION + TAKE_OVER
    assert node.faults()[point, "kill9"] == 1


@pytest.mark.campaign
@pytest.mark.parametrize("point", ["in_revoke", "in_assign"])
async def test_a_rebalance_takes_longer_than_the_session(nodes, tally, point):
    """A node over its budget in a rebalance is taken for dead; it comes back as a new member, and nothing is twice."""
    await nodes.join()
    async with flowing(nodes.system):
        node = await struck(nodes, point, f"sleep={LONG}")
        await nodes.system.until(lambda: node.logged("Pipeline lost its place in its group"), "the node is evicted")
        # Each further rebalance would hold it up again.
        nodes.alive.remove(node)
        node.signal(signal.SIGKILL)
        await node.ended()
        tally.injected("kafka", f"sleep {point}", node.faults()[point, "sleep"])
        await nodes.settled()
        await nodes.system.resumed()
    tally.judged("kafka", await nodes.exact())


async def test_a_rebalance_during_a_restore(nodes, tally):
    """A node that joins while another still restores its state disturbs nobody, and the state is right."""
    await nodes.join()
    async with flowing(nodes.system):
        slow = await nodes.join(env={"STREAMD_FAULT": "in_restore:sleep=3"})
        await nodes.system.until(lambda: slow.faults()["in_restore", "sleep"], "the restore begins")
        tally.injected("kafka", "rebalance in a restore")
        await nodes.join()
        await nodes.settled()
        await nodes.system.resumed()
    tally.judged("kafka", await nodes.exact())


@pytest.mark.campaign
async def test_errors_in_rebalances(nodes, tally):
    """A node that fails to take partitions on, or to give them up, joins anew, as often as it takes."""
    shaky = await nodes.join(
        env={"STREAMD_FAULT": "in_assign:exception:0.4,in_revoke:exception:0.4", "STREAMD_FAULT_SEED": "4"}
    )
    async with flowing(nodes.system):
        for _ in range(3):
            other = await nodes.join()
            await nodes.settled()
            await nodes.system.resumed()
            await nodes.leave(other)
            await nodes.settled()
        await nodes.system.resumed()
    tally.judged("kafka", await nodes.exact())
    for (point, _), count in shaky.faults().items():
        tally.injected("kafka", f"exception {point}", count)
    assert shaky.faults()
    assert shaky.logged("Pipeline joins its group anew")

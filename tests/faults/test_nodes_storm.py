"""Rebalance after rebalance: nodes come and go faster than the group can settle, one after another is restarted."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from faults.nodes import flowing

pytestmark = pytest.mark.kafka

EVERY = 2.0  # seconds between two changes
MOST = 3  # nodes at once


async def storm(nodes, tally, seconds, seed):
    """One node stays, others join and leave every two seconds, each leaving in the background."""
    chance = random.Random(seed)
    await nodes.join()
    async with flowing(nodes.system):
        began, changes = time.monotonic(), 0
        async with asyncio.TaskGroup() as leaving:
            while time.monotonic() - began < seconds:
                moment = asyncio.get_running_loop().time() + EVERY
                # One that has not joined yet has nothing to leave: on a busy machine a start takes longer than a turn.
                members = [node for node in nodes.alive[1:] if node.logged("group joined")]
                if members and (len(nodes.alive) == MOST or chance.random() < 0.5):
                    leaving.create_task(nodes.leave(chance.choice(members)))
                    tally.injected("kafka", "leave")
                    changes += 1
                elif len(nodes.alive) < MOST:
                    await nodes.join()
                    tally.injected("kafka", "join")
                    changes += 1
                async with asyncio.timeout_at(moment + 30):
                    while asyncio.get_running_loop().time() < moment:
                        nodes.system.check()
                        await asyncio.sleep(0.05)
        await nodes.settled()
        await nodes.system.resumed()
        rebalances = await nodes.alive[0].metric("streamd_group_rebalances_total")
    gap = max(nodes.system.gaps.values())
    verdict = await nodes.exact()
    tally.judged("kafka", verdict)
    print(
        f"\n{changes} joins and leaves in {seconds} s, {rebalances:.0f} rebalances, {verdict.fed} records: "
        f"no partition was silent for longer than {gap:.2f} s"
    )
    assert rebalances > 2


async def test_twenty_seconds_of_joins_and_leaves(nodes, tally):
    await storm(nodes, tally, 20, seed=20)


@pytest.mark.campaign
@pytest.mark.timeout(300)
async def test_two_minutes_of_joins_and_leaves(nodes, tally):
    await storm(nodes, tally, 120, seed=120)


@pytest.mark.campaign
async def test_every_node_is_restarted_in_turn(nodes, tally):
    """A rolling restart of all three nodes loses and repeats nothing, and no partition is silent for long."""
    for _ in range(3):
        await nodes.join()
    await nodes.settled()
    async with flowing(nodes.system):
        nodes.system.watch()
        for node in tuple(nodes.alive):
            await nodes.restart(node)
            tally.injected("kafka", "restart")
            await nodes.settled()
            await nodes.system.resumed()
    gap = max(nodes.system.gaps.values())
    tally.judged("kafka", await nodes.exact())
    print(f"\nrolling restart: no partition was silent for longer than {gap:.2f} s")

"""At least once, without transactions: partitions move between nodes, nothing is lost, and no position goes back."""

from __future__ import annotations

import asyncio

import pytest

from faults.nodes import CountedSystem, flowing
from faults.systems import KafkaSystem

pytestmark = [pytest.mark.kafka, pytest.mark.campaign]

ROUNDS = 2


class PlainSystem(CountedSystem):
    """Without state and without transactions; commits are far apart, so that there is something to set back."""

    async def _set_up(self):
        return f"delivery: at_least_once\ncommit_interval: 500ms\n{await KafkaSystem._set_up(self)}"


@pytest.fixture
def nodes_system():
    return PlainSystem


async def watch(system, enough, back):
    """Note every position that is below one seen before."""
    newest = {}
    while not enough.is_set():
        for partition, position in (await system._positions()).items():
            if position < newest.get(partition, 0):
                back.append((partition, newest[partition], position))
            newest[partition] = position
        await asyncio.sleep(0.02)


async def test_a_node_that_loses_a_partition_never_sets_its_position_back(nodes, tally):
    """A node whose partition has moved commits nothing more for it, in the old generation or in the new one."""
    system, enough, back = nodes.system, asyncio.Event(), []
    await nodes.join()
    async with flowing(system, pause=0.05):
        watching = asyncio.create_task(watch(system, enough, back))
        for _ in range(ROUNDS):
            second = await nodes.join()
            await nodes.settled()
            await system.resumed()
            await nodes.leave(second)
            await system.resumed()
            tally.injected("kafka", "join")
            tally.injected("kafka", "leave")
        enough.set()
        await watching
    await system.until(lambda: min(system.newest.values()) >= system.fed - 3, "the last records come out")
    await nodes.leave(nodes.alive[0])
    verdict = await system.verdict()
    tally.judged("kafka", verdict, at_least_once=True)
    assert (verdict.lost, back) == (0, [])

"""Nodes that join and leave in order: no more moves than must, who stays is not disturbed, who leaves hands over."""

from __future__ import annotations

import pytest

from faults.nodes import flowing
from faults.systems import IN_PARTITIONS

pytestmark = pytest.mark.kafka

# Seconds that the partition of a node that leaves may be silent: a generous deadline, the figure (half a second on a
# machine that does nothing else) is printed.
HAND_OVER = 5.0


async def test_a_join_moves_no_more_than_it_must_and_leaves_the_others_as_they_are(nodes, tally):
    """Tasks that stay through a join or leave keep producer and state; who leaves hands over and aborts nothing."""
    system = nodes.system
    first = await nodes.join()
    async with flowing(system):
        await nodes.settled()
        before, restored = await nodes.epochs(), first.logged("State restored")
        second = await nodes.join()
        owned = await nodes.settled()
        tally.injected("kafka", "join")
        [moved] = owned[second]
        await system.resumed()
        after = await nodes.epochs()
        assert after[moved] != before[moved]
        assert {p: after[p] for p in owned[first]} == {p: before[p] for p in owned[first]}
        assert first.logged("State restored") == restored
        records = sum(line["records"] for line in restored)
        await nodes.counts(first, "streamd_restored_records_total", records)
        await nodes.counts(first, "streamd_tasks_kept_total", IN_PARTITIONS - 1)
        await nodes.counts(first, "streamd_tasks_moved_total", 1, direction="out")
        await nodes.counts(second, "streamd_tasks_moved_total", 1, direction="in")

    await system.complete()
    dropped = await system.dropped()  # what the partition that moved had not committed; exact while nothing flows
    async with flowing(system):
        await system.resumed()
        system.watch()
        await nodes.leave(second)
        await system.resumed()
        tally.injected("kafka", "leave")
        gap = system.gaps[moved]
        await nodes.counts(first, "streamd_tasks_kept_total", 2 * (IN_PARTITIONS - 1))
        left = await nodes.epochs()
        assert {p: left[p] for p in owned[first]} == {p: before[p] for p in owned[first]}
    verdict = await nodes.exact()
    tally.judged("kafka", verdict)
    others = max(gap for partition, gap in system.gaps.items() if partition != moved)
    print(f"\ngraceful leave: its partition was silent for {gap:.2f} s, any other for {others:.2f} s at most")
    assert gap < HAND_OVER
    assert await system.dropped() == dropped, "nothing is aborted when a node leaves in order"

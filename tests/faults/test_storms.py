"""Faults at every point of the checkpoint, mixed by chance: outputs, order, positions and state stay exact."""

from __future__ import annotations

import asyncio
import os

import pytest

from faults.campaign import AT_WORK, schedule, storm
from faults.oracle import KEYS

# Another schedule for whoever looks for trouble: STREAMD_FAULT_SEED=… make faults.
SEED = int(os.environ.get("STREAMD_FAULT_SEED", "41"))
NAMES = {"kill9": "kill -9", "exception": "exception", "sleep": "process blocked", "stop": "process frozen"}
# Failures come thick and fast: what would be calm in production takes too long.
IMPATIENT = {"restart": "{initial: 5ms, max: 40ms, reset_after: 500ms}"}


def kills(faults):
    """How many of these were kills."""
    return sum(count for (_, action), count in faults.items() if action == "kill9")


async def all_replaced(daemon):
    """What was injected, once the supervisor has noticed each death: the last may be a moment ago."""
    async with asyncio.timeout(30):
        while await daemon.replaced() != kills(daemon.faults()):  # noqa: ASYNC110 — there is no event
            await asyncio.sleep(0.05)
    return daemon.faults()


async def run_storm(system, run_daemon, tally, rates, wanted, *, seed=SEED, deadline=300.0):
    """One run under faults of `rates` until `wanted` of them have happened, all points among them, and its verdict."""
    plan = schedule(seed, rates)
    env = {"STREAMD_FAULT": plan, "STREAMD_FAULT_SEED": str(seed)}
    daemon = await run_daemon(workers=2, env=env, **IMPATIENT)

    def enough(faults):
        return faults.total() >= wanted and {point for point, _ in faults} >= set(AT_WORK)

    await storm(system, daemon, enough, seed, deadline=deadline)
    faults = await all_replaced(daemon)
    if await daemon.drain() != 0:
        # A fault has struck in the drain itself: what it left open is settled by the next node.
        assert daemon.faults().total() > faults.total(), f"seed {seed}, {plan}"
        again = await run_daemon(workers=2, **IMPATIENT)
        await system.feed(KEYS)
        await system.complete()
        assert await again.drain() == 0
    verdict, dropped = await system.verdict(), await system.dropped()
    for (_, action), count in faults.items():
        tally.injected(system.name, NAMES[action], count)
    tally.judged(system.name, verdict)
    print(
        f"\n{system.name}, seed {seed}: {faults.total()} faults over {verdict.fed} records, {dropped} dropped: {faults}"
    )
    assert verdict.exact, f"seed {seed}, {plan}: {verdict}"
    assert dropped > 0, "the faults have hit nothing"
    assert await system.open_transactions() == 0


async def test_everything_at_once(counting, run_daemon, tally):
    """Whatever fails wherever in a checkpoint: what is committed stays exact."""
    rates = {"exception": 0.04, "kill9": 0.004, "sleep=0.05": 0.003, "stop": 0.001}
    await run_storm(counting, run_daemon, tally, rates, 60)


@pytest.mark.campaign
@pytest.mark.timeout(600)
async def test_many_exceptions(counting, run_daemon, tally):
    """Attempts that fail by the hundred, at all points: what is committed stays exact."""
    rates = {"exception": 0.12, "sleep=0.02": 0.002}
    await run_storm(counting, run_daemon, tally, rates, 700 if counting.name == "kafka" else 400)


@pytest.mark.campaign
@pytest.mark.timeout(600)
async def test_many_kills(counting, run_daemon, tally):
    """Workers that die by the hundred, at all points: what is committed stays exact."""
    await run_storm(counting, run_daemon, tally, {"kill9": 0.04}, 180 if counting.name == "kafka" else 80)

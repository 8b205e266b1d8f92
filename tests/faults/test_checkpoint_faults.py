"""Faults at every step of the checkpoint: whatever the step leaves behind, the next attempt repairs it."""

from __future__ import annotations

import asyncio
import random

import pytest

from faults.campaign import flow
from streamd.runtime.faults import POINTS

# A task passes most points several times a second. It opens only after something else has failed.
CHANCES = {"kill9": 0.03, "exception": 0.05}
OPENED_AGAIN = "after_commit:exception:0.05,in_open:{action}:0.4"
WANTED = 3


async def run_with_faults(system, run_daemon, fault, seen):
    """Feed until `seen(daemon)` says that enough has happened; then everything has to come out."""
    daemon = await run_daemon(workers=2, env={"STREAMD_FAULT": fault, "STREAMD_FAULT_SEED": "3"})
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(flow(system, enough, random.Random(3), pause=0.05))
        async with asyncio.timeout(60):
            while await seen(daemon) < WANTED:
                daemon.check()
                await asyncio.sleep(0.05)
        enough.set()
    await system.complete()
    assert await daemon.drain() == 0
    verdict = await system.verdict()
    print(f"\n{system.name}: {await seen(daemon)} faults by {fault}: {verdict.fed} records fed, {verdict.came} came")
    assert verdict.exact, verdict
    assert await system.open_transactions() == 0


def fault_at(point, action):
    if point == "in_open":
        return OPENED_AGAIN.format(action=action)
    return f"{point}:{action}:{CHANCES[action]}"


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at(system, run_daemon, point):
    async def deaths(daemon):
        return len(daemon.logged("Worker died"))

    await run_with_faults(system, run_daemon, fault_at(point, "kill9"), deaths)


@pytest.mark.parametrize("point", POINTS)
async def test_an_exception_at(system, run_daemon, point):
    async def failures(daemon):
        return daemon.faults()[point, "exception"]

    await run_with_faults(system, run_daemon, fault_at(point, "exception"), failures)

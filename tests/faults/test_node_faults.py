"""What happens to a node as a whole: frozen workers, a drain under load, a killed node."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal

from faults.campaign import flow, strike
from faults.daemon import alive


@contextlib.asynccontextmanager
async def flowing(system):
    """Input flows, and output came already."""
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(flow(system, enough, random.Random(5), pause=0.05))
        try:
            await system.until(lambda: min(system.newest.values()) >= 0, "the first output")
            yield
        finally:
            enough.set()


async def assert_exact(system, daemon):
    """Everything comes out, the node ends in order, and nothing was lost, doubled or left open."""
    await system.complete()
    assert await daemon.drain() == 0, daemon.log.read_text()[-3000:]
    verdict = await system.verdict()
    assert verdict.exact, verdict
    assert await system.open_transactions() == 0


async def test_a_frozen_worker_is_replaced_and_harmless(system, run_daemon):
    """SIGSTOP: its silence is noticed, it is killed, and its tasks go on elsewhere with its transactions aborted."""
    daemon = await run_daemon(workers=2, stall_timeout="5s")
    async with flowing(system):
        frozen = await strike(daemon, random.Random(1), signal.SIGSTOP)
        await system.until(lambda: not alive(frozen), "the frozen worker is killed")
        await system.resumed()
    await assert_exact(system, daemon)
    [died] = daemon.logged("Worker died")
    assert (died["pid"], died["code"]) == (frozen, -signal.SIGKILL)
    assert "silent" in died["reason"]


async def test_a_worker_that_wakes_after_a_while_goes_on(system, run_daemon):
    """A stop that is shorter than any limit: nobody is killed, and nothing is lost."""
    daemon = await run_daemon(workers=2)
    async with flowing(system):
        stopped = await strike(daemon, random.Random(2), signal.SIGSTOP)
        came = system.fed
        # It may stand still within a write to the embedded log, where nothing else can be written then.
        with contextlib.suppress(TimeoutError):
            await system.until(lambda: system.fed >= came + 5_000, "input flows on", deadline=3.0)
        os.kill(stopped, signal.SIGCONT)
        await system.resumed()
    await assert_exact(system, daemon)
    assert not daemon.logged("Worker died")


async def test_sigterm_under_load_leaves_nothing_open(system, run_daemon):
    """It ends in order within its deadline, and the next node goes on exactly where it ended."""
    daemon = await run_daemon(workers=2, drain_timeout="20s")
    async with flowing(system):
        assert await daemon.drain() == 0
        assert await system.open_transactions() == 0
    again = await run_daemon(workers=2)
    await assert_exact(system, again)
    assert await system.dropped() == 0


async def test_a_node_that_is_killed_takes_its_workers_along_and_the_next_goes_on(system, run_daemon):
    """kill -9 of the supervisor, three times over."""
    daemon = await run_daemon(workers=2)
    async with flowing(system):
        for _ in range(3):
            assert len(await daemon.at_work()) == 2
            daemon.signal(signal.SIGKILL)
            assert await daemon.ended() == -signal.SIGKILL
            daemon = await run_daemon(workers=2)
            await system.resumed()
    await assert_exact(system, daemon)

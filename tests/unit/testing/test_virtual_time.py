"""Waiting takes no time, but for what is real."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Coroutine
from typing import Any

from streamd.clock import SYSTEM_CLOCK
from streamd.testing.virtual_time import HandClock, VirtualLoop, under_hand

# Of virtual time, which takes none.
SECOND, MINUTE, DAY = 1, 60, 86_400


def run(work: Coroutine[Any, Any, Any], loop: VirtualLoop) -> Any:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(work)


def test_a_day_passes_at_once():
    loop = VirtualLoop()
    began = time.monotonic()
    run(asyncio.sleep(DAY), loop)
    assert loop.time() >= DAY
    assert time.monotonic() - began < 5


def test_timers_are_due_in_their_order():
    seen = []

    async def wait(seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append(seconds)

    async def work() -> None:
        await asyncio.gather(*map(wait, (3600, 0.001, 60, 5)))

    run(work(), VirtualLoop())
    assert seen == [0.001, 5, 60, 3600]


def test_a_thread_is_waited_for():
    loop = VirtualLoop()
    go_on = []

    def thread() -> str:
        deadline = time.monotonic() + 0.1
        while time.monotonic() < deadline:
            go_on.append(1)
        return "done"

    async def work() -> str:
        async with asyncio.timeout(60):
            return await asyncio.to_thread(thread)

    assert run(work(), loop) == "done"
    assert go_on
    assert loop.time() < 60


def test_the_wall_clock_moves_by_hand_alone():
    loop = VirtualLoop()
    clock = HandClock(loop, 1000)
    seen = []

    async def ticking() -> None:
        for _ in range(3):
            await asyncio.sleep(SECOND)
            seen.append(clock.now_ms())

    async def work() -> None:
        await asyncio.sleep(0.25)
        assert clock.now_ms() == 1000
        task = asyncio.create_task(ticking())
        await asyncio.sleep(0)
        await clock.go_on(2500)
        await asyncio.sleep(MINUTE)
        await task
        assert clock.now_ms() == 3500

    run(work(), loop)
    # The loop was a quarter of a second ahead.
    assert seen == [2250, 3250, 3500]


def test_the_system_clock_and_chance_are_put_back():
    loop = VirtualLoop()
    own = uuid.uuid4
    with under_hand(HandClock(loop, 17), "seed"):
        assert SYSTEM_CLOCK.now_ms() == 17
        first = uuid.uuid4()
        assert first.version == 4
    with under_hand(HandClock(loop, 17), "seed"):
        assert uuid.uuid4() == first
    assert uuid.uuid4 is own
    assert SYSTEM_CLOCK.now_ms() > 1_700_000_000_000
    loop.close()

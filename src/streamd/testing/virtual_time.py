"""Time under a test's hand: an event loop in which waiting takes no time, and a wall clock that stands still.

When nothing is left to do but to wait for a timer, the loop's time jumps there. Work of threads and sockets takes its
real time: the loop does not jump while there is any.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, TypeVar, TypeVarTuple

from streamd.clock import instead_of_system

# How long to wait for a thread or a socket before looking again, in real seconds.
_LOOK = 0.05
# After a minute (in seconds) a jump is at least this share of the time that has passed since: what waits again and
# again must not make it expensive.
_EXACT = 60.0
_STRIDE = 0.05

T = TypeVar("T")
A = TypeVarTuple("A")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a time of its own, which begins at 0.

    `before_wait`, where set, is called each time before the loop waits: with True when that is for something real, else
    before the time jumps. When it returns True there is no wait, since it has made something ready.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._in_threads = 0
        # While time is passed: since when, and until when.
        self._passing: tuple[float, float] | None = None
        self.before_wait: Callable[[bool], bool] | None = None
        # Seconds waited for threads and sockets.
        self.really_waited = 0.0
        self._waits = _Jumping(self)
        super().__init__(self._waits)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    @property
    def jumped(self) -> float:
        """Its time without that in which something real was waited for, which is another one each time."""
        return self._now - self.really_waited

    def run_in_executor(self, executor: Executor | None, func: Callable[[*A], T], *args: *A) -> asyncio.Future[T]:
        """As asyncio's own; time does not jump until it is done."""
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self._in_threads += 1
        future.add_done_callback(self._one_done)
        return future

    def _one_done(self, _: Any) -> None:
        self._in_threads -= 1

    async def pass_time(self, seconds: float) -> None:
        """Return that much later, at once for a time that is over; whatever is due in between happens in its order."""
        if seconds <= 0:
            return
        self._passing = self._now, self._now + seconds
        try:
            await asyncio.sleep(seconds)
        finally:
            self._passing = None

    @property
    def waits_for_something_real(self) -> bool:
        """Whether a thread works, or a socket is open."""
        return self._in_threads > 0 or len(self._waits.get_map()) > 1  # the loop's own pipe is always there

    def jump(self, seconds: float) -> None:
        """Pass the time to the next timer, which is so far away."""
        target = self._now + seconds
        if self._passing is not None:
            began, until = self._passing
            target = max(target, min(until, self._now + _STRIDE * max(0.0, self._now - began - _EXACT)))
        self._now = target

    def real_time(self, seconds: float) -> None:
        """So much has really passed while something real was waited for."""
        self._now += seconds
        self.really_waited += seconds


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing but what is real."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or (timeout is not None and timeout <= 0):
            return found
        loop = self._loop
        real = loop.waits_for_something_real
        if loop.before_wait is not None and loop.before_wait(real):
            return found
        if timeout is not None and not real:
            loop.jump(timeout)
            return found
        wait = _LOOK if timeout is None else min(timeout, _LOOK)
        found = super().select(wait)
        if not found:
            loop.real_time(wait)
        return found


class HandClock:
    """A `Clock` whose wall clock moves only in `go_on`, and whose monotonic time is the loop's.

    While the wall clock stands still the loop's time may run a little ahead, for what waits for a moment; when the wall
    clock goes on it is level with it again.
    """

    def __init__(self, loop: VirtualLoop, start_ms: int) -> None:
        self._loop = loop
        self._start_ms = self._now_ms = start_ms
        self._runs = False

    def now_ms(self) -> int:
        """The wall clock, in ms since the epoch."""
        if self._runs:
            return max(self._now_ms, self._start_ms + round(self._loop.jumped * 1000))
        return self._now_ms

    def monotonic(self) -> float:
        """The loop's time."""
        return self._loop.time()

    async def go_on(self, ms: int) -> None:
        """Let the wall clock run for so long."""
        end = self._now_ms + ms
        self._runs = True
        try:
            await self._loop.pass_time((end - self._start_ms) / 1000 - self._loop.jumped)
        finally:
            self._now_ms, self._runs = end, False


@contextmanager
def under_hand(clock: HandClock, seed: str) -> Iterator[None]:
    """For the time of the block `now()` is the clock's, and `random()` and `uuid()` follow from the seed."""
    state, uuid4 = random.getstate(), uuid.uuid4
    chance = random.Random(f"uuid {seed}")
    random.seed(seed)
    uuid.uuid4 = lambda: uuid.UUID(int=chance.getrandbits(128), version=4)
    try:
        with instead_of_system(clock):
            yield
    finally:
        uuid.uuid4 = uuid4
        random.setstate(state)

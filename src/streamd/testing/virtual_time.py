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
# A long time is passed in so many jumps at most: what waits again and again must not make it expensive.
_MOST_JUMPS = 2000

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
        self._stride = 0.0
        self.before_wait: Callable[[bool], bool] | None = None
        # Seconds waited for threads and sockets.
        self.really_waited = 0.0
        self._waits = _Jumping(self)
        super().__init__(self._waits)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def run_in_executor(self, executor: Executor | None, func: Callable[[*A], T], *args: *A) -> asyncio.Future[T]:
        """As asyncio's own; time does not jump until it is done."""
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self._in_threads += 1
        future.add_done_callback(self._one_done)
        return future

    def _one_done(self, _: Any) -> None:
        self._in_threads -= 1

    async def pass_time(self, seconds: float) -> None:
        """Return that much later; whatever is due in between happens in its order."""
        self._stride = seconds / _MOST_JUMPS
        self._waits.until = self._now + seconds
        try:
            await asyncio.sleep(seconds)
        finally:
            self._stride = 0.0

    @property
    def waits_for_something_real(self) -> bool:
        """Whether a thread works, or a socket is open."""
        return self._in_threads > 0 or len(self._waits.get_map()) > 1  # the loop's own pipe is always there

    def jump(self, seconds: float) -> None:
        """Pass the time to the next timer, which is so far away."""
        target = self._now + max(seconds, self._stride)
        if self._stride:
            target = max(self._now + seconds, min(target, self._waits.until))
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
        self.until = 0.0

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
    """A `Clock` whose wall clock moves only in `go_on`, and whose monotonic time is the loop's."""

    def __init__(self, loop: VirtualLoop, start_ms: int) -> None:
        self._loop = loop
        self._base_ms = start_ms
        self._since: float | None = None

    def now_ms(self) -> int:
        """The wall clock, in ms since the epoch."""
        passed = 0.0 if self._since is None else self._loop.time() - self._since
        return self._base_ms + round(passed * 1000)

    def monotonic(self) -> float:
        """The loop's time."""
        return self._loop.time()

    async def go_on(self, ms: int) -> None:
        """Let the wall clock run for so long."""
        end = self._base_ms + ms
        self._since = self._loop.time()
        try:
            await self._loop.pass_time(ms / 1000)
        finally:
            self._base_ms, self._since = end, None


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

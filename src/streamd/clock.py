"""Time as a value that is handed in: the only place that asks the operating system for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Clock(Protocol):
    """What the engine knows of time."""

    def now_ms(self) -> int:
        """Wall clock, in milliseconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


SYSTEM_CLOCK = SystemClock()


@contextmanager
def instead_of_system(clock: Clock) -> Iterator[None]:
    """For the time of the block `SYSTEM_CLOCK` says what this clock says: for `streamd test`. One at a time."""
    own = vars(SYSTEM_CLOCK)
    own.update(now_ms=clock.now_ms, monotonic=clock.monotonic)
    try:
        yield
    finally:
        own.clear()

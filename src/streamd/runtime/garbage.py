"""The collector of cyclic garbage, by the clock: a batch keeps thousands of records alive on purpose, and tables keep
millions of lists.

A collection walks what came since the last one, a full one all that is not frozen. What state is made of never is part
of a cycle. So where a full one would take long, what survives it is frozen: no pause grows with the number of keys.
Frozen objects are freed like all others, but for those that become part of a cycle that nobody holds.
"""

from __future__ import annotations

import gc
import time
from typing import Final

FULL_INTERVAL: Final = 60.0
MANY: Final = 200_000  # objects that have come, whose walk takes about 20 ms
LONG: Final = 0.01  # seconds of a full collection, from which on what survives it is frozen


class Garbage:
    """Of one process. Nothing is collected unless it is told to."""

    def __init__(self) -> None:
        gc.collect()
        gc.freeze()
        gc.disable()
        self._next_full = time.monotonic()
        # Objects that have come and were not freed since the last full collection, or more.
        self._come = 0

    def collect(self) -> None:
        """Collect among what came since the last call; among everything when that is much, or it is time."""
        self._come += gc.get_count()[0]
        now = time.monotonic()
        if now < self._next_full and self._come < MANY:
            gc.collect(1)
            return
        self._next_full, self._come = now + FULL_INTERVAL, 0
        began = time.thread_time()
        gc.collect()
        if time.thread_time() - began >= LONG:
            gc.freeze()


def keep_many() -> None:
    """What comes now stays, as in a restore: freeze it before it is so much that a walk over it is noticed."""
    if gc.get_count()[0] >= MANY:
        gc.collect(1)
        gc.freeze()

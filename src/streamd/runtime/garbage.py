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
# Seconds of walking: what came is looked at as a whole when it has taken so long, and frozen when that takes so long.
LONG: Final = 0.05
FREEZE: Final = 0.01
MANY: Final = 200_000  # objects, whose walk takes about 20 ms


class Garbage:
    """Of one process. Nothing is collected unless it is told to."""

    def __init__(self) -> None:
        gc.collect()
        gc.freeze()
        gc.disable()
        self._next_full = time.monotonic()
        # Seconds that what is not frozen takes to be walked.
        self._walk = 0.0

    def collect(self) -> None:
        """Collect what came since the last call; everything when it is time."""
        self._walk += _collected(1)
        now = time.monotonic()
        if now >= self._next_full or self._walk >= LONG:
            self._next_full = now + FULL_INTERVAL
            self._walk = _collected(2)
            if self._walk >= FREEZE:
                gc.freeze()
                self._walk = 0.0


def keep_many() -> None:
    """What comes now stays, as in a restore: freeze it before it is so much that a walk over it is noticed."""
    if gc.get_count()[0] >= MANY:
        gc.collect(1)
        gc.freeze()


def _collected(generation: int) -> float:
    """Collect; gives the seconds that this thread worked for it."""
    began = time.thread_time()
    gc.collect(generation)
    return time.thread_time() - began

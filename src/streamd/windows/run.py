"""One key's way through its records, window after window, as sliding windows need it.

A window of few records is added up. One of many is put together from the end of its first pane, the panes in between,
and its last pane so far; each part is worked out once. Which of both depends on the records alone, and the parts are
the same wherever a task began anew: so are the results, to the last digit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from streamd.record import BEGINNING

Accumulator: TypeAlias = list[Any]
# What is kept of a record: its time, the number of its arrival, the aggregates' arguments.
Entry: TypeAlias = list[Any]

# Up to so many records are added up.
FEW: Final = 64


@dataclass(frozen=True, slots=True)
class Functions:
    """What all keys of a stage share: the window's size and the panes' in ms, and what is done with accumulators."""

    size: int
    step: int
    fresh: Callable[[], Accumulator]
    take: Callable[[Accumulator, Sequence[Entry]], None]
    merge: Callable[[Accumulator, Accumulator], None]

    def added(self, entries: Sequence[Entry]) -> Accumulator:
        """A new accumulator with these records."""
        accumulator = self.fresh()
        self.take(accumulator, entries)
        return accumulator


class Run:
    """`entries`: the key's records in the order of time, at least those of windows to come.

    Windows are asked for in the order of time, each when all its records are there.
    """

    __slots__ = ("_kit", "_low", "_parts", "_place", "entries", "key")

    def __init__(self, kit: Functions, key: Hashable) -> None:
        self._kit, self.key = kit, key
        self.entries: list[Entry] = []
        self._low = self._place = 0  # the first record of the last window, and the first behind it
        self._parts: _Parts | None = None

    def total(self, time: int) -> Accumulator:
        """What the window that ends with `time` comes to."""
        entries, low, place = self.entries, self._low, self._place
        start, count = time + 1 - self._kit.size, len(entries)
        while place < count and entries[place][0] <= time:
            place += 1
        while entries[low][0] < start:
            low += 1
        if low > FEW and low * 2 > count:
            del entries[:low]
            low, place = 0, place - low
        self._low, self._place = low, place
        if place - low <= FEW:
            return self._kit.added(entries[low:place])
        if self._parts is None:
            self._parts = _Parts(self._kit, entries)
        return self._parts.total(start, time, low, place)


class _Parts:
    """The parts of a key's windows that were worked out already."""

    def __init__(self, kit: Functions, entries: list[Entry]) -> None:
        self._kit, self._entries = kit, entries
        # The last pane of the last window: its end, and what it came to up to the time `_taken`.
        self._end = self._taken = BEGINNING
        self._prefix: Accumulator = []
        self._panes: dict[int, Accumulator] = {}
        # The first pane: what it comes to from each of its records on, by their times.
        self._first = BEGINNING
        self._tails: tuple[list[int], list[Accumulator]] = ([], [])
        self._between: tuple[tuple[int, int], Accumulator | None] = ((0, 0), None)

    def total(self, start: int, time: int, low: int, place: int) -> Accumulator:
        """What a window comes to: its times, both included, and where its records are."""
        step = self._kit.step
        first, last = start - start % step + step, time - time % step + step
        if first == last:
            return self._kit.added(self._entries[low:place])
        total = self._kit.fresh()
        for part in (self._tail(first, start), self._middle(first, last), self._head(last, place)):
            if part is not None:
                self._kit.merge(total, part)
        return total

    def _within(self, start: int, end: int) -> Sequence[Entry]:
        """The records from one time to before another."""
        entries = self._entries
        return entries[bisect_left(entries, start, key=_time) : bisect_left(entries, end, key=_time)]

    def _tail(self, first: int, start: int) -> Accumulator | None:
        """The first pane, which ends with `first`, from a time on."""
        if first != self._first:
            after: Accumulator | None = None
            tails: list[Accumulator] = []
            entries = self._within(start, first)
            for entry in reversed(entries):
                tail = self._kit.added((entry,))
                if after is not None:
                    self._kit.merge(tail, after)
                tails.append(tail)
                after = tail
            self._first, self._tails = first, ([entry[0] for entry in entries], tails[::-1])
        times, tails = self._tails
        place = bisect_left(times, start)
        return tails[place] if place < len(tails) else None

    def _middle(self, first: int, last: int) -> Accumulator | None:
        """The panes between two."""
        if self._between[0] == (first, last):
            return self._between[1]
        total: Accumulator | None = None
        panes: dict[int, Accumulator] = {}
        step = self._kit.step
        for end in range(first + step, last, step):
            pane = self._panes.get(end)
            if pane is None:
                entries = self._within(end - step, end)
                if not entries:
                    continue
                pane = self._kit.added(entries)
            panes[end] = pane
            if total is None:
                total = self._kit.fresh()
            self._kit.merge(total, pane)
        self._panes, self._between = panes, ((first, last), total)
        return total

    def _head(self, last: int, place: int) -> Accumulator:
        """The last pane up to the window's end."""
        if last != self._end:
            self._end, self._prefix, self._taken = last, self._kit.fresh(), last - self._kit.step - 1
        first = bisect_left(self._entries, self._taken + 1, key=_time)
        if first < place:
            self._kit.take(self._prefix, self._entries[first:place])
            self._taken = self._entries[place - 1][0]
        return self._prefix


def _time(entry: Entry) -> int:
    time: int = entry[0]
    return time

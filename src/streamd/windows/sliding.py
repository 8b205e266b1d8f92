"""Sliding windows: one result for each record, over the records of its key in the time that ends with it.

A record's result is given when the watermark says that nothing before it is to come, so it does not depend on the order
in which records came. Until no window has it any more, a record is kept in the pane of its time.

What a window comes to is put together from the end of its first pane, the panes in between, and its last pane up to the
record; each part is worked out once. The parts are the same whenever the task starts anew, and so are the results, to
the last digit.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, Final

from streamd.component.stage import BEGINNING
from streamd.component.state import Store, Table, TimeTable
from streamd.record import Result
from streamd.windows.accumulators import Accumulators, for_keys, row_pattern
from streamd.windows.code import indented
from streamd.windows.kernel import LARGEST_TIME, Accumulator, Kernel
from streamd.windows.spec import WindowSpec

# How many panes a window has, about.
PANES: Final = 16

# What is kept of a record: its time, the number of its arrival, the aggregates' arguments.
Kept = list[Any]


class SlidingWindows(Kernel):
    """Tables {key: its records by their times} of panes of time."""

    def __init__(self, spec: WindowSpec) -> None:
        self.step = -(-spec.size // PANES)
        self._ends: list[int] = []
        self._times: list[int] = []
        self._waiting: dict[int, list[Hashable]] = {}
        self._runs: dict[Hashable, Run] = {}
        super().__init__(spec)

    def written(self, a: Accumulators) -> list[str]:
        """See `Kernel`."""
        spec, columns = self.spec, a.columns
        take = [
            "arrivals += 1",
            f"entry = [{', '.join(['time', 'arrivals', *columns])}]",
            "entries = t[key]",
            "if entries is None: t[key] = [entry]",
            "elif entries[-1][0] <= time: entries.append(entry)",
            "else: insort(entries, entry)",
            "dirty(key)",
            "keys = waiting.get(time)",
            "if keys is None: keys = self.wait_for(time)",
            "keys.append(key)",
        ]
        a.code.constant("insort", insort)
        entry = f"for {', '.join(['_', '_', *columns])} in entries:" if columns else "for _ in entries:"
        return [
            "def process(self, rows, out, failed):",
            "    start = end = 0",
            "    arrivals, waiting = self.arrivals, self._waiting",
            "    closed = self.closed",
            f"    for {row_pattern(spec, columns)} in rows:",
            f"        limit = time + {spec.grace + 1}",
            "        if limit <= watermark or limit <= closed:",
            "            failed.append((r, refusal(time, watermark)))",
            "            continue",
            "        if not start <= time < end:",
            f"            start = time - time % {self.step}",
            f"            end = start + {self.step}",
            "            t = self.pane(end)",
            "            if t is None:",
            "                failed.append((r, refusal(time, watermark)))",
            "                start = end",
            "                continue",
            "            dirty = t.dirty.add",
            *indented(for_keys(spec, take), 2),
            "    self.arrivals = arrivals",
            "",
            "",
            "def fresh():",
            f"    return {a.start('0')}",
            "",
            "",
            "def step(a, entries):",
            f"    {entry}",
            *indented(a.steps() or ["pass"], 2),
            "",
            "",
            "def merge(a, b):",
            *indented(a.merges()),
            "",
            "",
            "def give(items, time, final, out):",
            f"    start, end = time - {spec.size - 1}, time + 1",
            "    for key, a in items:",
            *indented(a.result("time", start="start", end="end"), 2),
        ]

    def open(self, store: Store) -> None:
        """See `Kernel`."""
        super().open(store)
        self._panes: TimeTable = store.times("records")

    def restored(self) -> None:
        """See `Kernel`."""
        super().restored()
        self._ends = list(self._panes)
        heapify(self._ends)
        found = []
        for end in self._ends:
            if end + self.spec.grace > self.closed:
                for key, entries in self._panes[end].scan():
                    found += [(entry[1], entry[0], key) for entry in entries]
        for _, time, key in sorted(found, key=_by_arrival):
            if time + 1 + self.spec.grace > self.closed:
                (self._waiting.get(time) or self.wait_for(time)).append(key)

    def pane(self, end: int) -> Table | None:
        """The table of a pane; None: its time is none."""
        if not -LARGEST_TIME < end < LARGEST_TIME:
            return None
        if end not in self._panes:
            heappush(self._ends, end)
        return self._panes[end]

    def wait_for(self, time: int) -> list[Hashable]:
        """The keys, once for each record, that have a result of this time."""
        keys = self._waiting[time] = []
        heappush(self._times, time)
        return keys

    def close_until(self, watermark: int, out: list[Result]) -> None:
        """See `Kernel`."""
        limit = watermark - self.spec.grace
        times = self._times
        if times and times[0] < limit:
            while times and times[0] < limit:
                time = heappop(times)
                totals = [(key, self._total(key, time)) for key in self._waiting.pop(time)]
                self.give(totals, time, True, out)
            self.has_closed(watermark)
        while self._ends and self._ends[0] <= limit - self.spec.size + 1:
            self._forget(heappop(self._ends))

    def _forget(self, end: int) -> None:
        table = self._panes.get(end)
        if table is None:
            return
        for key, _ in table.scan():
            run = self._runs.get(key)
            if run is not None and run.forget(end):
                del self._runs[key]
        self._panes.drop(end)

    def _total(self, key: Hashable, time: int) -> Accumulator:
        """What the window that ends with `time` comes to."""
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = Run(self, key)
        return run.total(time)

    def entries(self, key: Hashable, end: int) -> Sequence[Kept]:
        """A key's records in a pane."""
        table = self._panes.get(end)
        found: Sequence[Kept] | None = None if table is None else table[key]
        return found or ()

    def promise(self, watermark: int) -> int:
        """See `Kernel`."""
        return watermark - self.spec.grace


class Run:
    """One key's way through its records: the parts of its windows that were worked out already.

    Windows are asked for in the order of time, each when all its records are there.
    """

    __slots__ = ("_between", "_end", "_entries", "_first", "_key", "_panes", "_place", "_prefix", "_tails", "_windows")

    def __init__(self, windows: SlidingWindows, key: Hashable) -> None:
        self._windows, self._key = windows, key
        # The last pane, how many of its records are in `_prefix`, and the panes before it, whole.
        self._end = BEGINNING
        self._entries: Sequence[Kept] = ()
        self._place = 0
        self._prefix: Accumulator = []
        self._panes: dict[int, Accumulator] = {}
        # The first pane: what it comes to from each of its records on.
        self._first = BEGINNING
        self._tails: list[Accumulator] = []
        self._between: tuple[tuple[int, int], Accumulator | None] = ((0, 0), None)

    def total(self, time: int) -> Accumulator:
        """See `SlidingWindows._total`."""
        windows, functions = self._windows, self._windows.functions
        size, step = windows.spec.size, windows.step
        start = time + 1 - size
        first, last = start - start % step + step, time - time % step + step
        if first == last:
            total: Accumulator = functions["fresh"]()
            functions["step"](total, [one for one in windows.entries(self._key, last) if start <= one[0] <= time])
            return total
        parts = [self._tail(first, start), self._middle(first, last), self._head(last, time)]
        found = [part for part in parts if part is not None]
        if len(found) == 1:
            return found[0]
        total = functions["fresh"]()
        for part in found:
            functions["merge"](total, part)
        return total

    def _head(self, last: int, time: int) -> Accumulator:
        """The last pane up to a time."""
        functions = self._windows.functions
        if last != self._end:
            if self._end > BEGINNING:
                self._panes[self._end] = self._prefix
            self._end, self._place, self._prefix = last, 0, functions["fresh"]()
        # Later records may have come to it since; earlier ones cannot.
        entries = self._windows.entries(self._key, last)
        place = self._place
        while place < len(entries) and entries[place][0] <= time:
            place += 1
        if place > self._place:
            functions["step"](self._prefix, entries[self._place : place])
            self._place = place
        return self._prefix

    def _tail(self, first: int, start: int) -> Accumulator | None:
        """The first pane from a time on."""
        windows, functions = self._windows, self._windows.functions
        entries = windows.entries(self._key, first)
        if not entries:
            return None
        if first != self._first:
            self._first, self._tails = first, []
            after: Accumulator | None = None
            for entry in reversed(entries):
                tail = functions["fresh"]()
                functions["step"](tail, (entry,))
                if after is not None:
                    functions["merge"](tail, after)
                after = tail
                self._tails.append(tail)
            self._tails.reverse()
        place = bisect_left(entries, start, key=_time)
        return self._tails[place] if place < len(entries) else None

    def _middle(self, first: int, last: int) -> Accumulator | None:
        """The panes between two, which it has been through."""
        if self._between[0] == (first, last):
            return self._between[1]
        windows, functions = self._windows, self._windows.functions
        total: Accumulator | None = None
        for end in range(first + windows.step, last, windows.step):
            pane = self._pane(end)
            if pane is not None:
                if total is None:
                    total = functions["fresh"]()
                functions["merge"](total, pane)
        self._between = ((first, last), total)
        return total

    def _pane(self, end: int) -> Accumulator | None:
        if end == self._end:
            return self._prefix
        found = self._panes.get(end)
        if found is None:
            entries = self._windows.entries(self._key, end)
            if entries:
                found = self._panes[end] = self._windows.functions["fresh"]()
                self._windows.functions["step"](found, entries)
        return found

    def forget(self, end: int) -> bool:
        """A pane is gone; True: it was the last one of the key."""
        self._panes.pop(end, None)
        return self._end <= end


def _time(entry: Kept) -> int:
    time: int = entry[0]
    return time


def _by_arrival(found: tuple[int, int, Hashable]) -> int:
    return found[0]

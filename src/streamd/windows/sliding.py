"""Sliding windows: one result for each record, over the records of its key in the time that ends with it.

A record's result is given when the watermark says that nothing before it is to come, so it does not depend on the order
in which records came. Until no window has it any more, a record is kept in the table of the pane that its time is in.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Final

from streamd.component.state import Store, Table, TimeTable
from streamd.record import Result
from streamd.windows.accumulators import Accumulators, for_keys, row_pattern
from streamd.windows.code import indented
from streamd.windows.kernel import LARGEST_TIME, Kernel
from streamd.windows.run import Functions, Run
from streamd.windows.spec import WindowSpec
from streamd.windows.timers import Timers

# How many panes a window has, about.
PANES: Final = 16


class SlidingWindows(Kernel):
    """Tables {key: its records by their times} of panes of time; beside them each key's records in one list."""

    def __init__(self, spec: WindowSpec) -> None:
        self.step = -(-spec.size // PANES)
        self.runs: dict[Hashable, Run] = {}
        self.waiting = Timers()
        self._ends: list[int] = []
        super().__init__(spec)
        self._kit = Functions(
            spec.size, self.step, self.functions["fresh"], self.functions["step"], self.functions["merge"]
        )

    def written(self, a: Accumulators) -> list[str]:
        """See `Kernel`."""
        spec, columns = self.spec, a.columns
        a.code.constant("insort", insort)
        take = [
            "arrivals += 1",
            f"entry = [{', '.join(['time', 'arrivals', *columns])}]",
            "entries = t[key]",
            "if entries is None: t[key] = [entry]",
            "elif entries[-1][0] <= time: entries.append(entry)",
            "else: insort(entries, entry)",
            "dirty(key)",
            "run = runs.get(key)",
            "if run is None: run = self.run_of(key)",
            "entries = run.entries",
            "if not entries or entries[-1][0] <= time: entries.append(entry)",
            "else: insort(entries, entry)",
            "asked = waiting.get(time)",
            "if asked is None: asked = self.waiting.new(time)",
            "asked.append(run)",
        ]
        values = f"for {', '.join(['_', '_', *columns])} in entries:"
        return [
            "def process(self, rows, out, failed):",
            "    start = end = 0",
            "    arrivals, closed = self.arrivals, self.closed",
            "    runs, waiting = self.runs, self.waiting.at",
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
            f"    {values}",
            *indented(a.steps() or ["pass"], 2),
            "",
            "",
            "def merge(a, b):",
            *indented(a.merges()),
            "",
            "",
            "def give(runs, time, final, out):",
            f"    start, end = time - {spec.size - 1}, time + 1",
            "    for run in runs:",
            "        key, a = run.key, run.total(time)",
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
        for end in sorted(self._ends):
            for key, entries in self._panes[end].scan():
                run = self.runs.get(key) or self.run_of(key)
                run.entries += entries
                found += [(entry[1], entry[0], run) for entry in entries]
        found.sort(key=_by_arrival)
        for _, time, run in found:
            if time + 1 + self.spec.grace > self.closed:
                self.waiting.add(time, run)

    def pane(self, end: int) -> Table | None:
        """The table of a pane; None: its time is none."""
        if not -LARGEST_TIME < end < LARGEST_TIME:
            return None
        if end not in self._panes:
            heappush(self._ends, end)
        return self._panes[end]

    def run_of(self, key: Hashable) -> Run:
        """A new way through a key's records."""
        run = self.runs[key] = Run(self._kit, key)
        return run

    def close_until(self, watermark: int, out: list[Result]) -> None:
        """See `Kernel`."""
        limit = watermark - self.spec.grace
        found = self.waiting.take(limit - 1)
        for time, runs in found:
            self.give(runs, time, True, out)
        if found:
            self.has_closed(watermark)
        while self._ends and self._ends[0] <= limit - self.spec.size + 1:
            self._forget(heappop(self._ends))

    def _forget(self, end: int) -> None:
        """No window has the pane any more."""
        table = self._panes.get(end)
        if table is None:
            return
        runs = self.runs
        for key, _ in table.scan():
            run = runs.get(key)
            if run is not None and run.entries[-1][0] < end:
                del runs[key]
        self._panes.drop(end)

    def promise(self, watermark: int) -> int:
        """See `Kernel`."""
        return watermark - self.spec.grace


def _by_arrival(found: tuple[int, int, Run]) -> int:
    return found[0]

"""Tumbling and hopping windows: aligned to the clock, the same for all keys. Each has a table, by its end.

Hopping ones whose results come when they close are put together from panes instead (hopping.py).
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from math import gcd
from typing import Any

from streamd.component.state import Store, Table, TimeTable
from streamd.record import BEGINNING, Result
from streamd.windows.accumulators import Accumulators, for_keys, guarded, row_pattern
from streamd.windows.code import indented
from streamd.windows.kernel import LARGEST_TIME, Kernel, by_arrival
from streamd.windows.spec import WindowSpec


class AlignedWindows(Kernel):
    """Windows with a table each: tumbling ones, and hopping ones that cannot be put together from panes."""

    def __init__(self, spec: WindowSpec) -> None:
        self.step = spec.size if spec.every == spec.size else gcd(spec.size, spec.every)
        self.own = ("changed",) if spec.periodic else ()
        self._ends: list[int] = []
        self._changes: dict[int, dict[Any, None]] = {}
        super().__init__(spec)

    @property
    def panes(self) -> bool:
        """Whether tables are those of panes."""
        return False

    @property
    def _several(self) -> bool:
        return self.spec.every < self.spec.size and not self.panes

    def written(self, a: Accumulators) -> list[str]:
        """See `Kernel`."""
        end = "window_end" if self._several else "end"
        take = _take(self.spec, a, "t", "t.dirty.add" if self._several else "dirty", end)
        if self._several:
            take = ["for window_end, t in t_of_windows:", *indented(take)]
        table = "t_of_windows" if self._several else "t"
        taking = table if self._several else "t, dirty"
        body = guarded(self.spec, for_keys(self.spec, take))
        a.code.constant("unknown", (BEGINNING, None) if self._several else (BEGINNING, None, None))
        return [
            "def process(self, rows, out, failed):",
            "    start = end = 0",
            "    limit = BEGINNING",
            "    arrivals = self.arrivals",
            "    known = {}",
            *(["    due = self.due"] if self.spec.periodic else []),
            f"    for {row_pattern(self.spec, a.columns)} in rows:",
            *(["        if watermark >= due: due = self.early(watermark, out)"] if self.spec.periodic else []),
            "        if not start <= time < end:",
            f"            start = time - {_into(self.spec, self.step)}",
            f"            end = start + {self.step}",
            f"            limit, {taking} = known.get(end, unknown)",
            "        if watermark >= limit:",
            f"            limit, {table} = self.open_at(end, watermark, out)",
            f"            if {table} is None:",
            "                failed.append((r, refusal(time, watermark)))",
            "                limit = BEGINNING",
            "                continue",
            *([] if self._several else ["            dirty = t.dirty.add"]),
            f"            known[end] = limit, {taking}",
            *indented(body, 2),
            "    self.arrivals = arrivals",
            "",
            "",
            *_give(self.spec, a),
        ]

    def open(self, store: Store) -> None:
        """See `Kernel`."""
        super().open(store)
        pack, unpack = self.accumulators.coders()
        self._times: TimeTable = store.times("panes" if self.panes else "windows", pack, unpack)

    def restored(self) -> None:
        """See `Kernel`."""
        super().restored()
        self._ends = list(self._times)
        heapify(self._ends)
        if self.spec.periodic:
            for end in self._ends:
                for key, accumulator in self._times[end].scan():
                    if accumulator[1]:
                        self.changed(end, key)

    def open_at(self, end: int, watermark: int, out: list[Result]) -> tuple[int, Any]:
        """(the watermark at which that is no longer so, what takes the records of a step); None: all are late.

        What takes them is the table of the window, or (end, table) of all windows that are open.
        """
        grace, passed = self.spec.grace, max(watermark, self.closed)
        if not -LARGEST_TIME < end < LARGEST_TIME:
            return BEGINNING, None
        ends = [one for one in self.windows_of(end) if one + grace > passed]
        if not ends:
            return BEGINNING, None
        for one in ends:
            if one not in self._times:
                heappush(self._ends, one)
        if not self._several:
            return ends[0] + grace, self._times[ends[0]]
        return ends[0] + grace, [(one, self._times[one]) for one in ends]

    def windows_of(self, end: int) -> range:
        """The ends of all windows that hold the step with this end."""
        size, every, offset = self.spec.size, self.spec.every, self.spec.offset
        first = end + (offset + size - end) % every
        last = end - self.step - (end - self.step - offset) % every + size
        return range(first, last + 1, every)

    def close_until(self, watermark: int, out: list[Result]) -> None:
        """See `Kernel`."""
        ends, limit = self._ends, watermark - self.spec.grace
        if not (ends and ends[0] <= limit):
            return
        while ends and ends[0] <= limit:
            self._close(heappop(ends), out)
        self.has_closed(watermark)

    def _close(self, end: int, out: list[Result]) -> None:
        table = self._times.get(end)
        if table is not None:
            self.give(by_arrival(table.scan()), end, True, out)
            self._times.drop(end)
        self._changes.pop(end, None)

    def promise(self, watermark: int) -> int:
        """See `Kernel`: the least end of a window that is not closed by the watermark, less 1."""
        past = watermark - self.spec.grace
        return past + self.spec.every - (past - self.spec.offset - self.spec.size) % self.spec.every - 1

    def changed(self, end: int, key: Any) -> None:
        """A key's early result is to be given."""
        self._changes.setdefault(end, {})[key] = None

    def give_early(self, watermark: int, out: list[Result]) -> None:
        """See `Kernel`."""
        for end in sorted(self._changes):
            keys = self._changes.pop(end)
            table = self._times.get(end)
            if end + self.spec.grace > watermark and table is not None:
                self._give_changed(table, end, list(keys), out)

    def _give_changed(self, table: Table, end: int, keys: list[Any], out: list[Result]) -> None:
        found = [(key, table[key]) for key in keys]
        items = by_arrival(item for item in found if item[1] is not None)
        self.give(items, end, False, out)
        for _, key, accumulator in items:
            accumulator[1] = 0
            table.dirty.add(key)


def _into(spec: WindowSpec, step: int) -> str:
    offset = spec.offset % step
    return f"(time - {offset}) % {step}" if offset else f"time % {step}"


def _take(spec: WindowSpec, a: Accumulators, table: str, dirty: str, end: str) -> list[str]:
    """What one table does with one key of a row."""
    own = ["arrivals", "0"] if spec.periodic else ["arrivals"]
    lines = [f"undo.append(({table}, key, deepcopy({table}[key])))"] if spec.fallible else []
    lines += [
        f"a = {table}[key]",
        "if a is None:",
        "    arrivals += 1",
        f"    a = {table}[key] = {a.start(*own)}",
        *a.steps(),
        f"{dirty}(key)",
    ]
    if spec.periodic:
        lines += ["if not a[1]:", "    a[1] = 1", f"    self.changed({end}, key)"]
    if spec.emit == "update":
        lines += a.result(f"{end} - 1", start=f"{end} - {spec.size}", end=end, final="False")
    return lines


def _give(spec: WindowSpec, a: Accumulators) -> list[str]:
    return [
        "def give(items, end, final, out):",
        f"    start = end - {spec.size}",
        "    time = end - 1",
        "    for _, key, a in items:",
        *indented(a.result("time", start="start", end="end", final="final"), 2),
    ]

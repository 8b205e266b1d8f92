"""One window for ever: what all records of a key come to, with each record, from time to time, or at the end."""

from __future__ import annotations

from collections.abc import Hashable

from streamd.component.state import Store, Table
from streamd.record import END, Result
from streamd.windows.accumulators import Accumulators, for_keys, guarded, row_pattern
from streamd.windows.code import indented
from streamd.windows.kernel import Kernel, by_arrival
from streamd.windows.spec import WindowSpec

# The slots of a key.
ARRIVAL, LAST, CHANGED = range(3)


class RunningTotals(Kernel):
    """A table {key: its accumulator}, which nothing closes."""

    def __init__(self, spec: WindowSpec) -> None:
        self.own = ("last", *(["changed"] if spec.periodic else []))
        self._changes: dict[Hashable, None] = {}
        super().__init__(spec)

    def written(self, a: Accumulators) -> list[str]:
        """See `Kernel`."""
        spec = self.spec
        own = ["arrivals", "time", *(["0"] if spec.periodic else [])]
        at = ["at = time if time > watermark else watermark"]
        take = [
            *(["undo.append((table, key, deepcopy(table[key])))"] if spec.fallible else []),
            "a = table[key]",
            "if a is None:",
            "    arrivals += 1",
            f"    a = table[key] = {a.start(*own)}",
            "elif time > a[1]: a[1] = time",
            *a.steps(),
            "dirty(key)",
            *(["if not a[2]:", "    a[2] = 1", "    self.changed(key)"] if spec.periodic else []),
            *([*at, *a.result("at", final="False")] if spec.emit == "update" else []),
        ]
        return [
            "def process(self, rows, out, failed):",
            "    table = self.table",
            "    dirty = table.dirty.add",
            "    arrivals = self.arrivals",
            *(["    due = self.due"] if spec.periodic else []),
            f"    for {row_pattern(spec, a.columns)} in rows:",
            *(["        if watermark >= due: due = self.early(watermark, out)"] if spec.periodic else []),
            *indented(guarded(spec, for_keys(spec, take)), 2),
            "    self.arrivals = arrivals",
            "    if rows: self.note('watermark', watermark)",
            "",
            "",
            "def give(items, watermark, final, out):",
            "    for _, key, a in items:",
            "        time = a[1] if a[1] > watermark else watermark",
            *indented(a.result("time", final="final"), 2),
        ]

    def open(self, store: Store) -> None:
        """See `Kernel`."""
        super().open(store)
        self.table: Table = store.table("totals", *self.accumulators.coders())

    def restored(self) -> None:
        """See `Kernel`."""
        super().restored()
        if self.spec.periodic:
            self._changes = {key: None for key, accumulator in self.table.scan() if accumulator[CHANGED]}

    def close_until(self, watermark: int, out: list[Result]) -> None:
        """See `Kernel`: the end of all input gives everything, and it is kept all the same."""
        if watermark < END:
            self.watermark = watermark
            return
        self.give(by_arrival(self.table.scan()), self.watermark, True, out)

    def promise(self, watermark: int) -> int:
        """See `Kernel`: a result is never before the watermark at which it was made."""
        return watermark

    def changed(self, key: Hashable) -> None:
        """A key's early result is to be given."""
        self._changes[key] = None

    def give_early(self, watermark: int, out: list[Result]) -> None:
        """See `Kernel`."""
        found = [(key, self.table[key]) for key in self._changes]
        self._changes.clear()
        items = by_arrival(item for item in found if item[1] is not None)
        self.give(items, watermark, False, out)
        for _, key, accumulator in items:
            accumulator[CHANGED] = 0
            self.table.dirty.add(key)

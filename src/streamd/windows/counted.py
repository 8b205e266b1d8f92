"""Windows of so many records of a key, in the order in which they come; time has no part in it.

The last records of a key are kept in panes of as many as all windows are made of; a window is merged from its panes.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import gcd
from typing import Any

from streamd.component.state import Store, Table
from streamd.record import END, Result
from streamd.windows.accumulators import Accumulators, Coder, for_keys, guarded, row_pattern
from streamd.windows.code import indented
from streamd.windows.kernel import Accumulator, Kernel
from streamd.windows.spec import WindowSpec

# The slots of a pane. TURN: its number among the panes between two results.
ARRIVAL, COUNT, FIRST, LAST, TURN = range(5)


class CountedWindows(Kernel):
    """A table {key: its panes}."""

    own = ("count", "first", "last", "turn")

    def __init__(self, spec: WindowSpec) -> None:
        self._pane = gcd(spec.size, spec.every)
        self._turns = spec.every // self._pane
        self._kept = (spec.size - spec.every) // self._pane  # panes that the next window has, too
        super().__init__(spec)

    def written(self, a: Accumulators) -> list[str]:
        """See `Kernel`."""
        spec, turns, tumbling = self.spec, self._turns, self._kept == 0 and self._turns == 1
        begin = f"{a.start('arrivals', '0', 'time', 'time', 'turn')}"
        full = [f"if a[1] == {self._pane} and a[4] == {turns - 1}:"]
        if tumbling:
            full = [f"if a[1] == {self._pane}:", "    b = a", "    table.remove(key)"]
        else:
            full += ["    b = joined(s)", f"    del s[:{-self._kept}]"]
        given = ["time = b[3] if b[3] > watermark else watermark"]
        given += a.result("time", start="b[2]", end="b[3] + 1", final="True", a="b")
        full += indented(given)
        if spec.emit == "update":
            early = ["b = a"] if tumbling else ["b = joined(s)"]
            early += ["time = b[3] if b[3] > watermark else watermark"]
            early += a.result("time", start="b[2]", end="b[3] + 1", final="False", a="b")
            full += ["else:", *indented(early)]
        take = [
            "s = table[key]",
            *(["undo.append((table, key, deepcopy(s)))"] if spec.fallible else []),
            "if s is None:",
            "    arrivals += 1",
            "    turn = 0",
            f"    s = table[key] = [{begin}]",
            *(
                []
                if tumbling
                else [
                    f"elif s[-1][1] == {self._pane}:",
                    "    arrivals += 1",
                    f"    turn = (s[-1][4] + 1) % {turns}",
                    f"    s.append({begin})",
                ]
            ),
            "a = s[-1]",
            *a.steps(),
            "a[1] += 1",
            "if at > a[3]: a[3] = at",
            "elif at < a[2]: a[2] = at",
            "dirty(key)",
            *full,
        ]
        body = ["at = time", *guarded(spec, for_keys(spec, take))]
        return [
            "def process(self, rows, out, failed):",
            "    table = self.table",
            "    dirty = table.dirty.add",
            "    arrivals = self.arrivals",
            f"    for {row_pattern(spec, a.columns)} in rows:",
            *indented(body, 2),
            "    self.arrivals = arrivals",
            "    if rows: self.note('watermark', watermark)",
            "",
            "",
            "def joined(panes):",
            "    turn = 0",
            "    arrivals, time = panes[0][0], panes[0][2]",
            f"    a = {begin}",
            "    a[3] = panes[0][3]",
            "    for b in panes:",
            "        a[1] += b[1]",
            "        if b[2] < a[2]: a[2] = b[2]",
            "        if b[3] > a[3]: a[3] = b[3]",
            *indented(a.merges(), 2),
            "    return a",
            "",
            "",
            "def give(items, watermark, final, out):",
            "    for key, b in items:",
            *indented(given, 2),
        ]

    def open(self, store: Store) -> None:
        """See `Kernel`."""
        super().open(store)
        pack, unpack = self.accumulators.coders()
        self.table: Table = store.table("counts", _each(pack), _each(unpack))

    def close_until(self, watermark: int, out: list[Result]) -> None:
        """See `Kernel`: only the end of all input closes a window that is not full."""
        if watermark < END:
            self.watermark = watermark
            return
        found: list[tuple[Hashable, Accumulator]] = []
        for key, panes in list(self.table.scan()):
            if panes[-1][COUNT] < self._pane or panes[-1][TURN] < self._turns - 1:
                found.append((key, self.functions["joined"](panes)))
            self.table.remove(key)
        found.sort(key=_by_end)
        self.give(found, self.watermark, True, out)

    def promise(self, watermark: int) -> int:
        """See `Kernel`: a result is never before the watermark at which it was made."""
        return watermark


def _each(coder: Coder | None) -> Coder | None:
    return None if coder is None else lambda panes: [coder(pane) for pane in panes]


def _by_end(item: tuple[Hashable, Accumulator]) -> tuple[Any, Any]:
    return item[1][LAST], item[1][ARRIVAL]

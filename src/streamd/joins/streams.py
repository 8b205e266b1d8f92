"""Two streams joined: each row meets those of the other side that came before it.

A row `[time, id?, column, …]` is kept under its key. What it meets depends on the rows' times and on its own
watermark alone, never on when the watermark was told; `advance` forgets only what no row can meet any more. There are
three kinds:

- within: right's time is between left's − before and left's + after. A row behind its watermark by more than `grace` is
  late. Rows lie in slots of time, which are forgotten as a whole.
- keep: rows meet while the older one's time + keep has not passed. Nothing is late. Slots as well.
- neither: rows are kept for ever.

A row of an outer side that found nobody is given once nobody can come.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeAlias

from streamd.component.state import Store
from streamd.expr import failure
from streamd.joins.kept import all_rows, spill
from streamd.joins.results import Results, key_bytes, late
from streamd.joins.sides import LEFT, RIGHT
from streamd.joins.slots import Slots
from streamd.joins.stream_source import NAMES, lines
from streamd.record import BEGINNING, END, RawRecord, Result

Failed: TypeAlias = list[tuple[RawRecord, Exception]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """When rows meet, in ms. `within`: right's time from left's, (before, after); or else `keep`; or for ever."""

    within: tuple[int, int] | None = None
    keep: int | None = None
    grace: int = 0

    @property
    def slot(self) -> int | None:
        """The size of a slot of time; None where there are none. A row looks into three of them."""
        if self.within is not None:
            return max(1, (sum(self.within) + 1) // 2)
        return None if self.keep is None else max(1, self.keep // 4)

    def forgotten(self, side: int, watermark: int) -> int:
        """The time before which no row of a side can meet anyone who comes at this watermark, or later."""
        if self.within is not None:
            return watermark - self.grace - self.within[1 if side == LEFT else 0]
        assert self.keep is not None
        return watermark - self.keep


class StreamJoin:
    """The kernel and its state in one task. `outer`: whether rows of left and right that find nobody are given."""

    def __init__(self, results: Results, bounds: Bounds, outer: tuple[bool, bool]) -> None:
        self._bounds, self._outer = bounds, outer
        namespace: dict[str, Any] = {
            "Result": Result, "failure": failure, "late": late, "key_bytes": key_bytes, "spill": spill,
            "all_rows": all_rows, "heappush": heapq.heappush, "WORDS": results.words,
        }  # fmt: skip
        written = lines(results, bounds.within, bounds.keep, bounds.grace, bounds.slot, outer, namespace)
        self.source = "\n".join(written) + "\n"
        exec(compile(self.source, "<streamd join>", "exec"), namespace)
        self._process: Callable[..., None] = namespace["process"]
        self._alone = tuple(
            eval(f"lambda row: {results.alone(side, 'row', namespace)}", namespace) for side in (LEFT, RIGHT)
        )
        # Of each outer side, {time: keys of rows that found nobody so far} and a heap of these times.
        self._open: tuple[dict[int, list[Hashable]], dict[int, list[Hashable]]] = ({}, {})
        self._heaps: tuple[list[int], list[int]] = ([], [])

    def open(self, store: Store) -> None:
        """Take the tables."""
        self._slots: tuple[Slots, ...] = ()
        if self._bounds.slot is None:
            left, right = store.table("left"), store.table("right")
            self._tables: tuple[Any, ...] = left, right, store.table("left_chunks"), store.table("right_chunks")
            return
        self._slots = tuple(Slots(store, name, flagged=outer) for name, outer in zip(NAMES, self._outer, strict=True))
        self._tables = (*self._slots, *self._open, *self._heaps)
        # {side: the time up to which rows that found nobody were given}
        self._given = store.table("given")

    def restored(self) -> None:
        """Find the rows, and those that wait."""
        for side, slots in enumerate(self._slots):
            slots.restored()
            if not self._outer[side]:
                continue
            given = self._given[NAMES[side]]
            for table in slots.rows.values():
                for key, rows in table.items():
                    for row in rows:
                        if row[1] and (given is None or row[0] >= given):
                            self._wait(side, row[0], key)

    def _wait(self, side: int, time: int, key: Hashable) -> None:
        waiting = self._open[side].get(time)
        if waiting is None:
            self._open[side][time] = [key]
            heapq.heappush(self._heaps[side], time)
        else:
            waiting.append(key)

    def process(self, rows: list[tuple[Any, ...]], out: list[Result], failed: Failed) -> None:
        """Take rows `(r, time, watermark, port, key, kept row)`."""
        self._process(rows, out, failed, *self._tables)

    def advance(self, watermark: int, out: list[Result]) -> int:
        """Give what found nobody, forget what nobody can meet. The watermark of what is still to be given."""
        size = self._bounds.slot
        if size is None or watermark == BEGINNING:
            return watermark
        held = watermark - (self._bounds.grace if self._bounds.within is not None else 0)
        for side, slots in enumerate(self._slots):
            bound = END if watermark == END else self._bounds.forgotten(side, watermark)
            if self._outer[side]:
                self._give(side, bound, size, out)
                held = min(held, bound)
            slots.forget(bound, size)
        return END if watermark == END else held

    def _give(self, side: int, bound: int, size: int, out: list[Result]) -> None:
        """Give the rows before `bound` that found nobody."""
        heap, waiting, alone = self._heaps[side], self._open[side], self._alone[side]
        if not heap or heap[0] >= bound:
            return
        slots = self._slots[side].rows
        while heap and heap[0] < bound:
            time = heapq.heappop(heap)
            table = slots[time - time % size]
            for key in dict.fromkeys(waiting.pop(time)):
                found = [row for row in table[key] if row[0] == time and row[1]]
                out += [Result(alone(row), key_bytes(key), time) for row in found]
        if bound != END:
            self._given[NAMES[side]] = bound
            self._given.dirty.add(NAMES[side])

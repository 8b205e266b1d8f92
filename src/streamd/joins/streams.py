"""Two streams joined: each row meets those of the other side that came before it.

A row `[time, matched?, column, …]` is kept under its key. What it meets depends on the rows' times and on its own
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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from streamd.component.stage import BEGINNING, END
from streamd.component.state import Store
from streamd.expr import failure
from streamd.joins.kept import CHUNK, Kept, all_rows, scan_rows, spill, touched
from streamd.joins.results import Results, key_bytes, late
from streamd.joins.sides import LEFT, RIGHT
from streamd.record import RawRecord, Result

Failed: TypeAlias = list[tuple[RawRecord, Exception]]
NAMES = ("left", "right")


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
        self._results, self._bounds, self._outer = results, bounds, outer
        self._namespace: dict[str, Any] = {
            "Result": Result, "failure": failure, "late": late, "key_bytes": key_bytes, "spill": spill,
            "all_rows": all_rows, "touched": touched, "heappush": heapq.heappush, "WORDS": results.words,
        }  # fmt: skip
        self.source = "\n".join(_Writer(results, bounds, outer, self._namespace).lines()) + "\n"
        exec(compile(self.source, "<streamd join>", "exec"), self._namespace)
        self._process: Callable[..., None] = self._namespace["process"]
        self._alone = tuple(
            eval(f"lambda row: {results.alone(side, 'row', self._namespace)}", self._namespace)
            for side in (LEFT, RIGHT)
        )
        # Of each outer side, {time: keys of rows that found nobody so far} and a heap of these times.
        self._open: tuple[dict[int, list[Any]], dict[int, list[Any]]] = ({}, {})
        self._heaps: tuple[list[int], list[int]] = ([], [])

    def open(self, store: Store) -> None:
        """Take the tables."""
        timed = self._bounds.slot is not None
        make: Any = store.times if timed else store.table
        self._rows: tuple[Any, Any] = (make("left"), make("right"))
        self._more: tuple[Any, Any] = (make("left_chunks"), make("right_chunks"))
        # {side: the time up to which rows that found nobody were given}
        self._given = store.table("given")

    def restored(self) -> None:
        """Find the rows that wait."""
        for side, name in enumerate(NAMES):
            if not self._outer[side]:
                continue
            given = self._given[name]
            for slot in sorted(self._rows[side]):
                more = self._more[side].get(slot)
                for key, row in scan_rows(self._rows[side][slot], more):
                    if row[0] >= 0 and not row[1] and (given is None or row[0] >= given):
                        self._wait(side, row[0], key)

    def _wait(self, side: int, time: int, key: Any) -> None:
        waiting = self._open[side].get(time)
        if waiting is None:
            self._open[side][time] = [key]
            heapq.heappush(self._heaps[side], time)
        else:
            waiting.append(key)

    def process(self, rows: list[tuple[Any, ...]], out: list[Result], failed: Failed) -> None:
        """Take rows `(r, time, watermark, port, key, kept row)`."""
        self._process(rows, out, failed, *self._rows, *self._more, *self._open, *self._heaps)

    def advance(self, watermark: int, out: list[Result]) -> int:
        """Give what found nobody, forget what nobody can meet. The watermark of what is still to be given."""
        if self._bounds.slot is None or watermark == BEGINNING:
            return watermark
        held = watermark - (self._bounds.grace if self._bounds.within is not None else 0)
        for side in (LEFT, RIGHT):
            bound = END if watermark == END else self._bounds.forgotten(side, watermark)
            if self._outer[side]:
                self._give(side, bound, out)
                held = min(held, bound)
            self._forget(side, bound)
        return END if watermark == END else held

    def _give(self, side: int, bound: int, out: list[Result]) -> None:
        """Give the rows before `bound` that found nobody."""
        heap, waiting, alone = self._heaps[side], self._open[side], self._alone[side]
        if not heap or heap[0] >= bound:
            return
        slot = self._bounds.slot
        assert slot is not None
        while heap and heap[0] < bound:
            time = heapq.heappop(heap)
            start = time - time % slot
            table, more = self._rows[side][start], self._more[side].get(start)
            for key in dict.fromkeys(waiting.pop(time)):
                rows: list[Kept] = table[key]
                if rows[0][0] < 0 and more is not None:
                    rows = all_rows(more, key, rows)
                found = [row for row in rows if row[0] == time and not row[1]]
                out += [Result(alone(row), key_bytes(key), time) for row in found]
        if bound != END:
            self._given[NAMES[side]] = bound
            self._given.dirty.add(NAMES[side])

    def _forget(self, side: int, bound: int) -> None:
        slot = self._bounds.slot
        assert slot is not None
        times = self._rows[side]
        if not len(times):
            return
        for start in [start for start in times if start + slot <= bound]:
            times.drop(start)
            self._more[side].drop(start)


class _Writer:
    """Writes the loop over rows, as a person would for just this join."""

    def __init__(self, results: Results, bounds: Bounds, outer: tuple[bool, bool], namespace: dict[str, Any]) -> None:
        self._results, self._bounds, self._outer, self._namespace = results, bounds, outer, namespace

    def lines(self) -> list[str]:
        args = "left, right, left_more, right_more, left_open, right_open, left_heap, right_heap"
        lines = [
            f"def process(rows, out, failed, {args}):",
            "    give = out.append",
            "    for r, time, watermark, port, key, row in rows:",
        ]
        if self._bounds.within is not None:
            limit = f"watermark - {self._bounds.grace}" if self._bounds.grace else "watermark"
            lines += [
                f"        if time < {limit}:",
                f"            failed.append((r, late({limit} - time)))",
                "            continue",
            ]
        lines += ["        mark = len(out)", "        try:", "            if port:"]
        lines += [" " * 16 + line for line in self._meet(RIGHT)]
        lines += ["            else:"]
        lines += [" " * 16 + line for line in self._meet(LEFT)]
        lines += [
            "        except Exception as error:",
            "            del out[mark:]",
            "            failed.append((r, failure(error, WORDS)))",
            "            continue",
        ]
        lines += ["        if port:"]
        lines += [" " * 12 + line for line in self._keep(RIGHT)]
        lines += ["        else:"]
        lines += [" " * 12 + line for line in self._keep(LEFT)]
        return lines

    def _meet(self, side: int) -> list[str]:
        """A row of this side meets those of the other one."""
        other, flagged = 1 - side, self._outer[1 - side]
        name = NAMES[other]
        lines = ["hits = []"] if flagged else []
        if self._outer[side]:
            lines += ["matched = 0"]
        if self._bounds.within is not None:
            before, after = self._bounds.within if side == LEFT else self._bounds.within[::-1]
            lines += [
                f"low, high = time - {before}, time + {after}",
                "if low < 0: low = 0",
                f"slot = low - low % {self._bounds.slot}",
                "while slot <= high:",
                f"    table = {name}.get(slot)",
                "    if table is not None:",
                *(" " * 8 + line for line in self._rows_of(side, f"{name}_more.get(slot)", "low <= other[0] <= high")),
                f"    slot += {self._bounds.slot}",
            ]
        elif self._bounds.keep is not None:
            lines += [
                f"low = watermark - {self._bounds.keep}",
                "if low < 0: low = 0",
                f"for slot in {name}:",
                f"    table = {name}.get(slot)",
                *(" " * 4 + line for line in self._rows_of(side, f"{name}_more.get(slot)", "other[0] >= low")),
            ]
        else:
            lines += [f"table = {name}", *self._rows_of(side, f"{name}_more", "other[0] >= 0")]
        if self._outer[side] and self._results.alone_may_fail:
            lines += [f"if not matched: {self._results.alone(side, 'row', self._namespace)}"]
        return lines

    def _rows_of(self, side: int, more: str, condition: str) -> list[str]:
        """What is done with the rows of the other side in `table`."""
        rows = ("row", "other") if side == LEFT else ("other", "row")
        where = self._results.where(rows, self._namespace)
        if where is not None:
            condition += f" and ({where})"
        later = "time if time > other[0] else other[0]"
        lines = [
            "found = table[key]",
            "if found is not None:",
            "    name = key.encode() if key.__class__ is str else key_bytes(key)",
            f"    if found[0][0] < 0: found = all_rows({more}, key, found)",
            "    for other in found:",
            f"        if {condition}:",
            f"            give(Result({self._results.pair(rows, self._namespace)}, name, {later}))",
        ]
        if self._outer[side]:
            lines += ["            matched = 1"]
        if self._outer[1 - side]:
            lines += ["            if not other[1]: hits.append((slot, other))"]
        return lines

    def _keep(self, side: int) -> list[str]:
        """Keep the row, and remember who was met."""
        name, other = NAMES[side], NAMES[1 - side]
        lines: list[str] = []
        if self._outer[1 - side]:
            lines += [
                "for slot, other in hits:",
                "    other[1] = 1",
                f"    touched({other}[slot], {other}_more.get(slot), key, (other,))",
            ]
        if self._bounds.keep is not None:
            alone = self._results.alone(side, "row", self._namespace)
            lines += [f"if time < watermark - {self._bounds.keep}:"]
            if self._outer[side]:
                lines += [f"    if not matched: give(Result({alone}, key_bytes(key), time))"]
            lines += ["    continue"]
        if self._outer[side]:
            lines += [
                "if matched:",
                "    row[1] = 1",
                "else:",
                f"    waiting = {name}_open.get(time)",
                "    if waiting is None:",
                f"        {name}_open[time] = [key]",
                f"        heappush({name}_heap, time)",
                "    else:",
                "        waiting.append(key)",
            ]
        table, more = name, f"{name}_more"
        if self._bounds.slot is not None:
            lines += [f"slot = time - time % {self._bounds.slot}", f"table = {name}[slot]"]
            table, more = "table", f"{name}_more[slot]"
        return [
            *lines,
            f"found = {table}[key]",
            "if found is None:",
            f"    {table}[key] = [row]",
            "else:",
            f"    if len(found) > {CHUNK}: found = spill({table}, {more}, key, found)",
            "    found.append(row)",
            f"{table}.dirty.add(key)",
        ]

"""Writes the loop over rows of a join of two streams, as a person would for just this join."""

from __future__ import annotations

from typing import Any

from streamd.joins.kept import CHUNK
from streamd.joins.results import Results
from streamd.joins.sides import LEFT, RIGHT

NAMES = ("left", "right")


def lines(
    results: Results,
    within: tuple[int, int] | None,
    keep: int | None,
    grace: int,
    slot: int | None,
    outer: tuple[bool, bool],
    namespace: dict[str, Any],
) -> list[str]:
    """The function `process(rows, out, failed, …)`. Rows lie in slots of `slot` ms, or without it in tables by key."""
    return _Writer(results, within, keep, grace, slot, outer, namespace).lines()


class _Writer:
    def __init__(
        self,
        results: Results,
        within: tuple[int, int] | None,
        keep: int | None,
        grace: int,
        slot: int | None,
        outer: tuple[bool, bool],
        namespace: dict[str, Any],
    ) -> None:
        self._results, self._within, self._keep_ms, self._grace = results, within, keep, grace
        self._slot, self._outer, self._namespace = slot, outer, namespace

    def lines(self) -> list[str]:
        lines = self._head()
        if self._within is not None:
            limit = f"watermark - {self._grace}" if self._grace else "watermark"
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

    def _head(self) -> list[str]:
        loop = ["    give = out.append", "    for r, time, watermark, port, key, row in rows:"]
        if self._slot is None:
            return ["def process(rows, out, failed, left, right, left_chunks, right_chunks):", *loop]
        args = "left_slots, right_slots, left_open, right_open, left_heap, right_heap"
        lines = [f"def process(rows, out, failed, {args}):"]
        for side, name in enumerate(NAMES):
            lines += [f"    {name}, {name}_log = {name}_slots.rows, {name}_slots.added"]
            # The batches that are being filled: none of them is committed before this batch of rows is through.
            lines += [f"    {name}_added = {{}}"]
            if self._outer[side]:
                lines += [f"    {name}_met = {name}_slots.met.at"]
        return lines + loop

    def _meet(self, side: int) -> list[str]:
        """A row of this side meets those of the other one."""
        name = NAMES[1 - side]
        lines = ["hits = []"] if self._outer[1 - side] else []
        if self._outer[side]:
            lines += ["matched = False"]
        if self._within is not None:
            before, after = self._within if side == LEFT else self._within[::-1]
            lines += [
                f"low, high = {_plus('time', -before)}, {_plus('time', after)}",
                f"slot = low - low % {self._slot}",
                "while slot <= high:",
                f"    table = {name}.get(slot)",
                "    if table is not None:",
                *(" " * 8 + line for line in self._rows_of(side, "low <= other[0] <= high")),
                f"    slot += {self._slot}",
            ]
        elif self._keep_ms is not None:
            lines += [
                f"low = watermark - {self._keep_ms}",
                f"for slot, table in {name}.items():",
                *(" " * 4 + line for line in self._rows_of(side, "other[0] >= low")),
            ]
        else:
            lines += [f"table = {name}", *self._rows_of(side, "other[0] >= 0")]
        if self._outer[side] and self._results.alone_may_fail:
            lines += [f"if not matched: {self._results.alone(side, 'row', self._namespace)}"]
        return lines

    def _rows_of(self, side: int, condition: str) -> list[str]:
        """What is done with the rows of the other side in `table`."""
        rows = ("row", "other") if side == LEFT else ("other", "row")
        where = self._results.where(rows, self._namespace)
        if where is not None:
            condition += f" and ({where})"
        later = "time if time > other[0] else other[0]"
        lines = ["found = table.get(key)" if self._slot is not None else "found = table[key]", "if found is not None:"]
        if self._slot is None:
            lines += [f"    if found[0][0] < 0: found = all_rows({NAMES[1 - side]}_chunks, key, found)"]
        lines += [
            "    name = key.encode() if key.__class__ is str else key_bytes(key)",
            "    for other in found:",
            f"        if {condition}:",
            f"            give(Result({self._results.pair(rows, self._namespace)}, name, {later}))",
        ]
        if self._outer[side]:
            lines += ["            matched = True"]
        if self._outer[1 - side]:
            lines += ["            if other[1]: hits.append((slot, other))"]
        return lines

    def _keep(self, side: int) -> list[str]:
        """Keep the row, and remember who was met."""
        lines: list[str] = []
        if self._outer[1 - side]:
            lines += [
                "for slot, other in hits:",
                f"    {NAMES[1 - side]}_met(slot).append(other[1])",
                "    other[1] = 0",
            ]
        if self._keep_ms is not None:
            lines += [f"if time < watermark - {self._keep_ms}:"]
            if self._outer[side]:
                alone = self._results.alone(side, "row", self._namespace)
                lines += [f"    if not matched: give(Result({alone}, key_bytes(key), time))"]
            lines += ["    continue"]
        if self._outer[side]:
            lines += self._wait(NAMES[side])
        return lines + (self._keep_for_ever(NAMES[side]) if self._slot is None else self._keep_in_slot(NAMES[side]))

    def _wait(self, name: str) -> list[str]:
        """A row that has met nobody gets an id, and waits."""
        return [
            "if not matched:",
            f"    {name}_slots.last_id = row[1] = {name}_slots.last_id + 1",
            f"    waiting = {name}_open.get(time)",
            "    if waiting is None:",
            f"        {name}_open[time] = [key]",
            f"        heappush({name}_heap, time)",
            "    else:",
            "        waiting.append(key)",
        ]

    def _keep_in_slot(self, name: str) -> list[str]:
        return [
            f"slot = time - time % {self._slot}",
            f"batch = {name}_added.get(slot)",
            "if batch is None:",
            f"    batch = {name}_added[slot] = {name}_log.at(slot)",
            f"    if slot not in {name}: {name}[slot] = {{}}",
            "batch += (key if key.__class__ is not bytes else [key.decode()], row)",
            f"table = {name}[slot]",
            "found = table.get(key)",
            "if found is None:",
            "    table[key] = [row]",
            "else:",
            "    found.append(row)",
        ]

    def _keep_for_ever(self, name: str) -> list[str]:
        return [
            f"found = {name}[key]",
            "if found is None:",
            f"    {name}[key] = [row]",
            "else:",
            f"    if len(found) > {CHUNK}: found = spill({name}, {name}_chunks, key, found)",
            "    found.append(row)",
            f"{name}.dirty.add(key)",
        ]


def _plus(name: str, number: int) -> str:
    return name if not number else f"{name} {'+' if number > 0 else '-'} {abs(number)}"

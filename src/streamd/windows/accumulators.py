"""Accumulators: the list that is kept of a key in a window, first the window's own slots, then those of each aggregate.

Slot 0 always is the number of the key's arrival: by it results come in the order in which keys came, whatever order a
table has after a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from streamd.component.grouping import named_key
from streamd.expr import Aggregate
from streamd.expr.aggregates import columns_of
from streamd.record import Result
from streamd.windows.code import Code, indented
from streamd.windows.spec import WindowSpec

Coder = Callable[[Any], Any]


class Accumulators:
    """The source of what is done with accumulators. `own`: names of the window's slots."""

    def __init__(self, spec: WindowSpec, own: Sequence[str], code: Code) -> None:
        self.spec, self.own, self.code = spec, ("arrival", *own), code
        # What is kept is in the order of names, whatever the order is that they are written in.
        self._slots: dict[str, range] = {}
        size = len(self.own)
        for name in sorted(spec.aggregates):
            self._slots[name] = range(size, size + spec.aggregates[name].slots)
            size += spec.aggregates[name].slots
        self._columns = columns_of(list(spec.aggregates.values()), "x")
        self._arguments = {name: self._columns.arguments(n) for n, name in enumerate(spec.aggregates)}

    def _each(self) -> list[tuple[Aggregate, range]]:
        return [(self.spec.aggregates[name], slots) for name, slots in self._slots.items()]

    @property
    def columns(self) -> list[str]:
        """What a row has for the aggregates, by the names that it has in kernels."""
        return list(self._columns.names)

    def start(self, *own: str) -> str:
        """A new accumulator, with these sources of its own slots."""
        starts = [aggregate.start_source() for aggregate, _ in self._each() if aggregate.slots]
        return f"[{', '.join([*own, *starts])}]"

    def steps(self, a: str = "a") -> list[str]:
        """Take the row's arguments."""
        lines: list[str] = []
        for name, slots in self._slots.items():
            aggregate = self.spec.aggregates[name]
            lines += aggregate.step_lines([f"{a}[{n}]" for n in slots], self._arguments[name], self.code.constant)
        return lines

    def merges(self, a: str = "a", b: str = "b") -> list[str]:
        """Take what `b` has taken; its own slots but the arrival are left."""
        lines = [f"if {b}[0] < {a}[0]: {a}[0] = {b}[0]"]
        for aggregate, slots in self._each():
            mine, others = [f"{a}[{n}]" for n in slots], [f"{b}[{n}]" for n in slots]
            lines += aggregate.merge_lines(mine, others, self.code.constant)
        return lines

    def copies(self, a: str, b: str) -> list[str]:
        """Make `a` of what `b` has taken, so that merging leaves `b` as it is."""
        lines = [f"{a} = [*{b}]"]
        for aggregate, slots in self._each():
            if aggregate.in_place:
                mine, others = [f"{a}[{n}]" for n in slots], [f"{b}[{n}]" for n in slots]
                lines.append(f"{', '.join(mine)} = {aggregate.start_source()}")
                lines += aggregate.merge_lines(mine, others, self.code.constant)
        return lines

    def fields(self, a: str = "a") -> str:
        """The aggregates' fields of a result, in the order they are written in."""
        return ", ".join(
            f"{name!r}: {aggregate.result_source([f'{a}[{n}]' for n in self._slots[name]], self.code.constant)}"
            for name, aggregate in self.spec.aggregates.items()
        )

    def result(self, time: str, *, start: str = "", end: str = "", final: str = "", a: str = "a") -> list[str]:
        """Append the result of `key` and its accumulator to `out`. All arguments are sources; `time`: the result's."""
        spec, result = self.spec, self.code.constant("Result", Result)
        named = self.code.constant("named_key", named_key)
        lines: list[str] = []
        values, key = ["value"] * len(spec.by), "name"
        if not spec.by:
            key = "None" if spec.one else "key"
        elif spec.one:
            lines += ["if key.__class__ is str:", "    value, name = key, key.encode()", "else:"]
            lines += [f"    value, name = {named}(key)"]
        else:
            lines.append(f"values, name = {named}(key)")
            values = [f"values[{n}]" for n in range(len(spec.by))]
        fields = [f"{name!r}: {value}" for name, value in zip(spec.by, values, strict=True)]
        fields += [f"{spec.start_as!r}: {start}"] if spec.start_as and start else []
        fields += [f"{spec.end_as!r}: {end}"] if spec.end_as and end else []
        fields += [f"{spec.final_as!r}: {final}"] if spec.final_as and final and spec.emit != "close" else []
        aggregates = self.fields(a)
        fields += [aggregates] if aggregates else []
        return [*lines, f"out.append({result}({{{', '.join(fields)}}}, {key}, {time}))"]

    def coders(self) -> tuple[Coder | None, Coder | None]:
        """(pack, unpack) of an accumulator: what makes JSON of it, and back. None where it is JSON."""
        parts = [(slots, aggregate) for aggregate, slots in self._each() if aggregate.packs]
        if not parts:
            return None, None

        def pack(accumulator: list[Any]) -> list[Any]:
            packed = list(accumulator)
            for slots, aggregate in parts:
                packed[slots.start : slots.stop] = aggregate.pack(packed[slots.start : slots.stop])
            return packed

        def unpack(packed: list[Any]) -> list[Any]:
            for slots, aggregate in parts:
                packed[slots.start : slots.stop] = aggregate.unpack(packed[slots.start : slots.stop])
            return packed

        return pack, unpack


def row_pattern(spec: WindowSpec, columns: Sequence[str]) -> str:
    """What a kernel unpacks a row into."""
    keys = ["key"] if spec.keys == 1 else [f"key_{n}" for n in range(spec.keys)]
    return ", ".join(["r", "time", "watermark", *keys, *columns])


def for_keys(spec: WindowSpec, lines: Sequence[str]) -> list[str]:
    """The lines, once for each of the row's keys."""
    if spec.keys == 1:
        return list(lines)
    return [f"for key in ({', '.join(f'key_{n}' for n in range(spec.keys))},):", *indented(lines)]


def guarded(spec: WindowSpec, lines: Sequence[str]) -> list[str]:
    """The lines of one row: where the user's own code may raise in them, they leave everything as it was.

    They note in `undo` what they are about to change: (table, key, a copy of its value).
    """
    if not spec.fallible:
        return list(lines)
    given = ["mark = len(out)"] if spec.emit == "update" else []
    taken = ["    del out[mark:]"] if spec.emit == "update" else []
    return [
        "undo = []",
        *given,
        "try:",
        *indented(lines),
        "except Exception as error:",
        "    put_back(undo)",
        *taken,
        "    failed.append((r, error))",
    ]


def put_back(undo: Sequence[tuple[Any, Any, Any]]) -> None:
    """Make tables what they were."""
    for table, key, before in reversed(undo):
        if before is None:
            table.remove(key)
        else:
            table[key] = before
            table.dirty.add(key)

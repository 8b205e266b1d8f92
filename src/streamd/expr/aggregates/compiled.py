"""Several aggregates as one accumulator, a list: for where they are not written into a larger kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from streamd.expr.aggregates.aggregate import Aggregate, indented
from streamd.expr.aggregates.columns import Columns, columns_of
from streamd.expr.compiled import DictResolver


def slots_of(aggregates: Sequence[Aggregate], name: str, start: int = 0) -> list[list[str]]:
    """For each aggregate the sources of its slots in a list of this name: [["a[0]"], ["a[1]", "a[2]"], …]."""
    ends = list(accumulate((aggregate.slots for aggregate in aggregates), initial=start))
    return [
        [f"{name}[{slot}]" for slot in range(end, end + aggregate.slots)]
        for aggregate, end in zip(aggregates, ends, strict=False)
    ]


class Accumulator:
    """Functions over accumulators, which are lists with the slots of all aggregates in their order.

    `start()` is a new one. `check(arguments)` takes the values of `columns` (expressions over a record, in that order)
    and gives those that `step(accumulator, arguments)` takes, or raises TransformError; a step raises it as well if the
    aggregates are `fallible`, and has changed nothing then. `merge(accumulator, later)` adds another one, of no use
    after that. `results(accumulator)` are the aggregates' results in their order.

    With `packs` an accumulator is no JSON, and `pack` and `unpack` are needed; otherwise both give what they get.
    """

    check: Callable[[Sequence[Any]], Sequence[Any]]
    step: Callable[[list[Any], Sequence[Any]], None]
    merge: Callable[[list[Any], list[Any]], None]
    results: Callable[[list[Any]], list[Any]]
    start: Callable[[], list[Any]]

    def __init__(self, aggregates: Sequence[Aggregate]) -> None:
        self.aggregates = tuple(aggregates)
        self.columns: Columns = columns_of(self.aggregates)
        self.packs = any(aggregate.packs for aggregate in self.aggregates)
        self.fallible = any(aggregate.fallible for aggregate in self.aggregates)
        self._ends = [0, *accumulate(aggregate.slots for aggregate in self.aggregates)]
        resolver = DictResolver()
        self.source = self._source(resolver.constant)
        namespace = resolver.namespace
        exec(compile(self.source, "<streamd aggregates>", "exec"), namespace)
        for name in ("start", "check", "step", "merge", "results"):
            setattr(self, name, namespace[name])

    def pack(self, accumulator: list[Any]) -> list[Any]:
        """The accumulator as JSON."""
        if not self.packs:
            return accumulator
        return [one for aggregate, values in self._parts(accumulator) for one in aggregate.pack(values)]

    def unpack(self, packed: list[Any]) -> list[Any]:
        """The accumulator that was packed."""
        if not self.packs:
            return packed
        return [one for aggregate, values in self._parts(packed) for one in aggregate.unpack(values)]

    def _parts(self, accumulator: list[Any]) -> list[tuple[Aggregate, list[Any]]]:
        ends = self._ends
        return [(one, accumulator[ends[i] : ends[i + 1]]) for i, one in enumerate(self.aggregates)]

    def _source(self, constant: Callable[[str, Any], str]) -> str:
        many = self.aggregates
        slots, others = slots_of(many, "a"), slots_of(many, "b")
        unpack = [f"({', '.join(self.columns.names)},) = arguments"] if self.columns.names else []
        checked: set[tuple[int, str]] = set()
        check, merge, results = list(unpack), [], []
        for number, aggregate in enumerate(many):
            for column, part in zip(self.columns.of[number], aggregate.parts, strict=True):
                if (column, part.check) not in checked:
                    check += part.lines(self.columns.names[column], constant)
                    checked.add((column, part.check))
            merge += aggregate.merge_lines(slots[number], others[number], constant)
            results.append(aggregate.result_source(slots[number], constant))
        check.append(f"return ({''.join(name + ', ' for name in self.columns.names)})")
        start = ", ".join(aggregate.start_source() for aggregate in many)
        functions = [
            ("start()", [f"return [{start}]"]),
            ("check(arguments)", check),
            ("step(a, arguments)", unpack + self._steps(slots, constant)),
            ("merge(a, b)", merge),
            ("results(a)", [f"return [{', '.join(results)}]"]),
        ]
        return "\n\n".join("\n".join([f"def {head}:", *indented(lines)]) for head, lines in functions) + "\n"

    def _steps(self, slots: list[list[str]], constant: Callable[[str, Any], str]) -> list[str]:
        """The steps, first those that may raise: on copies of their slots until none of them has raised."""
        lines, after = [], []
        for number, aggregate in enumerate(self.aggregates):
            names = self.columns.arguments(number)
            if not aggregate.fallible:
                after += aggregate.step_lines(slots[number], names, constant)
                continue
            copies = [f"agg_copy{number}_{place}" for place in range(aggregate.slots)]
            lines += [f"{copy} = {slot}" for copy, slot in zip(copies, slots[number], strict=True)]
            lines += aggregate.step_lines(copies, names, constant)
            after += [f"{slot} = {copy}" for copy, slot in zip(copies, slots[number], strict=True)]
        return lines + after or ["pass"]


def compiled(aggregates: Sequence[Aggregate]) -> Accumulator:
    """The aggregates as one accumulator."""
    return Accumulator(aggregates)

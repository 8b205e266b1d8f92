"""Aggregates of numbers: counts, sums, means, variances, least and greatest, histograms, ratios."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from streamd.expr.aggregates import values
from streamd.expr.aggregates.aggregate import Aggregate, Argument, Constant, indented
from streamd.expr.expression import Expression


class Count(Aggregate):
    """`count()`, `count(where=…)`: how many records."""

    name = "count"
    numeric = True

    def __init__(self, text: str, where: Expression | None) -> None:
        super().__init__(text, [] if where is None else [Argument(text, where, "truth")])

    def start_source(self) -> str:
        return "0"

    def step_lines(self, slots: Sequence[str], names: Sequence[str], constant: Constant) -> list[str]:
        return [f"if {name}: {slots[0]} += 1" for name in names] or [f"{slots[0]} += 1"]

    def merge_lines(self, slots: Sequence[str], others: Sequence[str], constant: Constant) -> list[str]:
        return [f"{slots[0]} += {others[0]}"]

    def result_source(self, slots: Sequence[str], constant: Constant) -> str:
        return slots[0]


def sum_lines(slot: str, x: str, constant: Constant) -> list[str]:
    """Add to a sum; integers beyond 64 bits stay exact, in a form that JSON can hold."""
    add = f"{slot} = {constant('add', values.add)}({slot}, {x})"
    return [
        "try:",
        f"    agg_sum = {slot} + {x}",
        f"    if -9e18 <= agg_sum <= 9e18: {slot} = agg_sum",
        f"    else: {add}",
        "except TypeError:",
        f"    {add}",
    ]


def total_source(slot: str, constant: Constant) -> str:
    return f"({slot} if {slot}.__class__ is not list else {constant('total', values.total)}({slot}))"


class Sum(Aggregate):
    """`sum(x)`, by plain addition in the order of arrival."""

    name = "sum"
    numeric = True

    def __init__(self, text: str, value: Expression) -> None:
        super().__init__(text, [Argument(text, value, "number")])

    def start_source(self) -> str:
        return "0"

    def step_lines(self, slots: Sequence[str], names: Sequence[str], constant: Constant) -> list[str]:
        return [f"if {names[0]} is not None:", *indented(sum_lines(slots[0], names[0], constant))]

    def merge_lines(self, slots: Sequence[str], others: Sequence[str], constant: Constant) -> list[str]:
        return sum_lines(slots[0], others[0], constant)

    def result_source(self, slots: Sequence[str], constant: Constant) -> str:
        return total_source(slots[0], constant)


class Mean(Aggregate):
    """`mean(x)`: count and sum."""

    name = "mean"
    slots = 2
    numeric = True

    def __init__(self, text: str, value: Expression) -> None:
        super().__init__(text, [Argument(text, value, "number")])

    def start_source(self) -> str:
        return "0, 0"

    def step_lines(self, slots: Sequence[str], names: Sequence[str], constant: Constant) -> list[str]:
        lines = [f"{slots[0]} += 1", *sum_lines(slots[1], names[0], constant)]
        return [f"if {names[0]} is not None:", *indented(lines)]

    def merge_lines(self, slots: Sequence[str], others: Sequence[str], constant: Constant) -> list[str]:
        return [f"{slots[0]} += {others[0]}", *sum_lines(slots[1], others[1], constant)]

    def result_source(self, slots: Sequence[str], constant: Constant) -> str:
        return f"({total_source(slots[1], constant)} / {slots[0]} if {slots[0]} else None)"


class Variance(Aggregate):
    """`variance(x)`, `stddev(x)` and their `_pop` forms: count, mean, and the sum of squared distances from it."""

    slots = 3
    numeric = True

    def __init__(self, text: str, name: str, value: Expression) -> None:
        self.name = name  # type: ignore[misc]
        super().__init__(text, [Argument(text, value, "small")])

    def start_source(self) -> str:
        return "0, 0.0, 0.0"

    def step_lines(self, slots: Sequence[str], names: Sequence[str], constant: Constant) -> list[str]:
        (count, mean, squares), (x,) = slots, names
        return [
            f"if {x} is not None:",
            f"    {count} += 1",
            f"    agg_delta = {x} - {mean}",
            f"    {mean} += agg_delta / {count}",
            f"    {squares} += agg_delta * ({x} - {mean})",
        ]

    def merge_lines(self, slots: Sequence[str], others: Sequence[str], constant: Constant) -> list[str]:
        (count, mean, squares), (count_b, mean_b, squares_b) = slots, others
        return [
            f"if {count_b}:",
            f"    agg_count = {count} + {count_b}",
            f"    agg_delta = {mean_b} - {mean}",
            f"    {squares} += {squares_b} + agg_delta * agg_delta * ({count} * {count_b} / agg_count)",
            f"    {mean} += agg_delta * ({count_b} / agg_count)",
            f"    {count} = agg_count",
        ]

    def result_source(self, slots: Sequence[str], constant: Constant) -> str:
        count, _, squares = slots
        least, divisor = (0, count) if self.name.endswith("_pop") else (1, f"({count} - 1)")
        quotient = f"{squares} / {divisor}"
        if self.name.startswith("stddev"):
            quotient = f"{constant('sqrt', math.sqrt)}({quotient})"
        return f"({quotient} if {count} > {least} else None)"


class Extreme(Aggregate):
    """`min(x)`, `max(x)` of numbers or texts; where there are both, numbers are less than texts."""

    def __init__(self, text: str, name: str, value: Expression) -> None:
        self.name = name  # type: ignore[misc]
        super().__init__(text, [Argument(text, value, "comparable")])

    def start_source(self) -> str:
        return "None"

    def step_lines(self, slots: Sequence[str], names: Sequence[str], constant: Constant) -> list[str]:
        (slot,), (x,) = slots, names
        precedes = constant("precedes", values.precedes)
        return [
            f"if {x} is not None:",
            "    try:",
            f"        if {slot} is None or {x} {'<' if self.name == 'min' else '>'} {slot}: {slot} = {x}",
            "    except TypeError:",
            f"        if {precedes}(({x},), ({slot},), ({self.name == 'max'},)): {slot} = {x}",
        ]

    def merge_lines(self, slots: Sequence[str], others: Sequence[str], constant: Constant) -> list[str]:
        return self.step_lines(slots, others, constant)

    def result_source(self, slots: Sequence[str], constant: Constant) -> str:
        return slots[0]


class Histogram(Aggregate):
    """`histogram(x, [10, 100])`: how many numbers lie below 10, from 10 to below 100, from 100 on."""

    name = "histogram"

    def __init__(self, text: str, value: Expression, bounds: Sequence[float]) -> None:
        super().__init__(text, [Argument(text, value, "number")])
        self.bounds = tuple(bounds)
        self.growth = f"{len(bounds) + 1} numbers"

    def start_source(self) -> str:
        return f"[{', '.join('0' for _ in range(len(self.bounds) + 1))}]"

    def step_lines(self, slots: Sequence[str], names: Sequence[str], constant: Constant) -> list[str]:
        find, bounds = constant("bisect_right", bisect_right), constant("bounds", self.bounds)
        return [f"if {names[0]} is not None: {slots[0]}[{find}({bounds}, {names[0]})] += 1"]

    def merge_lines(self, slots: Sequence[str], others: Sequence[str], constant: Constant) -> list[str]:
        return [f"{slots[0]} = [agg_one + agg_two for agg_one, agg_two in zip({slots[0]}, {others[0]})]"]

    def result_source(self, slots: Sequence[str], constant: Constant) -> str:
        return f"{slots[0]}.copy()"


class Ratio(Aggregate):
    """`ratio(a, b)` of two aggregates."""

    name = "ratio"
    numeric = True

    def __init__(self, text: str, dividend: Aggregate, divisor: Aggregate) -> None:
        super().__init__(text, [*dividend.parts, *divisor.parts])
        self.both = (dividend, divisor)
        self.slots = dividend.slots + divisor.slots
        self.packs = dividend.packs or divisor.packs
        self.bounded = dividend.bounded and divisor.bounded
        self.growth = "; ".join(dict.fromkeys(one.growth for one in self.both))
        self._argument_ends = list(accumulate(len(one.parts) for one in self.both))
        self._slot_ends = list(accumulate(one.slots for one in self.both))

    def start_source(self) -> str:
        return ", ".join(one.start_source() for one in self.both)

    def step_lines(self, slots: Sequence[str], names: Sequence[str], constant: Constant) -> list[str]:
        first, second = self.both
        middle, end = self._slot_ends[0], self._argument_ends[0]
        lines = first.step_lines(slots[:middle], names[:end], constant)
        return lines + second.step_lines(slots[middle:], names[end:], constant)

    def merge_lines(self, slots: Sequence[str], others: Sequence[str], constant: Constant) -> list[str]:
        first, second = self.both
        middle = self._slot_ends[0]
        lines = first.merge_lines(slots[:middle], others[:middle], constant)
        return lines + second.merge_lines(slots[middle:], others[middle:], constant)

    def result_source(self, slots: Sequence[str], constant: Constant) -> str:
        first, second = self.both
        middle = self._slot_ends[0]
        dividend, divisor = (
            first.result_source(slots[:middle], constant),
            second.result_source(slots[middle:], constant),
        )
        return f"{constant('quotient', values.quotient)}({dividend}, {divisor})"

    def pack(self, values: list[object]) -> list[object]:
        middle = self._slot_ends[0]
        return self.both[0].pack(values[:middle]) + self.both[1].pack(values[middle:])

    def unpack(self, values: list[object]) -> list[object]:
        middle = self._slot_ends[0]
        return self.both[0].unpack(values[:middle]) + self.both[1].unpack(values[middle:])

"""Aggregates that keep values: the first, the last, several, the different ones, in the order of arrival or another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from streamd.expr.aggregates import values
from streamd.expr.aggregates.aggregate import Aggregate, Argument, Constant, indented, present
from streamd.expr.expression import Expression


class Order(NamedTuple):
    """One place of an order: `price`, or `desc(price)`."""

    expression: Expression
    descending: bool


def _parts(name: str, value: Expression, order: Sequence[Order]) -> list[Argument]:
    return [Argument(name, value, "kept"), *(Argument(name, place.expression, "order") for place in order)]


def _given(source: str, constant: Constant) -> str:
    return f"{constant('given', values.given)}({source})"


class Arrived(Aggregate):
    """`first(x)`, `last(x)`, in the order of arrival."""

    growth = "one value"

    def __init__(self, text: str, name: str, value: Expression) -> None:
        self.name = name  # type: ignore[misc]
        super().__init__(text, _parts(text, value, ()))

    def start_source(self) -> str:
        return "None"

    def step_lines(self, slots: Sequence[str], names: Sequence[str], constant: Constant) -> list[str]:
        (slot,), (x,) = slots, names
        first = f"{slot} is None and " if self.name == "first" else ""
        return [f"if {first}{x} is not None: {slot} = {x}"]

    def merge_lines(self, slots: Sequence[str], others: Sequence[str], constant: Constant) -> list[str]:
        return self.step_lines(slots, others, constant)

    def result_source(self, slots: Sequence[str], constant: Constant) -> str:
        return _given(slots[0], constant)


def precedes_source(names: Sequence[str], others: Sequence[str], descending: Sequence[bool], *, equal: bool) -> str:
    """The condition that values come before others in an order. It raises TypeError for a number beside a text."""
    condition = "True" if equal else "False"
    for name, other, down in reversed(list(zip(names, others, descending, strict=True))):
        sign = ">" if down else "<"
        if condition in ("True", "False"):
            condition = f"{name} {sign}{'=' if equal else ''} {other}"
        else:
            condition = f"{name} {sign} {other} or {name} == {other} and ({condition})"
    return condition


class Ordered(Aggregate):
    """`first(x, order_by=…)`, `last(…)`, `argmin(x, by)`, `argmax(x, by)`: one value, with what it is ordered by."""

    growth = "one value, and what it is ordered by"

    def __init__(self, text: str, name: str, value: Expression, order: Sequence[Order]) -> None:
        self.name = name  # type: ignore[misc]
        super().__init__(text, _parts(text, value, order))
        self.slots = 1 + len(order)
        # The last in an order is the first in its reverse; of equal ones the last that arrived.
        self.last = name == "last"
        self.descending = tuple(place.descending is not self.last for place in order)

    def start_source(self) -> str:
        return ", ".join("None" for _ in range(self.slots))

    def _lines(self, slots: Sequence[str], names: Sequence[str], constant: Constant) -> list[str]:
        (kept, *order), (x, *by) = slots, names
        find = constant("precedes", values.precedes)
        slow = f"{find}(({', '.join(by)},), ({', '.join(order)},), {self.descending!r}, equal={self.last})"
        return [
            "try:",
            f"    agg_first = {kept} is None or {precedes_source(by, order, self.descending, equal=self.last)}",
            "except TypeError:",
            f"    agg_first = {slow}",
            "if agg_first:",
            *(f"    {slot} = {name}" for slot, name in zip(slots, (x, *by), strict=True)),
        ]

    def step_lines(self, slots: Sequence[str], names: Sequence[str], constant: Constant) -> list[str]:
        return [f"if {present(names)}:", *indented(self._lines(slots, names, constant))]

    def merge_lines(self, slots: Sequence[str], others: Sequence[str], constant: Constant) -> list[str]:
        return self.step_lines(slots, others, constant)

    def result_source(self, slots: Sequence[str], constant: Constant) -> str:
        return _given(slots[0], constant)


class Collect(Aggregate):
    """`collect(x, 100)`: the first of them, as they arrived."""

    name = "collect"
    in_place = True

    def __init__(self, text: str, value: Expression, count: int) -> None:
        super().__init__(text, _parts(text, value, ()))
        self.count = count
        self.growth = f"at most {count:,} values"

    def start_source(self) -> str:
        return "[]"

    def step_lines(self, slots: Sequence[str], names: Sequence[str], constant: Constant) -> list[str]:
        (slot,), (x,) = slots, names
        return [f"if {x} is not None and len({slot}) < {self.count}: {slot}.append({x})"]

    def merge_lines(self, slots: Sequence[str], others: Sequence[str], constant: Constant) -> list[str]:
        (slot,), (other,) = slots, others
        return [f"if {other}: {slot}.extend({other}[: {self.count} - len({slot})])"]

    def result_source(self, slots: Sequence[str], constant: Constant) -> str:
        return _given(slots[0], constant)


class Best(Aggregate):
    """`collect(x, 10, order_by=…)`, `top_k(x, 10, by)`: the first of them in an order, as a list in that order."""

    in_place = True

    def __init__(self, text: str, name: str, value: Expression, count: int, order: Sequence[Order]) -> None:
        self.name = name  # type: ignore[misc]
        super().__init__(text, _parts(text, value, order))
        self.count = count
        self.descending = tuple(place.descending for place in order)
        self.growth = f"at most {count:,} values, and what they are ordered by"

    def start_source(self) -> str:
        return "[]"

    def step_lines(self, slots: Sequence[str], names: Sequence[str], constant: Constant) -> list[str]:
        (slot,), (x, *by) = slots, names
        worst = [f"{slot}[-1][{number}]" for number in range(len(by))]
        insert = f"{constant('insert', values.insert)}({slot}, [{', '.join(by)}, {x}], {self.count}, "
        insert += f"{self.descending!r})"
        return [
            f"if {present(names)}:",
            "    try:",
            f"        if len({slot}) < {self.count} or {precedes_source(by, worst, self.descending, equal=False)}:",
            f"            {insert}",
            "    except TypeError:",
            f"        {insert}",
        ]

    def merge_lines(self, slots: Sequence[str], others: Sequence[str], constant: Constant) -> list[str]:
        insert = constant("insert", values.insert)
        return [
            f"for agg_entry in {others[0]}:",
            f"    {insert}({slots[0]}, agg_entry, {self.count}, {self.descending!r})",
        ]

    def result_source(self, slots: Sequence[str], constant: Constant) -> str:
        return f"[{_given('agg_entry[-1]', constant)} for agg_entry in {slots[0]}]"


def distinct_source(x: str, constant: Constant) -> str:
    """What stands for the value among others."""
    return f"{x} if {x}.__class__ is str or {x}.__class__ is int else {constant('distinct', values.distinct)}({x})"


class CountDistinct(Aggregate):
    """`count_distinct(x)`, exact: what stands for each value, in a set."""

    name = "count_distinct"
    packs = True
    bounded = False
    growth = "one entry for each different value"
    numeric = True
    in_place = True

    def __init__(self, text: str, value: Expression) -> None:
        super().__init__(text, [Argument(text, value, "kept")])

    def start_source(self) -> str:
        return "set()"

    def step_lines(self, slots: Sequence[str], names: Sequence[str], constant: Constant) -> list[str]:
        return [f"if {names[0]} is not None: {slots[0]}.add({distinct_source(names[0], constant)})"]

    def merge_lines(self, slots: Sequence[str], others: Sequence[str], constant: Constant) -> list[str]:
        return [f"{slots[0]} |= {others[0]}"]

    def result_source(self, slots: Sequence[str], constant: Constant) -> str:
        return f"len({slots[0]})"

    def pack(self, values_: list[Any]) -> list[Any]:
        return [values.packed_distinct(values_[0])]

    def unpack(self, values_: list[Any]) -> list[Any]:
        return [values.unpacked_distinct(values_[0])]

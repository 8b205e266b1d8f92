"""What an aggregate is: lines of Python that take a value, merge and give a result, over the slots of a list."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from streamd.expr.aggregates import values
from streamd.expr.expression import Expression

# Makes a Python object known to generated code: (hint, object) → the name that it has there.
Constant: TypeAlias = Callable[[str, Any], str]
Check: TypeAlias = Literal["number", "small", "comparable", "order", "kept", "truth"]

# Within these bounds a number is neither infinite nor beyond 64 bits.
_ORDINARY = "-9e18 <= {x} <= 9e18"
_NUMBER = "({x}.__class__ is int or {x}.__class__ is float)"
_NO_NUMBER = "{x}.__class__ is not int and {x}.__class__ is not float"
_CONDITIONS = {
    "number": f"{_NO_NUMBER} or not {_ORDINARY}",
    "small": f"{_NO_NUMBER} or not {_ORDINARY}",
    "comparable": f"{_NO_NUMBER} or not {_ORDINARY}",
    "order": f"{_NO_NUMBER} or not {_ORDINARY}",
    "kept": f"not ({{x}}.__class__ is str and {{x}}.isascii() or {_NUMBER} and {_ORDINARY})",
    "truth": "{x}.__class__ is not bool",
}


@dataclass(frozen=True, slots=True)
class Argument:
    """What an aggregate takes of each record, and what is asked of it there. `name`: of the aggregate.

    A check leaves a value as it is, or gives a copy that is the same JSON: several may be made of one variable.
    """

    name: str
    expression: Expression
    check: Check

    def lines(self, x: str, constant: Constant) -> list[str]:
        """Statements that bring the variable `x` into the form that steps take, or raise TransformError."""
        if self.check == "order":
            call = f"{constant('as_order', values.orderly)}({x})"
        elif self.check == "small":
            call = f"{constant('as_number', values.number)}({self.name!r}, {x}, {values.MAX_SQUARED!r})"
        else:
            check = "kept" if self.check == "truth" else self.check
            call = f"{constant(f'as_{check}', getattr(values, check))}({self.name!r}, {x})"
        return [f"if {_CONDITIONS[self.check].format(x=x)}: {x} = {call}"]


class Aggregate(ABC):
    """An aggregate such as `sum(amount)`. Immutable; equal, hashed and pickled by its text, which has no user's spaces.

    Its accumulator is `slots` neighbouring items of a list, named by sources such as "a[2]". Lines are statements, one
    or several lines each, that may use variables whose names begin with `agg_`.

    `arguments` are evaluated for each record; after `check_lines` on their variables no step can fail, unless the
    aggregate is `fallible`: then a step may raise TransformError, and has changed nothing. A value that is null counts
    for nothing. `packs`: slots are no JSON, and `pack` makes it of them. `bounded`: the accumulator's size is, and
    `growth` says by what; otherwise what it grows with. `numeric`: every result is a number or null. `in_place`:
    merging changes what is in its slots, and not the slots alone.
    """

    name: ClassVar[str]
    slots: int = 1
    packs: bool = False
    fallible: bool = False
    bounded: bool = True
    growth: str = "fixed size"
    numeric: bool = False
    in_place: bool = False

    def __init__(self, text: str, parts: Sequence[Argument]) -> None:
        self.text = text
        self.parts = tuple(parts)
        self.arguments: tuple[Expression, ...] = tuple(part.expression for part in parts)

    def check_lines(self, names: Sequence[str], constant: Constant) -> list[str]:
        """Lines that check the arguments in variables of these names, and may put copies there: JSON after that."""
        return [line for part, name in zip(self.parts, names, strict=True) for line in part.lines(name, constant)]

    @abstractmethod
    def start_source(self) -> str:
        """The slots' values before any record, new ones each time it is evaluated, parted by commas."""

    @abstractmethod
    def step_lines(self, slots: Sequence[str], names: Sequence[str], constant: Constant) -> list[str]:
        """Lines that take the checked arguments in variables of these names."""

    @abstractmethod
    def merge_lines(self, slots: Sequence[str], others: Sequence[str], constant: Constant) -> list[str]:
        """Lines that add another accumulator, of records that came later. The other stays as it is, also when this one
        is merged with more; but no step may be taken on either after that.
        """

    @abstractmethod
    def result_source(self, slots: Sequence[str], constant: Constant) -> str:
        """An expression for what the user sees, JSON that is the user's own. It cannot fail."""

    def pack(self, values: list[Any]) -> list[Any]:
        """The slots' values as JSON."""
        return values

    def unpack(self, values: list[Any]) -> list[Any]:
        """What `pack` was given."""
        return values

    def prepare(self, folder: str) -> None:  # noqa: B027 - most have nothing to load
        """Load the user's own code, as Python finds modules and in `folder`. Raises FatalError."""

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, Aggregate) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        from streamd.expr.aggregates.read import parse_aggregate

        return parse_aggregate, (self.text,)


def indented(lines: Sequence[str], depth: int = 1) -> list[str]:
    """Lines further in; one string may hold several of them."""
    return ["    " * depth + line for many in lines for line in many.split("\n")]


def present(names: Sequence[str]) -> str:
    """The condition that none of some values is null."""
    return " and ".join(f"{name} is not None" for name in names)


def growing(aggregates: Mapping[str, Aggregate]) -> str:
    """What some aggregates keep of a key without bound, as a text; "" where nothing does."""
    found = [f"`{name}` has {one.growth}" for name, one in aggregates.items() if not one.bounded]
    return f"per key without bound: {', '.join(found)}" if found else ""

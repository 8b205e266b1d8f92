"""Aggregates: what `count()`, `sum(amount)` … mean, and how a text becomes one.

An aggregate keeps an accumulator, any JSON value, which is never changed in place: a step gives a new one. So whoever
keeps the old one can go back to it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import orjson

from streamd.errors import TransformError
from streamd.expr.errors import ExpressionError
from streamd.expr.expression import Expression
from streamd.expr.parse import parse
from streamd.expr.suggest import did_you_mean

Accumulator = Any
_LARGEST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class AggregateFunction:
    """One aggregate function. `start` is the accumulator before any value.

    `step(accumulator, value)` takes one value that is not null, and raises TransformError for one that it cannot take;
    `result(accumulator)` is what the user sees. `argument` is False for `count()` alone, which counts records.
    """

    name: str
    doc: str
    start: Accumulator
    step: Callable[[Accumulator, Any], Accumulator]
    result: Callable[[Accumulator], Any] = lambda accumulator: accumulator
    argument: bool = True


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregate: `sum(amount)`, without the user's spaces. `value` is what it aggregates, None for `count()`."""

    text: str
    function: AggregateFunction
    value: Expression | None

    def __str__(self) -> str:
        return self.text


def _number(name: str, value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise TransformError(f"{name} needs a number, got {_kind(value)}")


def _in_range(name: str, number: Any) -> Any:
    """The number, if it is one that JSON can hold: what is kept is written as JSON."""
    if -_LARGEST <= number <= _LARGEST or (type(number) is float and math.isfinite(number)):
        return number
    raise TransformError(f"{name} is out of range: expected 64 bits for an integer, a finite number otherwise")


def _kept(name: str, value: Any) -> Any:
    """The value as it is kept: nobody else can change it."""
    if isinstance(value, str | bool):
        return value
    if isinstance(value, int | float):
        return _in_range(name, value)
    try:
        return orjson.loads(orjson.dumps(value))
    except (TypeError, ValueError):
        raise TransformError(f"{name} keeps JSON values, got {_kind(value)}") from None


def _given(value: Any) -> Any:
    return deepcopy(value) if isinstance(value, dict | list) else value


def _sum(total: Any, value: Any) -> Any:
    return _in_range("sum", total + _number("sum", value))


def _mean(state: Any, value: Any) -> Any:
    return [state[0] + 1, _in_range("mean", state[1] + _number("mean", value))]


def _extreme(name: str, better: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
    def step(best: Any, value: Any) -> Any:
        if not isinstance(value, str):
            _in_range(name, _number(name, value))
        if best is None:
            return value
        if isinstance(best, str) is not isinstance(value, str):
            raise TransformError(f"{name} compares values of one kind, got {_kind(best)} and {_kind(value)}")
        return value if better(value, best) else best

    return step


def _kind(value: Any) -> str:
    kinds = {bool: "a boolean", str: "a text", dict: "an object", list: "a list", int: "a number", float: "a number"}
    return kinds.get(type(value), type(value).__name__)


AGGREGATES: Final[Mapping[str, AggregateFunction]] = {
    function.name: function
    for function in (
        AggregateFunction("count", "How many records.", 0, lambda count, _: count + 1, argument=False),
        AggregateFunction("sum", "The sum of numbers; 0 while there is none.", 0, _sum),
        AggregateFunction("min", "The least number or text.", None, _extreme("min", lambda a, b: a < b)),
        AggregateFunction("max", "The greatest number or text.", None, _extreme("max", lambda a, b: a > b)),
        AggregateFunction(
            "mean", "The mean of numbers.", [0, 0], _mean, lambda state: state[1] / state[0] if state[0] else None
        ),
        AggregateFunction(
            "first", "The first value.", None, lambda first, value: _kept("first", value) if first is None else first,
            _given,
        ),
        AggregateFunction("last", "The last value.", None, lambda _, value: _kept("last", value), _given),
    )
}  # fmt: skip

_CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*\((.*)\)\s*", re.DOTALL)


def parse_aggregate(text: str) -> Aggregate:
    """The aggregate of a text. Raises ExpressionError with its place in the text."""
    match = _CALL.fullmatch(text)
    if match is None:
        raise ExpressionError("expected an aggregate such as count() or sum(amount)", 0, max(1, len(text)))
    name, inner = match.groups()
    function = AGGREGATES.get(name)
    if function is None:
        known = did_you_mean(name, AGGREGATES) or f"there are {', '.join(AGGREGATES)}"
        raise ExpressionError(f"there is no aggregate {name!r}", match.start(1), len(name), known)
    place = match.start(2)
    if function.argument != bool(inner.strip()):
        right = f"{name}(amount)" if function.argument else f"{name}()"
        raise ExpressionError(f"{name} has the wrong number of arguments", place, max(1, len(inner)), f"write {right}")
    if not function.argument:
        return Aggregate(f"{name}()", function, None)
    try:
        return Aggregate(f"{name}({inner.strip()})", function, parse(inner))
    except ExpressionError as error:
        raise ExpressionError(error.message, place + error.offset, error.length, error.hint) from None

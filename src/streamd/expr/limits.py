"""Bounds on what one evaluation may cost, whatever the record holds. Generated code and interpreter share them.

An expression without a loop costs at most its own length times the record's size, once the few operations that
multiply sizes are guarded (`times`, `power`, and functions that build text). Loops multiply sizes again: they run under
a `Budget` unless their body is too simple to need one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson

from streamd.errors import TransformError

MAX_TEXT = 1_000_000  # characters in a text that an expression builds
MAX_ITEMS = 100_000  # items in a list that an expression builds by repetition
MAX_CELLS = 1_000_000  # values and characters in what one comprehension builds
MAX_BITS = 10_000  # bits of an int that `**` builds; stays below the 4,300 digits that int → str allows
BUDGET = 1_000_000  # steps of the loops of one evaluation: about 0.1 s
SHIFT = 6  # reading 64 items or characters costs as much as one step

_TOO_MUCH = f"the comprehension builds more than {MAX_CELLS:,} values and characters"
_SIZED = (str, list, tuple, dict)
_CONTAINERS: frozenset[type] = frozenset({list, tuple, dict})
_REPEATED: frozenset[type] = frozenset({str, list, tuple})


def times(left: Any, right: Any) -> Any:
    """`left * right`; text and lists may be repeated up to the limits."""
    if type(left) is type(right):  # numbers, or nothing that can be multiplied
        return left * right
    if left.__class__ in _REPEATED:
        _check_repeat(left, right)
    elif right.__class__ in _REPEATED:
        _check_repeat(right, left)
    return left * right


def product(left: Any, right: Any, built: list[int]) -> Any:
    """`left * right` in a loop without a budget. `built` counts what all its repeated text and lists hold together."""
    if type(left) is type(right):
        return left * right
    value = times(left, right)
    if value.__class__ in _REPEATED:
        built[0] += cells(value, MAX_CELLS)
        if built[0] > MAX_CELLS:
            raise TransformError(_TOO_MUCH)
    return value


def _check_repeat(value: Any, count: Any) -> None:
    limit = MAX_TEXT if isinstance(value, str) else MAX_ITEMS
    if isinstance(count, int) and len(value) * count > limit:
        raise TransformError(f"repeating a {type_name(value)} makes it longer than {limit:,}")


def plus(left: Any, right: Any) -> Any:
    """`left + right`; for places where a loop could double a text or list again and again."""
    total = left + right
    if isinstance(total, str | list | tuple):
        limit = MAX_TEXT if isinstance(total, str) else MAX_ITEMS
        if len(total) > limit:
            raise TransformError(f"adding up makes a {type_name(total)} longer than {limit:,}")
    return total


def power(base: Any, exponent: Any) -> Any:
    """`base ** exponent`, for real results of at most MAX_BITS bits."""
    if isinstance(base, int) and isinstance(exponent, int) and exponent > 0:
        bits = base.bit_length()
        if bits > 1 and (bits - 1) * exponent > MAX_BITS:
            raise TransformError(f"the power has more than {MAX_BITS:,} bits")
    value = base**exponent
    if isinstance(value, complex):
        raise TransformError("a negative number has no real power with this exponent")
    return value


def as_text(value: Any) -> str:
    """A value as text: a text as it is, a number by the digits that it needs, anything else as JSON. `str(…)` and what
    stands in braces.
    """
    if value.__class__ is str:
        return value
    if value.__class__ is int or value.__class__ is float:
        return str(value)
    try:
        written = orjson.dumps(value).decode()
    except (orjson.JSONEncodeError, RecursionError):
        raise TransformError(f"the {type_name(value)} cannot be written as text: it has no JSON form") from None
    check_text(len(written))
    return written


def check_text(length: int) -> None:
    """Raises TransformError if a text of this length may not be built."""
    if length > MAX_TEXT:
        raise TransformError(f"the text would be longer than {MAX_TEXT:,} characters")


def type_name(value: object) -> str:
    """The expression language's word for a value's type: text, number, bool, list, object, null."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, dict):
        return "object"
    return "list" if isinstance(value, list | tuple) else type(value).__name__


class Budget:
    """The steps that the loops of one evaluation still have. Called with an iterable it pays for one pass over it."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = BUDGET

    def __call__(self, iterable: Any) -> Any:
        if not isinstance(iterable, _SIZED):
            raise TypeError(f"cannot loop over a {type_name(iterable)}")
        self.spend(len(iterable))
        return iterable

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise TransformError(f"the loops take more than {BUDGET:,} steps on this record")

    def scan(self, value: Any) -> Any:
        """The value itself, paid for: something is about to read it from end to end, or has just built it."""
        if isinstance(value, _SIZED):
            self.spend(len(value) >> SHIFT)
        return value

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A function's result, with arguments and result paid for."""
        for argument in arguments:
            if isinstance(argument, _SIZED):
                self.spend(len(argument) >> SHIFT)
        result = function(*arguments)
        if isinstance(result, _SIZED):
            self.spend(1 + (len(result) >> SHIFT))
        return result


def budget() -> tuple[Budget]:
    """A fresh budget, as something that `for` can bind to a variable."""
    return (Budget(),)


def collect(values: Iterable[Any]) -> list[Any]:
    """The values as a list whose contents, counted as if written out, stay below MAX_CELLS."""
    collected = []
    left = MAX_CELLS
    for value in values:
        kind = value.__class__
        if kind is str:
            left -= len(value) + 1
        elif kind in _CONTAINERS:
            left -= cells(value, left)
        else:
            left -= 1
        if left < 0:
            raise TransformError(_TOO_MUCH)
        collected.append(value)
    return collected


def cells(value: Any, limit: int) -> int:
    """Values and characters in a value, shared parts counted each time; stops soon after `limit`."""
    total = 0
    waiting: list[Iterator[Any]] = [iter((value,))]
    while waiting and total <= limit:
        for part in waiting[-1]:
            total += len(part) + 1 if isinstance(part, str) else 1
            if isinstance(part, dict):
                total += sum(len(key) for key in part if isinstance(key, str))
                waiting.append(iter(part.values()))
                break
            if isinstance(part, list | tuple):
                waiting.append(iter(part))
                break
            if total > limit:
                break
        else:
            waiting.pop()
    return total

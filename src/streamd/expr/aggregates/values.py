"""What aggregates ask of values and do with them at run time: what generated lines call by name."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, Final

import orjson

from streamd.errors import TransformError

# The integers that JSON is written with here.
SMALLEST: Final = -(2**63)
LARGEST: Final = 2**64 - 1
# Floats that are added up stay below it, so that no sum of them becomes infinite, which JSON cannot hold.
MAX_ADDED: Final = 1e290
# The same for numbers whose squares are added up.
MAX_SQUARED: Final = 1e140
# Sums of integers beyond 64 bits are kept as [high, low], high × 2**62 + low.
_LOW_BITS: Final = 62

_KINDS: Final = {
    bool: "a boolean",
    str: "a text",
    dict: "an object",
    list: "a list",
    int: "a number",
    float: "a number",
}


def kind_of(value: Any) -> str:
    """A value's kind, as users say it."""
    return "null" if value is None else _KINDS.get(type(value), type(value).__name__)


def number(name: str, value: Any, limit: float = MAX_ADDED) -> Any:
    """The value, a number that can be added up, or None. Raises TransformError for any other."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TransformError(f"{name} needs a number, got {kind_of(value)}")
    in_range(name, value)
    if not -limit <= value <= limit:
        raise TransformError(f"{name} is out of range: expected a number between -{limit:g} and {limit:g}")
    return value


def in_range(name: str, value: Any) -> Any:
    """The number, if it is one that JSON can hold: what is kept is written as JSON."""
    if SMALLEST <= value <= LARGEST or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise TransformError(f"{name} is out of range: expected 64 bits for an integer, a finite number otherwise")


def comparable(name: str, value: Any) -> Any:
    """The value, a number or a text that can be kept, or None. Raises TransformError for any other."""
    if value is None:
        return None
    if isinstance(value, str):
        return text(name, value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TransformError(f"{name} needs a number or a text, got {kind_of(value)}")
    return in_range(name, value)


def orderly(value: Any) -> Any:
    """A value of an order: a number, a text, a boolean, or None. Raises TransformError for any other."""
    return value if isinstance(value, bool) else comparable("an order", value)


def text(name: str, value: str) -> str:
    """The text, if JSON can hold it."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise TransformError(f"{name} got half of a surrogate pair, which is no text") from None
    return value


def kept(name: str, value: Any) -> Any:
    """The value as it is kept: JSON, and nobody else can change it. Raises TransformError for what is no JSON."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text(name, value)
    if isinstance(value, int | float):
        return in_range(name, value)
    try:
        return copied(value)
    except (TypeError, ValueError):
        raise TransformError(f"{name} keeps JSON values, got {kind_of(value)} that is none") from None


def copied(value: Any) -> Any:
    """The value as it will be when it is restored. Raises TypeError, ValueError for what is no JSON.

    JSON can be nested 254 deep: what is kept lies in lists of lists, which must not make it deeper than that.
    """
    return orjson.loads(orjson.dumps([[[[[[[[value]]]]]]]]))[0][0][0][0][0][0][0][0]


def given(value: Any) -> Any:
    """A kept value for others, who may change it."""
    return orjson.loads(orjson.dumps(value)) if isinstance(value, dict | list) else value


def distinct(value: Any) -> Hashable:
    """What stands for a kept value among others: equal JSON values have equal ones, others do not.

    Texts and integers stand for themselves, a whole number is an integer; of all others it is the JSON, as bytes.
    """
    if type(value) is float and value.is_integer() and SMALLEST <= value <= LARGEST:
        return int(value)
    if type(value) is str or type(value) is int:
        return value
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def packed_distinct(values: set[Hashable]) -> list[Any]:
    """A set of what `distinct` gives, as JSON."""
    return [orjson.loads(value) if type(value) is bytes else value for value in values]


def unpacked_distinct(values: list[Any]) -> set[Hashable]:
    """What `packed_distinct` was made from."""
    return {distinct(value) for value in values}


def add(total: Any, value: Any) -> Any:
    """The sum of two sums: numbers, or what `add` gave for integers beyond 64 bits."""
    result = _whole(total) + _whole(value)
    if isinstance(result, float) or SMALLEST <= result <= LARGEST:
        return result
    return [result >> _LOW_BITS, result & (2**_LOW_BITS - 1)]


def _whole(total: Any) -> Any:
    return (total[0] << _LOW_BITS) + total[1] if isinstance(total, list) else total


def total(value: Any) -> Any:
    """A sum as a number that JSON can hold: beyond 64 bits the nearest floating-point number."""
    return float(_whole(value)) if isinstance(value, list) else value


def quotient(dividend: Any, divisor: Any) -> float | None:
    """The quotient, or None where there is none that is finite."""
    if dividend is None or not divisor:
        return None
    result: float = dividend / divisor
    return result if math.isfinite(result) else None


def precedes(values: Sequence[Any], others: Sequence[Any], descending: Sequence[bool], *, equal: bool = False) -> bool:
    """Whether values come before others in an order, or where both are equal.

    Numbers come before texts where a place of the order has both.
    """
    for value, other, down in zip(values, others, descending, strict=True):
        one, two = (isinstance(value, str), value), (isinstance(other, str), other)
        if one != two:
            return one > two if down else one < two
    return equal


def insert(entries: list[list[Any]], entry: list[Any], count: int, descending: Sequence[bool]) -> None:
    """Put an entry, the values of its order and then its own, to its place among the first `count`.

    It comes after those that are equal in the order.
    """
    size = len(descending)
    low, high = 0, len(entries)
    while low < high:
        middle = (low + high) // 2
        if precedes(entry[:size], entries[middle][:size], descending):
            high = middle
        else:
            low = middle + 1
    entries.insert(low, entry)
    del entries[count:]

"""Functions of numbers. Python's own builtins where they do the right thing."""

from __future__ import annotations

import math
import random as randomness
from typing import Any

from streamd.errors import TransformError
from streamd.expr.functions.catalogue import Catalogue
from streamd.expr.limits import power, type_name

NUMBER = Catalogue("number")
MAX_DIGITS = 30


def _few_digits(arguments: tuple[Any, ...]) -> bool:
    """Whether the number of digits is known, and small: `round` of an int to -10**9 digits would never end."""
    if len(arguments) < 2:
        return True
    return arguments[1] is None or (isinstance(arguments[1], int) and abs(arguments[1]) <= MAX_DIGITS)


@NUMBER.function(
    "round(number, digits=null)",
    ("round(2.567, 2)", 2.57),
    ("round(2.5)", 2),
    ("round(1234, -2)", 1200),
    result="number",
    builtin="round",
    plain=_few_digits,
    cheap=True,
)
def rounded(number: Any, digits: Any = None) -> Any:
    """The number rounded to so many digits after the point, or to a whole number. Halves go to the even side."""
    if digits is not None and not (isinstance(digits, int) and abs(digits) <= MAX_DIGITS):
        raise TransformError(f"round: digits are a whole number from -{MAX_DIGITS} to {MAX_DIGITS}")
    return round(number, digits)


NUMBER.add(
    "abs(number)", "The number without its sign.", abs, ("abs(-3)", 3), result="number", builtin="abs", cheap=True
)
NUMBER.add(
    "floor(number)",
    "The largest whole number that is not above the number.",
    math.floor,
    ("floor(2.7)", 2),
    ("floor(-2.1)", -3),
    result="int",
    cheap=True,
)
NUMBER.add(
    "ceil(number)",
    "The smallest whole number that is not below the number.",
    math.ceil,
    ("ceil(2.1)", 3),
    result="int",
    cheap=True,
)
NUMBER.add(
    "trunc(number)", "The number without its fraction.", math.trunc, ("trunc(-2.7)", -2), result="int", cheap=True
)
NUMBER.add("sqrt(number)", "The square root.", math.sqrt, ("sqrt(9)", 3.0), result="float", cheap=True)
NUMBER.add("exp(number)", "e to the power of the number.", math.exp, ("exp(0)", 1.0), result="float", cheap=True)
NUMBER.add("log10(number)", "The logarithm to base 10.", math.log10, ("log10(1000)", 3.0), result="float", cheap=True)
NUMBER.add("log2(number)", "The logarithm to base 2.", math.log2, ("log2(8)", 3.0), result="float", cheap=True)
NUMBER.add(
    "power(base, exponent)",
    "The base to the power of the exponent, the same as `base ** exponent`.",
    power,
    ("power(2, 10)", 1024),
    ("power(4, 0.5)", 2.0),
    cheap=True,
)
NUMBER.add(
    "min(values, *more)",
    "The least of several values, or of the items of a list.",
    min,
    ("min(3, 1, 2)", 1),
    ("min([3, 1, 2])", 1),
    builtin="min",
    lazy=True,
)
NUMBER.add(
    "max(values, *more)",
    "The greatest of several values, or of the items of a list.",
    max,
    ("max(3, 1, 2)", 3),
    ('max(item.price for item in [{"price": 2}, {"price": 5}])', 5),
    builtin="max",
    lazy=True,
)
NUMBER.add(
    "sum(values)",
    "The sum of the numbers in a list.",
    sum,
    ("sum([1, 2, 3])", 6),
    ("sum(x * 2 for x in [1, 2])", 6),
    result="number",
    builtin="sum",
    lazy=True,
)


@NUMBER.function("log(number, base=null)", ("log(1)", 0.0), ("log(100, 10)", 2.0), result="float", cheap=True)
def log(number: Any, base: Any) -> float:
    """The natural logarithm, or the one to the given base."""
    return math.log(number) if base is None else math.log(number, base)


@NUMBER.function("mean(values)", ("mean([1, 2, 6])", 3.0), result="float", lazy=False)
def mean(values: Any) -> float:
    """The average of the numbers in a list. An empty list has none: an error."""
    if not isinstance(values, list | tuple):
        raise TypeError(f"mean takes a list of numbers, not a {type_name(values)}")
    if not values:
        raise TransformError("mean: the list is empty")
    return float(sum(values) / len(values))


@NUMBER.function("clamp(number, low, high)", ("clamp(15, 0, 10)", 10), ("clamp(5, 0, 10)", 5), cheap=True)
def clamp(number: Any, low: Any, high: Any) -> Any:
    """The number, moved to `low` or `high` where it lies outside of them."""
    return low if number < low else min(number, high)


@NUMBER.function("sign(number)", ("sign(-2.5)", -1), ("sign(0)", 0), result="int", cheap=True)
def sign(number: Any) -> int:
    """-1, 0 or 1."""
    return int(number > 0) - int(number < 0)


@NUMBER.function("bucket(number, size)", ("bucket(17, 5)", 15), ("bucket(0.75, 0.5)", 0.5), result="number", cheap=True)
def bucket(number: Any, size: Any) -> Any:
    """The number moved down to a multiple of `size`."""
    return number // size * size


@NUMBER.function("bit_and(left, right)", ("bit_and(6, 3)", 2), result="int", cheap=True)
def bit_and(left: Any, right: Any) -> Any:
    """The bits that both whole numbers have."""
    return _whole(left) & _whole(right)


@NUMBER.function("bit_or(left, right)", ("bit_or(6, 3)", 7), result="int", cheap=True)
def bit_or(left: Any, right: Any) -> Any:
    """The bits that either whole number has."""
    return _whole(left) | _whole(right)


@NUMBER.function("bit_xor(left, right)", ("bit_xor(6, 3)", 5), result="int", cheap=True)
def bit_xor(left: Any, right: Any) -> Any:
    """The bits that just one of the whole numbers has."""
    return _whole(left) ^ _whole(right)


def _whole(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError(f"bits are those of whole numbers, not of a {type_name(value)}")
    return value


@NUMBER.function("random()", ("0 <= random() and random() < 1", True), result="float", deterministic=False, cheap=True)
def random() -> float:
    """A random number from 0 to below 1, another one each time: also when a record is processed again after a crash."""
    return randomness.random()

"""Aggregates that estimate, in little memory: quantiles and numbers of different values.

Both give the same for the same records whenever a checkpoint or a restart falls among them, and so are in no conflict
with exactly once. That rules out the sketches of quantiles in `datasketches`: KLL and REQ draw random numbers, and a
t-digest changes when it is serialised. So quantiles are DDSketch (Masson, Rim, Lee: DDSketch, VLDB 2019), which is
counts of buckets that grow by a fixed factor, and merges without any loss. Different values are HyperLogLog.
"""

from __future__ import annotations

import base64
import importlib.util
import math
from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from typing import Any, Final

from streamd.errors import FatalError
from streamd.expr.aggregates.aggregate import Aggregate, Argument, Constant
from streamd.expr.aggregates.picked import distinct_source
from streamd.expr.expression import Expression

ACCURACY: Final = 0.01
_GROWTH: Final = (1 + ACCURACY) / (1 - ACCURACY)
_FACTOR: Final = 1 / math.log(_GROWTH)
# Beyond the number of any bucket of a float. Buckets of negative numbers are negative, 0 is the bucket of 0.
_OFFSET: Final = 100_000

# 2 ** 12 registers: a standard error of 1.6 %.
_LOG_REGISTERS: Final = 12
NEEDED: Final = "pip install 'streamd[sketches]'"


def bucket(x: float) -> int:
    """The bucket of a number; buckets are in the order of their numbers."""
    if x > 0:
        return math.ceil(math.log(x) * _FACTOR) + _OFFSET
    return -math.ceil(math.log(-x) * _FACTOR) - _OFFSET if x < 0 else 0


def _middle(number: int) -> float:
    """The number that is within 1 % of all in a bucket."""
    if number == 0:
        return 0.0
    size = math.exp((abs(number) - _OFFSET) / _FACTOR) * (2 / (1 + _GROWTH))
    return math.copysign(size, number)


def quantiles(counts: Mapping[int, int], least: float, greatest: float, ranks: Sequence[float]) -> list[float | None]:
    """Estimates of quantiles, each within 1 % of the value of that rank; None where there is no value."""
    if not counts:
        return [None] * len(ranks)
    buckets = sorted(counts)
    last = sum(counts.values()) - 1
    found: list[float | None] = []
    for rank in ranks:
        left = math.floor(rank * last)
        if left in (0, last):
            found.append(float(least if left == 0 else greatest))
            continue
        for number in buckets:
            left -= counts[number]
            if left < 0:
                found.append(float(max(least, min(greatest, _middle(number)))))
                break
    return found


def quantile(counts: Mapping[int, int], least: float, greatest: float, rank: float) -> float | None:
    """As `quantiles`, for one rank."""
    return quantiles(counts, least, greatest, (rank,))[0]


class Quantile(Aggregate):
    """`quantile(x, 0.95)`, `quantile(x, [0.5, 0.95])`, `median(x)`: counts of buckets, the least, the greatest."""

    slots = 3
    packs = True
    growth = "one number for each 2 % of the range of the values"
    in_place = True

    def __init__(self, text: str, name: str, value: Expression, ranks: float | Sequence[float]) -> None:
        self.name = name  # type: ignore[misc]
        super().__init__(text, [Argument(text, value, "number")])
        self.ranks = ranks
        self.numeric = isinstance(ranks, float | int)

    def start_source(self) -> str:
        return "{}, None, None"

    def step_lines(self, slots: Sequence[str], names: Sequence[str], constant: Constant) -> list[str]:
        (counts, least, greatest), (x,) = slots, names
        return [
            f"if {x} is not None:",
            f"    agg_bucket = {constant('bucket', bucket)}({x})",
            f"    {counts}[agg_bucket] = {counts}.get(agg_bucket, 0) + 1",
            f"    if {least} is None or {x} < {least}: {least} = {x}",
            f"    if {greatest} is None or {x} > {greatest}: {greatest} = {x}",
        ]

    def merge_lines(self, slots: Sequence[str], others: Sequence[str], constant: Constant) -> list[str]:
        (counts, least, greatest), (counts_b, least_b, greatest_b) = slots, others
        return [
            f"for agg_bucket, agg_count in {counts_b}.items():",
            f"    {counts}[agg_bucket] = {counts}.get(agg_bucket, 0) + agg_count",
            f"if {counts_b}:",
            f"    if {least} is None or {least_b} < {least}: {least} = {least_b}",
            f"    if {greatest} is None or {greatest_b} > {greatest}: {greatest} = {greatest_b}",
        ]

    def result_source(self, slots: Sequence[str], constant: Constant) -> str:
        if self.numeric:
            return f"{constant('quantile', quantile)}({', '.join(slots)}, {self.ranks!r})"
        return f"{constant('quantiles', quantiles)}({', '.join(slots)}, {self.ranks!r})"

    def pack(self, values: list[Any]) -> list[Any]:
        return [[list(values[0]), list(values[0].values())], *values[1:]]

    def unpack(self, values: list[Any]) -> list[Any]:
        return [dict(zip(*values[0], strict=True)), *values[1:]]


def has_library() -> bool:
    """Whether the library of HyperLogLog is installed. It is not imported, which takes 0.2 s."""
    return importlib.util.find_spec("datasketches") is not None


class Registers:
    """A HyperLogLog of what `values.distinct` gives. It can be copied, which those of the library cannot."""

    __slots__ = ("_sketch",)

    def __init__(self, sketch: Any = None) -> None:
        library = _library()
        self._sketch = library.hll_sketch(_LOG_REGISTERS, library.HLL_8) if sketch is None else sketch

    def add(self, value: Hashable) -> None:
        """Take one value."""
        # A text stands for itself, but the library leaves out an empty one; all else is a text that begins with a zero.
        if type(value) is str:
            if not value or value[0] == "\0":
                value = "\0" + value
        elif type(value) is bytes:
            value = "\0" + value.decode()
        elif type(value) is int and value >= 2**63:
            value = f"\0{value}"
        self._sketch.update(value)

    def merged(self, other: Registers) -> Registers:
        """One of the values of both."""
        library = _library()
        union = library.hll_union(_LOG_REGISTERS)
        union.update(self._sketch)
        union.update(other._sketch)
        return Registers(union.get_result(library.HLL_8))

    def estimate(self) -> int:
        """About how many different values it has seen."""
        estimate: float = self._sketch.get_estimate()
        return round(estimate)

    def pack(self) -> str:
        """All of it, as a text."""
        return base64.b85encode(self._sketch.serialize_updatable()).decode()

    @classmethod
    def unpack(cls, text: str) -> Registers:
        """What `pack` gave."""
        return cls(_library().hll_sketch.deserialize(base64.b85decode(text)))

    def __deepcopy__(self, memo: object) -> Registers:
        return self.unpack(self.pack())


@cache
def _library() -> Any:
    """The library, imported when it is used for the first time: that takes 0.2 s."""
    try:
        import datasketches
    except ImportError:
        raise FatalError(f"approx_count_distinct needs the package `datasketches`: {NEEDED}") from None
    return datasketches


class ApproxCountDistinct(Aggregate):
    """`approx_count_distinct(x)`: a HyperLogLog, or None before any value."""

    name = "approx_count_distinct"
    packs = True
    growth = "at most 4 KiB"
    numeric = True

    def __init__(self, text: str, value: Expression) -> None:
        super().__init__(text, [Argument(text, value, "kept")])

    def start_source(self) -> str:
        return "None"

    def step_lines(self, slots: Sequence[str], names: Sequence[str], constant: Constant) -> list[str]:
        (slot,), (x,) = slots, names
        return [
            f"if {x} is not None:",
            f"    if {slot} is None: {slot} = {constant('Registers', Registers)}()",
            f"    {slot}.add({distinct_source(x, constant)})",
        ]

    def merge_lines(self, slots: Sequence[str], others: Sequence[str], constant: Constant) -> list[str]:
        (slot,), (other,) = slots, others
        return [
            f"if {slot} is None: {slot} = {other}",
            f"elif {other} is not None: {slot} = {slot}.merged({other})",
        ]

    def result_source(self, slots: Sequence[str], constant: Constant) -> str:
        return f"(0 if {slots[0]} is None else {slots[0]}.estimate())"

    def pack(self, values: list[Any]) -> list[Any]:
        return [None if values[0] is None else values[0].pack()]

    def unpack(self, values: list[Any]) -> list[Any]:
        return [None if values[0] is None else Registers.unpack(values[0])]

"""The aggregate functions: their names, parameters, docs and examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from streamd.expr.aggregates.aggregate import Aggregate
from streamd.expr.aggregates.custom import Custom
from streamd.expr.aggregates.numbers import Count, Extreme, Histogram, Mean, Ratio, Sum, Variance
from streamd.expr.aggregates.picked import Arrived, Best, Collect, CountDistinct, Order, Ordered
from streamd.expr.aggregates.sketches import ApproxCountDistinct, Quantile

# What may stand for a parameter: see `read`.
Kind: TypeAlias = Literal["value", "number", "values", "order", "size", "rank", "bounds", "aggregate", "reference"]
# An example: the aggregate, the documents it runs over, the result.
Example: TypeAlias = tuple[str, tuple[Mapping[str, Any], ...], Any]


class Parameter(NamedTuple):
    """A parameter. `keyword`: it is given by its name only. `example` is what an error's hint shows."""

    name: str
    kind: Kind
    example: str
    optional: bool = False
    keyword: bool = False


@dataclass(frozen=True, slots=True)
class AggregateFunction:
    """One aggregate function. `make(text, arguments)` takes the checked arguments by their parameters' names."""

    name: str
    doc: str
    parameters: tuple[Parameter, ...]
    make: Callable[[str, Mapping[str, Any]], Aggregate]
    examples: tuple[Example, ...]
    where: bool = True

    @property
    def signature(self) -> str:
        """`collect(x, n, order_by=…)`, as users read it."""
        parts = [
            f"{parameter.name}=…"
            if parameter.keyword
            else f"{parameter.name}, …"
            if parameter.kind == "values"
            else f"[{parameter.name}]"
            if parameter.optional
            else parameter.name
            for parameter in self.parameters
        ]
        return f"{self.name}({', '.join(parts)})"

    @property
    def example(self) -> str:
        """A call that would be right: `collect(product, 100)`."""
        required = [parameter.example for parameter in self.parameters if not parameter.optional]
        return f"{self.name}({', '.join(required)})"


_X = Parameter("x", "value", "product")
_NUMBER = Parameter("x", "number", "amount")
_ORDER = Parameter("order_by", "order", "[desc(price), date_time]", optional=True, keyword=True)
_BY = Parameter("by", "order", "price")


def _upwards(order: list[Order]) -> list[Order]:
    return [Order(place.expression, True) for place in order]


def _first(name: str) -> Callable[[str, Mapping[str, Any]], Aggregate]:
    def make(text: str, given: Mapping[str, Any]) -> Aggregate:
        if given.get("order_by") is None:
            return Arrived(text, name, given["x"])
        return Ordered(text, name, given["x"], given["order_by"])

    return make


def _collect(text: str, given: Mapping[str, Any]) -> Aggregate:
    if given.get("order_by") is None:
        return Collect(text, given["x"], given["n"])
    return Best(text, "collect", given["x"], given["n"], given["order_by"])


def _top_k(text: str, given: Mapping[str, Any]) -> Aggregate:
    order = given.get("by") or [Order(given["x"], False)]
    return Best(text, "top_k", given["x"], given["k"], _upwards(order))


def _documents(name: str, *found: Any) -> tuple[Mapping[str, Any], ...]:
    return tuple({name: value} for value in found)


_NUMBERS = _documents("a", 1, 2, 6)
_BIDS = (
    {"bidder": "ann", "price": 5, "at": 1},
    {"bidder": "bob", "price": 9, "at": 2},
    {"bidder": "cid", "price": 9, "at": 3},
)


def _variance(name: str, doc: str, result: float) -> AggregateFunction:
    return AggregateFunction(
        name, doc, (_NUMBER,), lambda text, given: Variance(text, name, given["x"]), ((f"{name}(a)", _NUMBERS, result),)
    )


_FUNCTIONS: Final = (
    AggregateFunction(
        "count",
        "How many records; with `where=` those for which it holds.",
        (),
        lambda text, given: Count(text, given.get("where")),
        (("count()", _NUMBERS, 3), ("count(where=a < 5)", _NUMBERS, 2)),
    ),
    AggregateFunction(
        "sum",
        "The sum of numbers; 0 while there is none. Integers are added exactly, however large the sum; one beyond 64 "
        "bits is given as the nearest floating-point number.",
        (_NUMBER,),
        lambda text, given: Sum(text, given["x"]),
        (("sum(a)", _NUMBERS, 9), ("sum(a, where=a > 1)", _NUMBERS, 8)),
    ),
    AggregateFunction(
        "mean",
        "The mean of numbers; null while there is none.",
        (_NUMBER,),
        lambda text, given: Mean(text, given["x"]),
        (("mean(a)", _NUMBERS, 3.0),),
    ),
    AggregateFunction(
        "min",
        "The least number or text; numbers are less than texts.",
        (Parameter("x", "value", "amount"),),
        lambda text, given: Extreme(text, "min", given["x"]),
        (("min(a)", _NUMBERS, 1),),
    ),
    AggregateFunction(
        "max",
        "The greatest number or text; numbers are less than texts.",
        (Parameter("x", "value", "amount"),),
        lambda text, given: Extreme(text, "max", given["x"]),
        (("max(a)", _NUMBERS, 6),),
    ),
    _variance("variance", "The variance of a sample (divided by n − 1); null for fewer than two numbers.", 7.0),
    _variance("variance_pop", "The variance of all there is (divided by n).", 14 / 3),
    _variance("stddev", "The standard deviation of a sample; null for fewer than two numbers.", 7**0.5),
    _variance("stddev_pop", "The standard deviation of all there is.", (14 / 3) ** 0.5),
    AggregateFunction(
        "first",
        "The first value that is not null: as they arrive, or in an order.",
        (_X, _ORDER),
        _first("first"),
        (
            ("first(bidder)", _BIDS, "ann"),
            ("first(bidder, order_by=[desc(price), at])", _BIDS, "bob"),
            ("first({who: bidder}, order_by=bidder)".replace("who", '"who"'), _BIDS, {"who": "ann"}),
        ),
    ),
    AggregateFunction(
        "last",
        "The last value that is not null: as they arrive, or in an order.",
        (_X, _ORDER),
        _first("last"),
        (("last(bidder)", _BIDS, "cid"), ("last(bidder, order_by=[price, desc(at)])", _BIDS, "bob")),
    ),
    AggregateFunction(
        "collect",
        "The first n values that are not null, as a list: as they arrive, or in an order. n is at most 100,000.",
        (_X, Parameter("n", "size", "100"), _ORDER),
        _collect,
        (
            ("collect(bidder, 2)", _BIDS, ["ann", "bob"]),
            ("collect(bidder, 2, order_by=[desc(price), desc(bidder)])", _BIDS, ["cid", "bob"]),
        ),
    ),
    AggregateFunction(
        "argmin",
        "The value of the record in which `by` is least; of several the first that arrived.",
        (_X, _BY),
        lambda text, given: Ordered(text, "argmin", given["x"], given["by"]),
        (("argmin(bidder, price)", _BIDS, "ann"),),
    ),
    AggregateFunction(
        "argmax",
        "The value of the record in which `by` is greatest; of several the first that arrived.",
        (_X, _BY),
        lambda text, given: Ordered(text, "argmax", given["x"], _upwards(given["by"])),
        (("argmax(bidder, price)", _BIDS, "bob"), ("argmax(bidder, [price, at])", _BIDS, "cid")),
    ),
    AggregateFunction(
        "top_k",
        "The k greatest values, or the values of the k records in which `by` is greatest, the greatest first; of equal "
        "ones those that arrived first.",
        (_X, Parameter("k", "size", "10"), Parameter("by", "order", "price", optional=True)),
        _top_k,
        (("top_k(price, 2)", _BIDS, [9, 9]), ("top_k(bidder, 2, price)", _BIDS, ["bob", "cid"])),
    ),
    AggregateFunction(
        "count_distinct",
        "How many different values, exactly. It keeps each of them.",
        (_X,),
        lambda text, given: CountDistinct(text, given["x"]),
        (("count_distinct(price)", _BIDS, 2), ("count_distinct(price, where=at > 1)", _BIDS, 1)),
    ),
    AggregateFunction(
        "approx_count_distinct",
        "About how many different values, in at most 4 KiB (HyperLogLog): exact to some hundreds, then with a standard "
        "error of 1.6 %. It needs `pip install 'streamd[sketches]'`.",
        (_X,),
        lambda text, given: ApproxCountDistinct(text, given["x"]),
        (("approx_count_distinct(price)", _BIDS, 2),),
    ),
    AggregateFunction(
        "quantile",
        "The number below which a part q (0 to 1) of the numbers lies, or several of them as a list, each within 1 % "
        "of the exact one (DDSketch).",
        (_NUMBER, Parameter("q", "rank", "0.95")),
        lambda text, given: Quantile(text, "quantile", given["x"], given["q"]),
        (("quantile(a, 1)", _NUMBERS, 6.0), ("quantile(a, [0, 1])", _NUMBERS, [1.0, 6.0])),
    ),
    AggregateFunction(
        "median",
        "`quantile(x, 0.5)`.",
        (_NUMBER,),
        lambda text, given: Quantile(text, "median", given["x"], 0.5),
        (("median(a)", _documents("a", 4, 4, 4), 4.0),),
    ),
    AggregateFunction(
        "histogram",
        "How many numbers lie below the first bound, from each bound to below the next, and from the last one on.",
        (_NUMBER, Parameter("bounds", "bounds", "[10, 100, 1000]")),
        lambda text, given: Histogram(text, given["x"], given["bounds"]),
        (("histogram(a, [2, 5])", _NUMBERS, [1, 1, 1]),),
    ),
    AggregateFunction(
        "ratio",
        "One aggregate divided by another; null where that is 0 or null.",
        (Parameter("a", "aggregate", "sum(amount)"), Parameter("b", "aggregate", "count()")),
        lambda text, given: Ratio(text, given["a"], given["b"]),
        (("ratio(count(where=a > 1), count())", _NUMBERS, 2 / 3),),
    ),
    AggregateFunction(
        "custom",
        "Your own Python: a class with `start()` for a new state (JSON), `add(state, x, …)` and `merge(state, later)` "
        "that give the new one, and `result(state)`.",
        (Parameter("code", "reference", '"shop.aggregates:Basket"'), Parameter("x", "values", "item")),
        lambda text, given: Custom(text, given["code"], given["x"]),
        (),
    ),
)

AGGREGATES: Final[Mapping[str, AggregateFunction]] = MappingProxyType({one.name: one for one in _FUNCTIONS})

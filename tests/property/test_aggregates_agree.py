"""Aggregates against brute force over the list of values: stepped, merged from any parts, packed and unpacked."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamd.expr import parse_aggregate
from streamd.expr.aggregates import Accumulator, compiled
from streamd.expr.compiled import compile_expression
from streamd.expr.expression import Scope

Documents = list[dict[str, Any]]

INTEGERS = st.one_of(st.integers(-5, 5), st.integers(-(2**63), 2**64 - 1))
FLOATS = st.one_of(st.floats(-100, 100), st.floats(-1e100, 1e100))
NUMBERS = st.one_of(st.none(), INTEGERS, FLOATS)
TEXTS = st.text('abzä€😀"\\\0', max_size=3)
VALUES = st.one_of(NUMBERS, TEXTS, st.booleans(), st.lists(st.integers(0, 2), max_size=2))
DOCUMENTS = st.lists(
    st.fixed_dictionaries(
        {"n": NUMBERS, "x": VALUES, "p": st.integers(0, 3) | TEXTS, "t": st.integers(0, 2), "yes": st.booleans()}
    ),
    max_size=25,
)


def numbers(documents: Documents) -> list[Any]:
    return [one["n"] for one in documents if one["n"] is not None]


def present(documents: Documents) -> Documents:
    return [one for one in documents if one["x"] is not None]


def ordered(documents: Documents, *places: tuple[str, bool]) -> Documents:
    found = present(documents)
    for name, descending in reversed(places):
        found.sort(key=lambda one: (isinstance(one[name], str), one[name]), reverse=descending)
    return found


def or_none(function: Callable[[list[Any]], Any], least: int = 1) -> Callable[[Documents], Any]:
    return lambda documents: function(numbers(documents)) if len(numbers(documents)) >= least else None


def exact(values: list[Any]) -> Any:
    total = sum(values)
    return float(total) if isinstance(total, int) and not -(2**63) <= total < 2**64 else total


def first(documents: Documents) -> Any:
    return documents[0]["x"] if documents else None


def xs(documents: Documents) -> list[Any]:
    return [one["x"] for one in documents]


def distinct(documents: Documents) -> int:
    return len({json.dumps(int(x) if type(x) is float and x.is_integer() else x) for x in xs(present(documents))})


def histogram(documents: Documents) -> list[int]:
    bounds = [-math.inf, 0, 2.5, 1e9, math.inf]
    return [sum(low <= value < high for value in numbers(documents)) for low, high in pairwise(bounds)]


UP, DOWN = False, True
REFERENCE: dict[str, Callable[[Documents], Any]] = {
    "count()": len,
    "count(where=yes)": lambda found: sum(one["yes"] for one in found),
    "sum(n)": lambda found: exact(numbers(found)),
    "sum(n, where=yes)": lambda found: exact(numbers([one for one in found if one["yes"]])),
    "mean(n)": or_none(lambda found: exact(found) / len(found)),
    "min(n)": or_none(min),
    "max(n)": or_none(max),
    "min(p)": lambda found: min((one["p"] for one in found), key=lambda p: (isinstance(p, str), p), default=None),
    "max(p)": lambda found: max((one["p"] for one in found), key=lambda p: (isinstance(p, str), p), default=None),
    "first(x)": lambda found: first(present(found)),
    "last(x)": lambda found: first(present(found)[::-1]),
    "first(x, order_by=[desc(p), t])": lambda found: first(ordered(found, ("p", DOWN), ("t", UP))),
    "last(x, order_by=[p, desc(t)])": lambda found: first(ordered(found[::-1], ("p", DOWN), ("t", UP))),
    "argmin(x, p)": lambda found: first(ordered(found, ("p", UP))),
    "argmax(x, [t, p])": lambda found: first(ordered(found, ("t", DOWN), ("p", DOWN))),
    "collect(x, 4)": lambda found: xs(present(found)[:4]),
    "collect(x, 4, order_by=[desc(t), p])": lambda found: xs(ordered(found, ("t", DOWN), ("p", UP))[:4]),
    "top_k(x, 3, p)": lambda found: xs(ordered(found, ("p", DOWN))[:3]),
    "count_distinct(x)": distinct,
    "approx_count_distinct(x)": distinct,
    "count_distinct(x, where=yes)": lambda found: distinct([one for one in found if one["yes"]]),
    "histogram(n, [0, 2.5, 1e9])": histogram,
    "ratio(count(where=yes), count())": lambda found: sum(one["yes"] for one in found) / len(found) if found else None,
}


def checked(many: Accumulator, documents: Documents) -> list[Any]:
    texts = {argument.text: argument for one in many.aggregates for argument in one.arguments}
    columns = [compile_expression(argument) for argument in texts.values()]
    return [many.check([column(Scope(one)) for column in columns]) for one in documents]


def stored(many: Accumulator, accumulator: list[Any]) -> list[Any]:
    return many.unpack(orjson.loads(orjson.dumps(many.pack(accumulator))))


def stepped(many: Accumulator, rows: list[Any]) -> list[Any]:
    accumulator = many.start()
    for row in rows:
        many.step(accumulator, row)
    return accumulator


def merged(many: Accumulator, rows: list[Any], cuts: list[int]) -> list[Any]:
    places = sorted({0, *(cut % (len(rows) + 1) for cut in cuts), len(rows)})
    accumulator = many.start()
    for start, end in pairwise(places):
        many.merge(accumulator, stored(many, stepped(many, rows[start:end])))
        accumulator = stored(many, accumulator)
    return accumulator


def same(one: Any, two: Any) -> bool:
    if isinstance(one, float) or isinstance(two, float):
        return one == two or (two is not None and one == pytest.approx(two, rel=1e-9, abs=1e-9))
    return bool(one == two) and type(one) is type(two)


def in_one(documents: Documents, cuts: list[int], texts: list[str]) -> tuple[list[Any], list[Any]]:
    many = compiled([parse_aggregate(text) for text in texts])
    rows = checked(many, documents)
    whole = stepped(many, rows)
    results = many.results(whole)
    assert many.results(stored(many, whole)) == results
    return results, many.results(merged(many, rows, cuts))


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a loaded machine
@given(DOCUMENTS, st.lists(st.integers(0, 25), max_size=4))
def test_all_at_once_against_brute_force(documents: Documents, cuts: list[int]) -> None:
    whole, parts = in_one(documents, cuts, list(REFERENCE))
    # What is added in another order, or in parts, is rounded otherwise.
    large = max((abs(one) for one in numbers(documents)), default=0)
    for (text, reference), one, two in zip(REFERENCE.items(), whole, parts, strict=True):
        right = reference(documents)
        if text.startswith(("sum", "mean")) and isinstance(right, float):
            assert one == pytest.approx(right, rel=1e-9, abs=1e-9 * large), text
            assert two == pytest.approx(right, rel=1e-9, abs=1e-9 * large), text
        else:
            assert same(one, right), (text, one, right)
            assert same(two, right), (text, two, right)


@given(st.lists(st.one_of(st.integers(-1000, 1000), st.floats(-1e3, 1e3)), max_size=30), st.lists(st.integers(0, 30)))
def test_variances(found: list[float], cuts: list[int]) -> None:
    texts = ["variance(n)", "variance_pop(n)", "stddev(n)", "stddev_pop(n)"]
    functions = (statistics.variance, statistics.pvariance, statistics.stdev, statistics.pstdev)
    for results in in_one([{"n": value} for value in found], cuts, texts):
        for result, function, least in zip(results, functions, (2, 1, 2, 1), strict=True):
            right = function(found) if len(found) >= least else None
            assert result == (None if right is None else pytest.approx(right, rel=1e-6, abs=1e-6))


@given(st.lists(st.one_of(INTEGERS, FLOATS), min_size=1, max_size=60), st.lists(st.integers(0, 60), max_size=4))
def test_quantiles_are_within_one_percent(found: list[float], cuts: list[int]) -> None:
    ranks = [0, 0.1, 0.5, 0.95, 1]
    whole, parts = in_one([{"n": value} for value in found], cuts, [f"quantile(n, {ranks})"])
    assert whole == parts
    for rank, result in zip(ranks, whole[0], strict=True):
        right = sorted(found)[math.floor(rank * (len(found) - 1))]
        assert abs(result - right) <= 0.0100001 * abs(right)


@given(st.lists(st.integers(-(2**63), 2**64 - 1), max_size=30), st.lists(st.integers(0, 30), max_size=4))
def test_integers_are_added_exactly(found: list[int], cuts: list[int]) -> None:
    many = compiled([parse_aggregate("sum(n)")])
    rows = checked(many, [{"n": value} for value in found])
    down = checked(many, [{"n": -value} for value in found if value < 2**63])
    for accumulator in (stepped(many, rows), merged(many, rows, cuts)):
        for row in down:
            many.step(accumulator, row)
        left = sum(value for value in found if value >= 2**63)
        assert many.results(accumulator) == [left if left < 2**64 else float(left)]


def test_many_different_values_are_counted_within_five_percent() -> None:
    many = compiled([parse_aggregate("approx_count_distinct(n)")])
    for size in (100, 5_000, 50_000):
        [one] = many.results(stepped(many, [(f"user-{n}",) for n in range(size)]))
        assert abs(one - size) <= 0.05 * size

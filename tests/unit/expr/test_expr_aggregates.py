"""Aggregates: from text to steps over values."""

from __future__ import annotations

import functools

import pytest

from streamd.errors import TransformError
from streamd.expr import AGGREGATES, ExpressionError, parse_aggregate


def over(text, values):
    function = parse_aggregate(text).function
    return function.result(functools.reduce(function.step, values, function.start))


@pytest.mark.parametrize(
    ("text", "values", "result"),
    [
        ("count()", [None, 1, "a"], 3),
        ("count()", [], 0),
        ("sum(a)", [1, 2.5], 3.5),
        ("sum(a)", [], 0),
        ("min(a)", [3, -1, 2], -1),
        ("min(a)", ["b", "a"], "a"),
        ("max(a)", [3, 7.5, 2], 7.5),
        ("max(a)", [], None),
        ("mean(a)", [1, 2, 6], 3.0),
        ("mean(a)", [], None),
        ("first(a)", [[1], 2], [1]),
        ("first(a)", [], None),
        ("last(a)", [1, {"b": 2}], {"b": 2}),
        ("last(a)", [], None),
    ],
)
def test_over_values(text, values, result):
    assert over(text, values) == result


@pytest.mark.parametrize("name", sorted(AGGREGATES))
def test_accumulators_are_never_changed_in_place(name):
    function = AGGREGATES[name]
    before = repr(function.start)
    one = function.step(function.start, 5)
    kept = repr(one)
    function.step(one, 3)
    assert (repr(function.start), repr(one)) == (before, kept)


@pytest.mark.parametrize(
    ("text", "values", "message"),
    [
        ("sum(a)", ["x"], "sum needs a number, got a text"),
        ("sum(a)", [True], "sum needs a number, got a boolean"),
        ("mean(a)", [{}], "mean needs a number, got an object"),
        ("min(a)", [[1]], "min needs a number, got a list"),
        ("sum(a)", [2**63 - 1, 1], "sum is out of range: expected 64 bits for an integer, a finite number otherwise"),
        ("sum(a)", [1e308, 1e308], "sum is out of range: expected 64 bits for an integer, a finite number otherwise"),
        ("last(a)", [float("nan")], "last is out of range: expected 64 bits for an integer, a finite number otherwise"),
        ("last(a)", [{1, 2}], "last keeps JSON values, got set"),
        ("max(a)", [1, "a"], "max compares values of one kind, got a number and a text"),
    ],
)
def test_a_value_that_it_cannot_take(text, values, message):
    with pytest.raises(TransformError) as caught:
        over(text, values)
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["first(a)", "last(a)"])
def test_nobody_else_can_change_what_is_kept(text):
    function = parse_aggregate(text).function
    given = {"a": [1]}
    kept = function.step(function.start, given)
    given["a"].append(2)
    function.result(kept)["a"].append(3)
    assert function.result(kept) == {"a": [1]}


@pytest.mark.parametrize(
    ("text", "offset", "message", "hint"),
    [
        ("amount", 0, "expected an aggregate such as count() or sum(amount)", None),
        ("suum(a)", 0, "there is no aggregate 'suum'", "did you mean sum?"),
        ("sum()", 4, "sum has the wrong number of arguments", "write sum(amount)"),
        ("count(a)", 6, "count has the wrong number of arguments", "write count()"),
        (" sum( a. )", 8, None, None),
    ],
)
def test_a_text_that_is_none(text, offset, message, hint):
    with pytest.raises(ExpressionError) as caught:
        parse_aggregate(text)
    assert caught.value.offset == offset
    if message is not None:
        assert (caught.value.message, caught.value.hint) == (message, hint)

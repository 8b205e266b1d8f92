"""The stage `set`."""

from __future__ import annotations

import pytest

from streamd.errors import FatalError


async def test_sets_fields_and_leaves_the_others(through):
    out = await through("stages:\n- set: {eur: 'round(amount * 1.1, 2)', kind: upper(kind)}\n",
                        {"amount": 10, "kind": "a", "rest": [1]})  # fmt: skip
    assert out == [{"amount": 10, "kind": "A", "rest": [1], "eur": 11.0}]


async def test_an_expression_sees_the_fields_set_before_it(through):
    assert await through("stages:\n- set: {a: n + 1, b: a + 1}\n", {"n": 1}) == [{"n": 1, "a": 2, "b": 3}]


async def test_dotted_names_set_inside_objects_and_make_them(through):
    out = await through("stages:\n- set: {o.x: 1, p.q.r: n}\n", {"n": 5, "o": {"y": 2}}, {"n": 6, "o": None})
    assert out == [{"n": 5, "o": {"y": 2, "x": 1}, "p": {"q": {"r": 5}}}, {"n": 6, "o": {"x": 1}, "p": {"q": {"r": 6}}}]


async def test_a_value_and_then_a_field_inside_it(through):
    out = await through("stages:\n- set:\n    a: '{\"b\": n}'\n    a.c: n\n", {"n": 1})
    assert out == [{"n": 1, "a": {"b": 1, "c": 1}}]


async def test_inside_something_that_is_no_object_is_an_error(through):
    with pytest.raises(FatalError, match=r"cannot set 'x' inside a string"):
        await through("stages:\n- set: {o.x: 1}\n", {"o": "text"})


async def test_key_fields_and_duplicates_in_the_record(through):
    assert await through("stages:\n- set: {n: n + 1}\n", b'{"n":1,"n":5}') == [{"n": 6}]


def test_names_are_checked(refused):
    [problem] = refused("stages:\n- set: {a..b: 1}\n")
    assert "without empty parts" in problem.message
    [problem] = refused("stages:\n- set: {}\n")
    assert problem.place.line == 5

"""The stage `map`."""

from __future__ import annotations

import pytest


async def test_a_new_document_with_just_these_fields(through):
    out = await through("stages:\n- map: {id: order.id, total: 'round(amount * 1.1, 2)'}\n",
                        {"order": {"id": 7}, "amount": 10, "rest": 1})  # fmt: skip
    assert out == [{"id": 7, "total": 11.0}]


async def test_all_expressions_see_the_old_document(through):
    assert await through("stages:\n- map: {a: b, b: a}\n", {"a": 1, "b": 2}) == [{"a": 2, "b": 1}]


async def test_dotted_names_make_objects(through):
    out = await through("stages:\n- map: {a.b: n, a.c.d: n + 1, e: n}\n- set: {f: a.c.d}\n", {"n": 1})
    assert out == [{"a": {"b": 1, "c": {"d": 2}}, "e": 1, "f": 2}]


@pytest.mark.parametrize("order", ["a: n\n    a.b: n", "a.b: n\n    a: n", "a.b: n\n    a.b.c: n"])
def test_a_value_and_a_field_inside_it_are_refused_with_their_place(refused, order):
    [problem] = refused(f"stages:\n- map:\n    {order}\n")
    assert "is one value and" in problem.message
    longer = max(order.replace(": n", "").split(), key=len)
    assert repr(longer) in problem.message
    line = 6 + [name.strip() for name in order.replace(": n", "").split("\n")].index(longer)
    assert (problem.place.line, problem.place.column) == (line, 5)


@pytest.mark.parametrize("name", ["a..b", ".a", "a.", "' a'"])
def test_a_name_without_a_part_is_refused(refused, name):
    [problem] = refused(f"stages:\n- map: {{{name}: n}}\n")
    assert "without empty parts" in problem.message


def test_no_fields_are_refused(refused):
    [problem] = refused("stages:\n- map: {}\n")
    assert problem.place.line == 5

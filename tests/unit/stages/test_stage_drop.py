"""The stage `drop`."""

from __future__ import annotations


async def test_removes_fields_also_inside_objects(through):
    out = await through("stages:\n- drop: [a, o.x, o.p.q]\n",
                        {"a": 1, "b": 2, "o": {"x": 1, "y": 2, "p": {"q": 1}}})  # fmt: skip
    assert out == [{"b": 2, "o": {"y": 2, "p": {}}}]


async def test_a_field_that_is_not_there_is_no_error(through):
    assert await through("stages:\n- drop: [a, b.c, d.e]\n", {"b": 1}, {"d": {"f": None}}) == [
        {"b": 1},
        {"d": {"f": None}},
    ]


async def test_one_name_needs_no_list(through):
    assert await through("stages:\n- drop: email\n", {"email": "x", "n": 1}) == [{"n": 1}]


async def test_a_dropped_field_can_be_set_again(through):
    assert await through("stages:\n- drop: a\n- set: {a: n}\n", {"a": 1, "n": 2}) == [{"n": 2, "a": 2}]


def test_names_are_checked(refused):
    [problem] = refused("stages:\n- drop: [a., b]\n")
    assert "without empty parts" in problem.message
    [problem] = refused("stages:\n- drop: []\n")
    assert problem.place.line == 5
    [problem] = refused("stages:\n- drop: [1]\n")
    assert problem.code == "wrong-type"

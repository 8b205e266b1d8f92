"""The stage `flatten`."""

from __future__ import annotations

import pytest

from streamd.errors import FatalError


async def test_one_record_for_each_element(through, app):
    out = await through("stages:\n- flatten: items\n", {"o": 7, "items": ["a", "b"]}, {"o": 8, "items": []})
    assert out == [{"o": 7, "items": "a"}, {"o": 7, "items": "b"}]
    assert [r.key for r in await app.records("out")] == [b"k0", b"k0"]
    assert app.total("streamd_stage_output_records_total", stage="flatten") == 2


async def test_under_another_name(through):
    out = await through("stages:\n- flatten: {list: o.items, as: item}\n", {"o": {"n": 1, "items": [1, 2]}})
    assert out == [{"o": {"n": 1}, "item": 1}, {"o": {"n": 1}, "item": 2}]


async def test_as_may_be_inside_an_object(through):
    assert await through("stages:\n- flatten: {list: items, as: o.item}\n", {"items": [1]}) == [{"o": {"item": 1}}]


async def test_only_the_element(through):
    out = await through("stages:\n- flatten: {list: items, only: true}\n- set: {m: n + 1}\n",
                        {"o": 1, "items": [{"n": 1}, {"n": 2}]})  # fmt: skip
    assert out == [{"n": 1, "m": 2}, {"n": 2, "m": 3}]


async def test_of_an_expression(through):
    assert await through("stages:\n- flatten: {list: 'split(t, \",\")', as: w}\n", {"t": "a,b"}) == [
        {"t": "a,b", "w": "a"},
        {"t": "a,b", "w": "b"},
    ]


async def test_lists_in_lists(through):
    out = await through("stages:\n- flatten: rows\n- flatten: rows\n", {"rows": [[1, 2], [], [3]]})
    assert out == [{"rows": 1}, {"rows": 2}, {"rows": 3}]


async def test_a_failing_element_takes_its_record_and_no_other(through, app):
    out = await through("stages:\n- flatten: n\n- set: {m: 1 / n}\non_error: skip\n",
                        {"n": [1, 2]}, {"n": [1, 0, 2]}, {"n": [4]})  # fmt: skip
    assert out == [{"n": 1, "m": 1.0}, {"n": 2, "m": 0.5}, {"n": 4, "m": 0.25}]
    assert app.total("streamd_failed_records_total") == 1


@pytest.mark.parametrize(("value", "name"), [("text", "text"), ({"a": 1}, "object"), (None, "null"), (3, "number")])
async def test_what_is_no_list_is_an_error(through, value, name):
    with pytest.raises(FatalError, match=f"flatten needs a list, the value is of type {name}"):
        await through("stages:\n- flatten: items\n", {"items": value})


async def test_only_needs_objects(through):
    with pytest.raises(FatalError, match="flatten with `only` needs objects in the list, one is of type number"):
        await through("stages:\n- flatten: {list: items, only: true}\n", {"items": [{}, 1]})

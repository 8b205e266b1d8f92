"""The stage `filter`."""

from __future__ import annotations

import pytest

from streamd.errors import FatalError


async def test_keeps_records_for_which_the_condition_holds(through, app):
    out = await through("stages:\n- filter: n > 1 and kind != 'x'\n", *[{"n": n, "kind": "y"} for n in range(4)])
    assert [v["n"] for v in out] == [2, 3]
    assert app.total("streamd_stage_filtered_records_total", stage="filter") == 2
    assert app.total("streamd_stage_input_records_total", stage="filter") == 4
    assert app.total("streamd_stage_output_records_total", stage="filter") == 2


async def test_records_go_on_byte_for_byte(through, app):
    await through("stages:\n- filter: {where: n == 1.50}\n", b'{ "n" : 1.50, "n2":[ ] }')
    assert [r.value for r in await app.records("out")] == [b'{ "n" : 1.50, "n2":[ ] }']


@pytest.mark.parametrize(
    ("value", "kept"), [(0, False), ("", False), ([], False), (None, False), ("a", True), (2, True)]
)
async def test_a_condition_is_true_as_python_has_it(through, value, kept):
    assert await through("stages:\n- filter: v\n", {"v": value}) == ([{"v": value}] if kept else [])


async def test_metadata_and_absent_fields(through):
    out = await through("stages:\n- filter: has(n) and _key != 'k1'\n", {"n": 1}, {"n": 2}, {"m": 3})
    assert out == [{"n": 1}]


async def test_a_missing_field_is_an_error_and_not_false(through, app):
    with pytest.raises(FatalError, match="field 'n' is missing"):
        await through("stages:\n- filter: n > 1\n", {"m": 1})
    assert await app.values() == []


def test_a_condition_is_needed(refused):
    [problem] = refused("stages:\n- filter: {}\n")
    assert "`where` of stage `filter` is missing" in problem.message
    [problem] = refused("stages:\n- filter: n >\n")
    assert (problem.code, problem.place.line) == ("bad-expression", 5)

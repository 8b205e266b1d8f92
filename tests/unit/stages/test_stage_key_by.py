"""The stage `key_by`: what key a record gets, and what can be none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.component.partitioning import composite_bytes, key_bytes
from streamd.component.state import key_of
from streamd.errors import FatalError, TransformError


@pytest.mark.parametrize(
    ("by", "document", "key"),
    [
        ("user", {"user": "ann"}, "ann"),
        ("user", {"user": "ä" * 20_000}, "ä" * 20_000),
        ("user", {"user": 7}, "7"),
        ("user", {"user": 7.0}, "7"),
        ("user", {"user": True}, "true"),
        ("user", {"user": {"b": 1, "a": 2}}, '{"a":2,"b":1}'),
        ("upper(user)", {"user": "ann"}, "ANN"),
        ("[a, b]", {"a": "x", "b": 1.0}, '["x",1]'),
        ("{by: {country: user.country}}", {"user": {"country": "DE"}}, "DE"),
        ("{by: [a, b], partitions: 1}", {"a": 1, "b": [2]}, "[1,[2]]"),
    ],
)
async def test_a_key_is_text_or_json(through, by, document, key):
    [out] = await through(f"stages:\n- key_by: {by}\n- set: {{key: _key}}\n", document)
    assert out["key"] == key


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"user": None}, "null"),
        ({}, "'user' is missing"),
        ({"user": "x" * 70_000}, "70000"),
    ],
)
async def test_what_is_no_key_fails_the_record(through, document, said):
    with pytest.raises(FatalError, match=said):
        await through("stages:\n- key_by: user\n", document)


async def test_one_of_several_that_is_null_fails_the_record(through):
    with pytest.raises(FatalError, match="null"):
        await through("stages:\n- key_by: [a, b]\n", {"a": 1, "b": None})


@pytest.mark.parametrize("by", ["[a, a]", "[]", "{by: user, partitions: 0}", "{by: {}}", "3"])
def test_settings_are_checked(refused, by):
    assert refused(f"stages:\n- key_by: {by}\n")


values = st.one_of(st.text(max_size=5), st.integers(-5, 5), st.floats(-5, 5), st.booleans())


@given(values, values)
def test_the_same_key_of_a_store_has_the_same_bytes(one, other):
    if key_of(one) == key_of(other) and type(key_of(one)) is type(key_of(other)):
        assert key_bytes(one) == key_bytes(other)
        assert composite_bytes([one, 1]) == composite_bytes([other, 1.0])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, object()])
def test_what_makes_no_key(value):
    with pytest.raises(TransformError):
        key_bytes(value)
    with pytest.raises(TransformError):
        composite_bytes([float("nan"), value])

"""What can be a key, and which keys are the same."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.component.state import MAX_KEY_BYTES, key_of
from streamd.errors import TransformError

FLOATS = st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: not x.is_integer() or abs(x) < 2**63)
SCALARS = st.one_of(st.text(), st.integers(-(2**63), 2**63), st.booleans(), FLOATS)
KEYS = st.one_of(SCALARS, st.lists(SCALARS, max_size=3))


def same(one, other):
    """Equal as JSON: 1 and 1.0 are one number, 1 and true are not."""
    return isinstance(one, bool) is isinstance(other, bool) and one == other


@given(KEYS, KEYS)
def test_keys_are_equal_where_values_are(one, other):
    if not isinstance(one, list) and not isinstance(other, list):
        assert (key_of(one) == key_of(other)) is same(one, other)
    assert key_of(one) == key_of(one)


@given(KEYS)
def test_a_key_is_a_text_an_integer_or_bytes(value):
    assert type(key_of(value)) in (str, int, bytes)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "a key is null"),
        (math.nan, "no finite number"),
        (math.inf, "no finite number"),
        (object(), "no JSON value, but of type object"),
        (2**64, "integer of more than 64 bits"),
        (2.0**64, "whole number of more than 64 bits"),
        ("\ud800", "half of a surrogate pair"),
        ("x" * (MAX_KEY_BYTES + 1), f"takes at most {MAX_KEY_BYTES}"),
        (["x" * MAX_KEY_BYTES], f"takes at most {MAX_KEY_BYTES}"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_can_be_no_key(value, says):
    with pytest.raises(TransformError, match=says):
        key_of(value)

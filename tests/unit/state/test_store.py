"""A store: its keys, its changes, and back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.errors import TransformError
from streamd.state.store import MAX_KEY_BYTES, DictStore

SCALARS = st.one_of(
    st.text(), st.integers(-(2**63), 2**63), st.booleans(), st.floats(allow_nan=False, allow_infinity=False)
)
KEYS = st.one_of(SCALARS, st.lists(SCALARS, max_size=3))


def same(one, other):
    """Equal as JSON: 1 and 1.0 are one number, 1 and true are not."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) is isinstance(other, bool) and one == other


@given(KEYS, KEYS)
def test_keys_are_equal_where_values_are(one, other):
    store = DictStore()
    if not isinstance(one, list) and not isinstance(other, list):
        assert (store.key_of(one) == store.key_of(other)) is same(one, other)
    assert store.key_of(one) == store.key_of(one)


@given(st.dictionaries(st.one_of(st.text(), st.integers(-(2**63), 2**64 - 1)), st.integers(0, 9)), st.lists(KEYS))
def test_what_is_written_is_what_is_loaded(plain, others):
    store, again = DictStore(), DictStore()
    for key, value in [*plain.items(), *((key, 0) for key in others)]:
        try:
            key = store.key_of(key)
        except TransformError:
            continue
        store.values[key] = value
        store.dirty.add(key)
    again.load(store.changes())
    assert again.values == store.values
    assert {type(key) for key in again.values} <= {str, int, bytes}


def test_a_key_that_is_gone_is_a_change_without_value():
    store, again = DictStore(), DictStore()
    store.values |= {"a": 1, "b": 2}
    store.dirty |= {"a", "b"}
    again.load(store.changes())
    store.committed()
    del store.values["a"]
    store.dirty.add("a")
    assert store.changes() == [(b'"a"', None)]
    again.load(store.changes())
    assert again.values == {"b": 2}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "a key is null"),
        (math.nan, "no finite number"),
        (math.inf, "no finite number"),
        (object(), "no JSON value, but of type object"),
        (2**64, "integer of more than 64 bits"),
        ("\ud800", "half of a surrogate pair"),
        ("x" * (MAX_KEY_BYTES + 1), f"takes at most {MAX_KEY_BYTES}"),
        (["x" * MAX_KEY_BYTES], f"takes at most {MAX_KEY_BYTES}"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_can_be_no_key(value, says):
    with pytest.raises(TransformError, match=says):
        DictStore().key_of(value)

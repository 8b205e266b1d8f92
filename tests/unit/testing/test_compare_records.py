"""Which records belong together, and what differs in them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamd.testing.compare import align, changes, same

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


def names(wanted: object, got: object) -> list[str]:
    return [change.name for change in changes(wanted, got)]


def test_numbers_are_the_same_and_booleans_are_none():
    assert same({"a": [1, 2.0]}, {"a": [1.0, 2]})
    assert not same(1, True)
    assert not same(None, 0)
    assert same(float("nan"), float("nan"))


def test_fields_that_differ():
    assert names({"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 5, "e": 3}}) == ["b.c", "b.d", "b.e"]
    assert names({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}) == ["a[1].b"]
    assert names({"a": [1]}, {"a": [1, 2]}) == ["a"]
    [gone] = changes({"a": 1}, {})
    [added] = changes({}, {"a": 1})
    assert gone.gone
    assert added.added


@given(JSON, JSON)
def test_changes_are_there_exactly_where_values_differ(wanted, got):
    assert (changes(wanted, got) == []) == same(wanted, got)
    assert changes(got, got) == []


@given(st.lists(st.integers(0, 3), max_size=8), st.lists(st.integers(0, 3), max_size=8), st.booleans())
def test_every_record_is_in_one_pair(wanted, got, ordered):
    pairs = align(len(wanted), len(got), lambda w, g: wanted[w] == got[g], ordered=ordered)
    used_wanted = [pair.wanted for pair in pairs if pair.wanted is not None]
    used_got = [pair.got for pair in pairs if pair.got is not None]
    assert sorted(used_wanted) == list(range(len(wanted)))
    assert sorted(used_got) == list(range(len(got)))
    for pair in pairs:
        if pair.wanted is not None and pair.got is not None:
            assert not pair.same or wanted[pair.wanted] == got[pair.got]
    right = wanted == got if ordered else sorted(wanted) == sorted(got)
    assert all(pair.same for pair in pairs) == right
    if ordered:
        assert used_wanted == sorted(used_wanted)
        assert used_got == sorted(used_got)


def test_what_lies_between_equal_ones_is_told_apart():
    wanted, got = "abcde", "axcdfe"
    pairs = align(5, 6, lambda w, g: wanted[w] == got[g], ordered=True)
    assert [(pair.wanted, pair.got, pair.same) for pair in pairs] == [
        (0, 0, True),
        (1, 1, False),
        (2, 2, True),
        (3, 3, True),
        (None, 4, False),
        (4, 5, True),
    ]

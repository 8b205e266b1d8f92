"""A stage's tables: what a stage sees, what goes to the changelog, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.component.state import key_of
from streamd.state.store import TableStore

SCALARS = st.one_of(st.text(), st.integers(-(2**63), 2**63), st.booleans(), st.floats(-(2.0**62), 2.0**62))
KEYS = st.one_of(SCALARS, st.lists(SCALARS, max_size=3)).map(key_of)
TIMES = st.integers(-(2**63), 2**63 - 1)


def put(table, **values):
    for key, value in values.items():
        table[key]  # as stages do: they look before they write
        table[key] = value
        table.dirty.add(key)


def loaded(*names, times=(), changes=()):
    store = TableStore()
    tables = [store.table(name) for name in names] + [store.times(name) for name in times]
    store.load(dict(changes))
    store.loaded()
    return store, *tables


@given(st.dictionaries(KEYS, st.integers(0, 9)), st.dictionaries(TIMES, st.dictionaries(KEYS, st.text(), min_size=1)))
def test_what_is_written_is_what_is_loaded(plain, by_time):
    store = TableStore()
    table, times = store.table("a"), store.times("b")
    for key, value in plain.items():
        table[key] = value
        table.dirty.add(key)
    for time, values in by_time.items():
        times[time].update(values)
        times[time].dirty |= values.keys()
    _, table, times = loaded("a", times=("b",), changes=store.changes())
    assert table == plain
    assert times == by_time
    assert {type(key) for key in table} <= {str, int, bytes}


def test_a_key_that_is_not_there_is_none_and_stays_out():
    table = TableStore().table("a")
    assert table["x"] is None
    assert list(table.scan()) == []
    assert "x" not in table


def test_a_time_comes_when_it_is_asked_for_and_goes_as_a_whole():
    times = TableStore().times("a")
    assert times.get(5) is None
    put(times[5], x=1)
    assert 5 in times
    assert list(times) == [5]
    times.drop(5)
    times.drop(6)
    assert len(times) == 0
    assert times[5]["x"] is None


def test_times_sort_in_the_changelog_as_they_do_in_time():
    store = TableStore()
    times = store.times("a")
    for time in (5, -1, 2**62, -(2**62), 0):
        put(times[time], x=1)
    names = sorted(name for name, _ in store.changes())
    assert [int(name[2:18], 16) - 2**63 for name in names] == [-(2**62), -1, 0, 5, 2**62]


def test_a_key_that_is_gone_is_a_change_without_value():
    store = TableStore()
    table = store.table("t")
    put(table, a=1, b=2)
    changes = store.changes()
    assert sorted(changes) == [(b't:"a"', b"1"), (b't:"b"', b"2")]
    store.committed()
    table.remove("a")
    assert store.changes() == [(b't:"a"', None)]
    _, again = loaded("t", changes=[*changes, *store.changes()])
    assert again == {"b": 2}


def test_what_came_and_went_between_two_checkpoints_is_not_written():
    store = TableStore()
    table, times = store.table("t"), store.times("w")
    put(table, a=1)
    put(times[10], a=1)
    store.committed()
    put(table, b=2)
    table.remove("b")
    put(times[20], a=1)
    times.drop(20)
    put(times[10], b=2)
    times[10].remove("b")
    put(times[10], c=3)
    times.drop(10)
    assert store.changes() == [(b'w:800000000000000a"a"', None)]


def test_what_was_removed_and_came_and_went_again_is_still_gone():
    store = TableStore()
    table, times = store.table("t"), store.times("w")
    put(table, a=1)
    put(times[1], a=1, b=1)
    store.committed()
    table.remove("a")
    put(table, a=2)
    table.remove("a")
    times.drop(1)
    put(times[1], a=5)
    times.drop(1)
    put(times[1], b=6)
    assert sorted(store.changes(), key=str) == [
        (b't:"a"', None), (b'w:8000000000000001"a"', None), (b'w:8000000000000001"b"', b"6"),
    ]  # fmt: skip


def test_values_are_packed_for_the_changelog_alone():
    store = TableStore()
    table = store.table("t", sorted, set)
    times = store.times("w", sorted, set)
    for at in (table, times[0]):
        put(at, a={2, 1})
    changes = store.changes()
    assert [value for _, value in changes] == [b"[1,2]", b"[1,2]"]
    again = TableStore()
    table, times = again.table("t", sorted, set), again.times("w", sorted, set)
    again.load(dict(changes))
    assert table == {"a": {1, 2}} == times[0]


def test_a_table_that_the_stage_does_not_have_is_told():
    store = loaded("a", changes=[(b"b:1", b"1"), (b"a:1", b"1"), (b"1", b"1")])[0]
    assert store.unknown == {"b", ""}
    assert len(store) == 1


@pytest.mark.parametrize("change", [(b"t:{", b"1"), (b"t:1", b"{"), (b"w:zz1", b"1"), (b"w:8000000000000000", b"1")])
def test_what_no_store_has_written_is_refused(change):
    with pytest.raises(ValueError, match=r"\w"):
        loaded("t", times=("w",), changes=[change])


@pytest.mark.parametrize("name", ["a", "", "b:c", "b c"])
def test_a_table_has_a_name_of_its_own(name):
    store = TableStore()
    store.table("a")
    with pytest.raises(ValueError, match="is no name for a table, or there is one of that name"):
        store.times(name)

"""A changelog's keys as people read them, and what somebody means by a key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.component.state import key_of
from streamd.errors import FatalError
from streamd.state.entries import Entry, Wanted, entry_of, key_text, keys_meant, names_meant
from streamd.state.store import TableStore

KEYS = st.text(max_size=20) | st.integers(-(2**63), 2**53) | st.lists(st.text(max_size=5), max_size=3) | st.booleans()
TIMES = st.integers(-(2**54), 2**54)


@given(st.lists(st.tuples(TIMES, KEYS)), st.lists(KEYS))
def test_what_a_store_writes_is_read_back(timed: list[tuple[int, object]], plain: list[object]) -> None:
    store = TableStore()
    table, times = store.table("plain"), store.times("windows")
    for key in map(key_of, plain):
        table[key] = 1
        table.dirty.add(key)
    for time, value in timed:
        of_time = times[time]
        key = key_of(value)
        of_time[key] = 1
        of_time.dirty.add(key)
    found = {(e.table, e.time, key_of(e.key)) for e in (entry_of(key) for key, _ in store.changes())}
    expected = {("plain", None, key_of(key)) for key in plain} | {("windows", t, key_of(key)) for t, key in timed}
    assert found == expected


@pytest.mark.parametrize("key", [b"", b"values", b"values:", b"values:{", b"\xff:1"])
def test_what_no_store_writes_is_refused_without_its_contents(key: bytes) -> None:
    with pytest.raises(FatalError, match=rf"a key of {len(key)} bytes that no store has written"):
        entry_of(key)


def test_a_long_number_is_no_time() -> None:
    assert entry_of(b"values:18446744073709551615") == Entry("values", None, 2**64 - 1, b"18446744073709551615")


def test_a_text_means_itself_and_the_json_that_it_is() -> None:
    assert list(keys_meant("ann")) == ["ann"]
    assert list(keys_meant("7")) == ["7", 7]
    assert list(keys_meant('"7"')) == ['"7"', "7"]
    assert list(keys_meant("null")) == ["null"]
    assert list(keys_meant('[ "eu", 1 ]')) == ['[ "eu", 1 ]', b'["eu",1]']
    assert names_meant("7.0") == {b'"7.0"', b"7"}


def test_what_is_wanted() -> None:
    ann, pair = entry_of(b'values:"ann"'), entry_of(b'others:["ann",1]')
    assert ann in Wanted()
    assert ann in Wanted(names_meant("ann"))
    assert pair not in Wanted(names_meant("ann"))
    assert pair in Wanted(prefix='["ann"')
    assert ann not in Wanted(prefix="ann", table="others")
    assert (key_text(ann.key), key_text(pair.key)) == ("ann", '["ann",1]')

"""When keys are looked at that may be forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamd.component.expiry import Expiry
from streamd.state.store import TableStore


@given(st.lists(st.tuples(st.integers(-500, 500), st.booleans()), max_size=60), st.integers(1, 200))
def test_each_key_is_given_once_and_not_before_its_time(times: list[tuple[int, bool]], ttl: int) -> None:
    store = TableStore()
    expiry = Expiry(store.times("expiry"), ttl)
    for number, (time, commit) in enumerate(times):
        expiry.add(number if number % 2 else b"[%d]" % number, time)
        if commit:
            store.committed()
    left = dict(enumerate(time for time, _ in times))
    for bound in range(-600, 700, 50):
        for key in expiry.due(bound):
            number = key if isinstance(key, int) else int(str(key)[3:-2])
            assert left.pop(number) <= bound
        assert all(time > bound - max(1, ttl // 16) for time in left.values())
    assert not left
    assert not len(store)


def test_what_the_changelog_has_is_not_written_again() -> None:
    store = TableStore()
    expiry = Expiry(store.times("expiry"), 1600)
    for key in ("a", "b", "c"):
        expiry.add(key, 5)
    assert [value for _, value in store.changes()] == [b'["b","c"]']
    store.committed()
    expiry.add("d", 6)
    assert [value for _, value in store.changes()] == [b"[]"]

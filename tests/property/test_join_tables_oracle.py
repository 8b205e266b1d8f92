"""Joins with tables against a brute-force oracle: any batches, crashes, deletions, versions out of order."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamd.errors import LateRecordError
from streamd.expr import parse
from streamd.joins.lookup import AsOfJoin, LatestJoin, TableJoin
from streamd.joins.results import Results
from streamd.record import END
from streamd.state.store import TableStore

STREAM, TABLE = 0, 1
FIELDS = {"l": parse("left.n"), "r": parse("right.n")}
KEYS = {"a": b"a", "7": b"7", 7: b"7"}

# (time, port, key, whether it deletes)
events = st.lists(
    st.tuples(st.integers(0, 100), st.integers(0, 1), st.sampled_from(["a", "7", 7]), st.sampled_from([0, 0, 0, 1])),
    min_size=1,
    max_size=50,
)
cuts = st.lists(st.tuples(st.integers(1, 7), st.booleans()), min_size=1, max_size=20)


class Run:
    """A join driven by hand, with crashes: the store goes through its changelog's bytes."""

    def __init__(self, make):
        self.make = make
        self.log: dict[bytes, bytes | None] = {}
        self.out: list[Any] = []
        self.failed: list[Any] = []
        self.open()

    def open(self):
        self.store = TableStore()
        self.join = self.make(Results(("left", "right"), FIELDS, None, (1, 1)))
        self.join.open(self.store)
        self.store.load(self.log)
        self.store.loaded()
        self.join.restored()

    def crash(self):
        """After a checkpoint: what was given is out, and the next attempt goes on from there."""
        for key, value in self.store.changes():
            self.log[key] = value
            if value is None:
                del self.log[key]
        self.store.committed()
        self.open()

    def drive(self, rows, cuts):
        at = 0
        for size, crash in itertools.chain(cuts, itertools.repeat((5, False))):
            part = rows[at : at + size]
            if not part:
                break
            at += size
            self.join.process([self.row(*row) for row in part], self.out, self.failed)
            self.join.advance(part[-1][2], self.out)
            if crash:
                self.crash()
        assert self.join.advance(END, self.out) == END
        return [(r.value and r.value["l"], r.value and r.value["r"], r.key, r.timestamp) for r in self.out]

    def row(self, number, time, watermark, port, key, gone):
        if gone:
            return number, time, watermark, port, KEYS[key], None
        return number, time, watermark, port, key, [time, number]


def rows_of(found, out_of_order, *, two_tables=False):
    high, rows = -out_of_order, []
    for number, (time, port, key, gone) in enumerate(found, start=1):
        high = max(high, time)
        rows.append((number, time, high - out_of_order, port, key, gone and (port == TABLE or two_tables)))
    return rows


def same(key, deleted):
    """A deletion's key may stand for a text and for a number."""
    return KEYS[key] == KEYS[deleted]


@pytest.mark.parametrize("outer", [False, True])
@given(events, cuts)
@settings(max_examples=100)
def test_latest(outer, found, cuts):
    rows = rows_of(found, 0)
    table, expected = {}, []
    for number, time, _, port, key, gone in rows:
        if gone:
            table = {k: v for k, v in table.items() if not same(k, key)}
        elif port == TABLE:
            table[key] = number
        elif outer or key in table:
            expected.append((number, table.get(key), KEYS[key], time))
    assert Run(lambda results: LatestJoin(results, TABLE, outer)).drive(rows, cuts) == expected


@pytest.mark.parametrize("outer", [False, True])
@given(events, cuts, st.integers(0, 30), st.integers(1, 40))
@settings(max_examples=100)
def test_latest_with_a_time_to_live(outer, found, cuts, out_of_order, ttl):
    rows = rows_of(found, out_of_order)
    table, expected = {}, []
    for number, time, watermark, port, key, gone in rows:
        if gone:
            table = {k: v for k, v in table.items() if not same(k, key)}
        elif port == TABLE:
            table[key] = number, max(time, watermark)
        else:
            version, at = table.get(key, (None, -1000))
            version = None if at <= watermark - ttl else version
            if outer or version is not None:
                expected.append((number, version, KEYS[key], time))
    run = Run(lambda results: LatestJoin(results, TABLE, outer, ttl))
    assert run.drive(rows, cuts) == expected
    run.join.advance(END - 1, [])
    assert len(run.store) == 0


@pytest.mark.parametrize("outer", [False, True])
@given(events, cuts, st.integers(0, 30), st.integers(0, 30))
# A deletion comes before what it deletes.
@example([(79, STREAM, "7", 0), (79, TABLE, "7", 1), (78, TABLE, "7", 0)], [(1, False)], 1, 0)
@settings(max_examples=100)
def test_as_of(outer, found, cuts, out_of_order, history):
    # What a late change of the table means depends on when it comes; all others must not.
    rows = [row for row in rows_of(found, out_of_order) if row[3] == STREAM or row[1] >= row[2]]
    expected, late = [], []
    for number, time, watermark, port, key, _ in rows:
        if port == TABLE:
            continue
        if time < watermark - history:
            late.append(number)
            continue
        versions = [row for row in rows if row[3] == TABLE and row[1] <= time and same(row[4], key)]
        versions = [row for row in versions if row[5] or row[4] == key]
        newest = max(versions, key=lambda row: (row[1], row[0]), default=None)
        version = None if newest is None or newest[5] else newest[0]
        if outer or version is not None:
            expected.append((number, version, KEYS[key], time))
    run = Run(lambda results: AsOfJoin(results, TABLE, outer, history))
    assert sorted(run.drive(rows, cuts), key=str) == sorted(expected, key=str)
    assert [number for number, _ in run.failed] == late
    # Nothing is kept of keys that are gone.
    assert all(len(versions[-1]) > 1 for _, versions in run.join._versions.scan())
    assert all(isinstance(error, LateRecordError) for _, error in run.failed)


@pytest.mark.parametrize("outer", [(False, False), (True, False), (False, True), (True, True)])
@given(events, cuts)
@settings(max_examples=100)
def test_two_tables(outer, found, cuts):
    rows = rows_of(found, 0, two_tables=True)
    given_rows = Run(lambda results: TableJoin(results, outer)).drive(rows, cuts)
    tables, shown, expected = ({}, {}), {}, {}
    for number, _, _, port, key, gone in rows:
        if gone:
            for one in [one for one in tables[port] if same(one, key)]:
                del tables[port][one]
        else:
            tables[port][key] = number
    # A record's key does not tell the text from the number, so only one of them is asked for.
    for key in ("a",):
        left, right = (table.get(key) for table in tables)
        if (left and right) or (left and outer[0]) or (right and outer[1]):
            expected[KEYS[key]] = (left, right)
    for left, right, key, _ in given_rows:
        if key != b"a":
            continue
        assert left or right or key in shown  # nothing is deleted that was not there
        shown[key] = (left, right)
        if not left and not right:
            del shown[key]
    assert shown == expected

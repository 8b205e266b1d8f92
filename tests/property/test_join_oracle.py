"""Joins of two streams against a brute-force oracle: shuffled, late and repeated input, any batches, crashes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from demo.join_oracle import TYPES, oracle, rows_of
from streamd.errors import LateRecordError
from streamd.expr import parse
from streamd.joins import kept
from streamd.joins.results import Results
from streamd.joins.streams import Bounds, StreamJoin
from streamd.record import END
from streamd.state.store import TableStore

FIELDS = {"l": parse("left.n"), "r": parse("right.n")}
WHERE = parse("left.n % 3 != right.n % 3")


@pytest.fixture(autouse=True, scope="module")
def small_chunks():
    """Chunks that fill up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamd.joins.stream_source.CHUNK", 2)
        assert kept.CHUNK == 64
        yield


def results(outer, where=None):
    first = (1 + outer[0], 1 + outer[1])
    return Results(("left", "right"), FIELDS, where, first)


class Run:
    """A join driven by hand, with crashes: the store goes through its changelog's bytes."""

    def __init__(self, bounds, outer, where=None):
        self.bounds, self.outer, self.where = bounds, outer, where
        self.log: dict[bytes, bytes | None] = {}
        self.out: list[Any] = []
        self.failed: list[Any] = []
        self.open()

    def open(self):
        self.store = TableStore()
        self.join = StreamJoin(results(self.outer, self.where), self.bounds, self.outer)
        self.join.open(self.store)
        self.store.load(self.log)
        self.store.loaded()
        self.join.restored()

    def batch(self, rows, watermark):
        self.join.process([self.row(*row) for row in rows], self.out, self.failed)
        return self.join.advance(watermark, self.out)

    def row(self, number, time, watermark, port, key):
        kept_row = [time, 0, number] if self.outer[port] else [time, number]
        return number, time, watermark, port, key, kept_row

    def checkpoint(self):
        for key, value in self.store.changes():
            if value is None:
                self.log.pop(key, None)
            else:
                self.log[key] = value
        self.store.committed()

    def crash(self):
        """After a checkpoint: what was given is out, and the next attempt goes on from there."""
        self.checkpoint()
        self.open()

    @property
    def found(self):
        return sorted((r.value["l"] or -1, r.value["r"] or -1, r.key, r.timestamp) for r in self.out)


events = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 1), st.sampled_from(["a", "b", 7])), min_size=1, max_size=60
)
cuts = st.lists(st.tuples(st.integers(1, 7), st.booleans()), min_size=1, max_size=20)


def drive(run, rows, cuts):
    """Feed rows in batches as cut, with crashes where told; the watermark comes after each batch, and then the end."""
    at, returned = 0, -(2**62)
    for size, crash in itertools.chain(cuts, itertools.repeat((5, False))):
        part = rows[at : at + size]
        if not part:
            break
        at += size
        before = len(run.out)
        told = run.batch(part, part[-1][2])
        assert told >= returned
        if run.bounds.within is not None:
            assert all(result.timestamp >= returned for result in run.out[before:])
        returned = told
        if crash:
            run.crash()
    assert run.batch([], END) == END
    return run


@pytest.mark.parametrize("kind", TYPES)
@given(events, cuts, st.integers(0, 40), st.integers(0, 30), st.integers(0, 30), st.integers(0, 20), st.booleans())
@settings(max_examples=100)
def test_within(kind, found, cuts, out_of_order, before, after, grace, conditional):
    outer, bounds = TYPES[kind], Bounds((before, after), None, grace)
    rows = rows_of(found, out_of_order)
    run = drive(Run(bounds, outer, WHERE if conditional else None), rows, cuts)
    expected = oracle(
        rows,
        outer,
        lambda left, right, row: left[1] - before <= right[1] <= left[1] + after,
        lambda row: row[1] < row[2] - grace,
        (lambda left, right: left % 3 != right % 3) if conditional else None,
    )
    assert run.found == expected
    assert [r for r, _ in run.failed] == [row[0] for row in rows if row[1] < row[2] - grace]
    assert all(isinstance(error, LateRecordError) for _, error in run.failed)
    assert not any(slots.rows or len(slots.added.log) for slots in run.join._slots)


@pytest.mark.parametrize("kind", TYPES)
@example([*[(0, 0, "a")] * 4, (0, 0, "b"), (0, 1, "b"), (0, 0, "a")], [(1, False), (5, True), (1, True)], 0, 0)
@given(events, cuts, st.integers(0, 60), st.integers(0, 50))
@settings(max_examples=100)
def test_keep(kind, found, cuts, out_of_order, keep):
    outer, bounds = TYPES[kind], Bounds(None, keep)
    rows = rows_of(found, out_of_order)
    run = drive(Run(bounds, outer), rows, cuts)

    def meets(left, right, row):
        other = left if row is right else right
        # What had passed when it came was never kept.
        return other[1] >= row[2] - keep and other[1] >= other[2] - keep

    assert run.found == oracle(rows, outer, meets, lambda row: False)
    assert not run.failed


@given(events, cuts)
@settings(max_examples=100)
def test_for_ever(found, cuts):
    rows = rows_of(found, 0)
    run = drive(Run(Bounds(), TYPES["inner"]), rows, cuts)
    assert run.found == oracle(rows, TYPES["inner"], lambda left, right, row: True, lambda row: False)

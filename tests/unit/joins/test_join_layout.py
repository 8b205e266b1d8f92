"""How rows of a join lie in its store: what a checkpoint writes does not grow with what is kept."""

from __future__ import annotations

from streamd.expr import parse
from streamd.joins.kept import CHUNK
from streamd.joins.results import Results
from streamd.joins.streams import Bounds, StreamJoin
from streamd.record import END
from streamd.state.store import TableStore

FIELDS = {"l": parse("left.n"), "r": parse("right.n")}


def opened(bounds, outer=(False, False)):
    store = TableStore()
    join = StreamJoin(Results(("left", "right"), FIELDS, None, (1 + outer[0], 1 + outer[1])), bounds, outer)
    join.open(store)
    join.restored()
    return store, join


def checkpoint(store):
    changes = store.changes()
    store.committed()
    return len(changes), sum(len(key) + len(value or b"") for key, value in changes)


def test_a_hot_key_within_bounds_writes_what_is_new():
    store, join = opened(Bounds((1000, 1000)))
    sizes = []
    for at in range(50):
        rows = [(None, at, at, 0, "hot", [at, n]) for n in range(40)]
        join.process(rows, [], [])
        join.advance(at, [])
        sizes.append(checkpoint(store))
    assert {count for count, _ in sizes} == {1}
    assert max(size for _, size in sizes) < 2 * sizes[0][1]


def test_a_hot_key_that_is_kept_for_ever_writes_its_newest_chunks():
    store, join = opened(Bounds())
    out = []
    for at in range(100):
        join.process([(None, at, at, 0, "hot", [at, n]) for n in range(10)], out, [])
        count, size = checkpoint(store)
        assert count <= 2
        assert size < 40 * CHUNK
    join.process([(None, 7, 7, 1, "hot", [7, -1])], out, [])
    assert [(result.value["l"], result.timestamp) for result in out] == [
        (n, max(7, at)) for at in range(100) for n in range(10)
    ]


def test_what_is_over_is_deleted_by_slots():
    store, join = opened(Bounds((10, 10)), outer=(True, False))
    for at in range(0, 1000, 5):
        join.process([(None, at, at, 0, f"k{at}", [at, 0, at]), (None, at, at, 1, f"k{at}", [at, at])], [], [])
        join.advance(at, [])
        checkpoint(store)
        assert len(store) < 30
    join.advance(END, [])
    checkpoint(store)
    assert [name for name, _ in store.changes()] == []
    assert not join._open[0]
    assert not join._heaps[0]


def test_the_code_is_there_to_be_read():
    _, join = opened(Bounds((0, 10_000), None, 500))
    assert "if time < watermark - 500:" in join.source
    assert "low, high = time - 10000, time" in join.source

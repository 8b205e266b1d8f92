"""Two outputs compared: each way to be wrong is found and counted as what it is, and what is promised is no fault."""

from __future__ import annotations

from array import array

import pytest

from streamd.verify.compare import Comparison, Row, Verdict
from streamd.verify.documents import Canonical, different_fields
from streamd.verify.outputs import OutputRecord
from streamd.verify.scratch import Output

BASE = 1_000_000
COUNT = 12


def output(kind="log", tasks=2):
    return Output("out", kind, "t", "json", frozenset({"source"}), tasks, "exactly once", dead_letter=False)


def record(n, *, number=None, value=None, key=b"k", time=None, place=0):
    text = (value or f'{{"n": {n}}}').encode()
    return OutputRecord(place, n if number is None else number, key, text, BASE + n if time is None else time, ())


async def compared(tmp_path, one, other, of=None, ignored=()):
    """The verdict, and the comparison, of two lists of records whose input alternates between two partitions."""
    found = Comparison(tmp_path / "c.db", [of or output()], BASE, array("I", [n % 2 for n in range(COUNT)]))

    async def each(records):
        for item in records:
            yield item

    for run, records in (("a", one), ("b", other)):
        await found.load(run, 0, each(records), Canonical(ignored, parse=True))
    found.prepare()
    return found.verdict(0), found


def verdict(**found):
    return Verdict("out", **{"records": COUNT, **found})


WHOLE = [record(n) for n in range(COUNT)]
SWAPPED = [record(n, number={2: 4, 4: 2}.get(n)) for n in range(COUNT)]
INTERLEAVED = [record(n, number={2: 3, 3: 2}.get(n)) for n in range(COUNT)]
CHANGED = [record(n, value='{"n": 77}' if n == 5 else None) for n in range(COUNT)]


@pytest.mark.parametrize(
    ("other", "found"),
    [
        (WHOLE, {}),
        ([record(n, value=f'{{ "n" :{n} }}') for n in range(COUNT)], {}),
        (INTERLEAVED, {}),
        (WHOLE[:5] + WHOLE[6:], {"lost": 1}),
        ([*WHOLE, record(3, number=20), record(3, number=21)], {"duplicated": 2}),
        (SWAPPED, {"reordered": 1}),
        (CHANGED, {"changed": 1}),
        ([*WHOLE, record(3, number=20, value='{"n": 99}')], {"duplicated": 1}),
        ([*WHOLE, record(0, number=20, time=5)], {"unexpected": 1}),
        ([record(n, place=int(n == 7)) for n in range(COUNT)], {"changed": 1}),
        ([], {"lost": COUNT}),
    ],
    ids=["same", "spaces", "interleaved", "lost", "twice", "order", "value", "again", "no-input", "partition", "none"],
)
async def test_each_fault_is_counted_as_what_it_is(tmp_path, other, found):
    got, comparison = await compared(tmp_path, WHOLE, other)
    comparison.close()
    assert got == verdict(**found)


async def test_a_record_without_input_is_unexpected(tmp_path):
    got, comparison = await compared(tmp_path, WHOLE[:-1], WHOLE)
    comparison.close()
    assert got == verdict(records=COUNT - 1, unexpected=1)


async def test_records_without_key_may_come_to_any_partition(tmp_path):
    one = [record(n, key=None) for n in range(COUNT)]
    other = [record(n, key=None, place=n % 3) for n in range(COUNT)]
    got, comparison = await compared(tmp_path, one, other)
    comparison.close()
    assert got == verdict()


async def test_order_that_the_pipeline_does_not_keep_itself_is_not_asked_for(tmp_path):
    got, comparison = await compared(tmp_path, SWAPPED, WHOLE)
    comparison.close()
    assert (got.reordered, got.order) == (0, "not kept by the pipeline itself")


async def test_order_within_a_key_where_only_that_is_kept(tmp_path):
    keys = [b"x" if n in (2, 4) else b"%d" % (n // 2) for n in range(COUNT)]
    shifted = {0: 2, 2: 4, 4: 0}
    by_key = [record(n, number=shifted.get(n), key=keys[n]) for n in range(COUNT)]
    got, comparison = await compared(tmp_path, by_key, by_key)
    comparison.close()
    assert got.order == "not kept by the pipeline itself"  # 4 comes before 2, which has its key
    kept = [record(n, number={0: 4, 2: 0, 4: 2}.get(n), key=keys[n]) for n in range(COUNT)]
    wrong = [record(n, number={0: 4, 2: 2, 4: 0}.get(n), key=keys[n]) for n in range(COUNT)]
    (tmp_path / "c.db").unlink()
    got, comparison = await compared(tmp_path, kept, wrong)
    comparison.close()
    assert (got.reordered, got.order) == (1, "key")


LINES = [record(n, key=None, time=-1, value=f'{{"n": {n // 2}}}') for n in range(COUNT)]


@pytest.mark.parametrize(
    ("other", "found"),
    [
        (LINES, {}),
        (LINES[:4] + LINES[5:], {"lost": 1}),
        ([*LINES, record(4, number=20, key=None, time=-1, value='{"n": 2}')], {"duplicated": 1}),
        ([record(n, number=COUNT - n, key=None, time=-1, value=f'{{"n": {n // 2}}}') for n in range(COUNT)], 10),
    ],
    ids=["same", "lost", "twice", "backwards"],
)
async def test_lines_of_files_are_compared_in_their_order(tmp_path, other, found):
    got, comparison = await compared(tmp_path, LINES, other, of=output("file", tasks=1))
    comparison.close()
    assert got == verdict(order="file", **({"reordered": found} if isinstance(found, int) else found))


async def test_ignored_fields_are_not_compared(tmp_path):
    def at(time):
        return [record(n, value=f'{{"n": {n}, "at": {{"ms": {time}}}, "list": [{{"x": {time}}}]}}') for n in range(3)]

    for number, (ignored, faults) in enumerate([(("at.ms", "list.x"), 0), (("at",), 3), ((), 3)]):
        (tmp_path / str(number)).mkdir()
        got, comparison = await compared(tmp_path / str(number), at(1), at(2), ignored=ignored)
        comparison.close()
        assert got.changed == faults


async def test_where_the_changed_records_are(tmp_path):
    _, comparison = await compared(tmp_path, WHOLE, CHANGED)
    assert comparison.changed(0, 5) == [(Row(0, 5, 5), Row(0, 5, 5))]
    assert comparison.first(0, "missing", 5) == [Row(0, 5, 5)]
    comparison.close()


def test_names_of_different_fields():
    one = {"a": 1, "b": {"c": [1], "d": 2}, "e": None}
    other = {"a": 1.0, "b": {"c": [2], "d": 2}, "f": 1}
    assert different_fields(one, other) == ["a", "b.c", "e", "f"]
    assert different_fields([1], {"a": 1}) == ["_value"]
    assert different_fields(one, one) == []

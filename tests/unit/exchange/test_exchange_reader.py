"""The reader of an exchange: control records stay in it, batches end where they change the watermark."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.errors import FatalError
from streamd.exchange.control import HEADER, Control, headers_of
from streamd.exchange.reader import MANY, PURGE_INTERVAL, ExchangeReader
from streamd.record import BEGINNING, END, SourceRecord


class ManualClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds

    def now_ms(self) -> int:
        return round(1000 * self.seconds)

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


class Lying:
    """A reader over records that lie there."""

    ended = False

    def __init__(self, records: Sequence[SourceRecord], at_once: int = 1000, at: int = 0) -> None:
        self.records, self.at_once, self.at = records, at_once, at
        self.closed = False

    async def read(self, max_records: int, timeout: float) -> Sequence[SourceRecord]:
        found = self.records[self.at : self.at + min(max_records, self.at_once)]
        self.at += len(found)
        return list(found)

    def position(self) -> int:
        return self.at

    def lag(self) -> int:
        return len(self.records) - self.at

    async def close(self) -> None:
        self.closed = True


def log_of(*items: int | Control) -> list[SourceRecord]:
    """Records, of which a number is a user's own."""
    return [
        SourceRecord(None, None, 0, offset, headers_of(item))
        if isinstance(item, Control)
        else SourceRecord(b"k", b"%d" % item, item, offset)
        for offset, item in enumerate(items)
    ]


def reader(*items: int | Control, at_once: int = 1000, clock: ManualClock | None = None) -> ExchangeReader:
    return ExchangeReader(Lying(log_of(*items), at_once), "run", clock or ManualClock(), lambda position: None)


async def taken(one: ExchangeReader, most: int = 1000) -> list[tuple[list[int], int]]:
    """(records, the watermark that they are judged by) of each read, to the end."""
    found = []
    for _ in range(1000):
        records = await one.read(most, 0.0)
        if records:
            found.append(([int(record.value) for record in records], one.watermark_before))
        elif not one.lag():
            return found
    raise AssertionError("it does not end")


async def test_records_are_judged_by_what_was_told_before_them() -> None:
    one = reader(1, 2, Control(0, 1, 10), 3, Control(0, 1, 10), 4, Control(0, 1, 20), Control(0, 1, 30), 5)
    assert await taken(one) == [([1, 2], BEGINNING), ([3, 4], 10), ([5], 30)]
    assert one.watermark == 30
    assert one.position() == 9
    assert not one.ended


async def test_a_batch_without_control_records_goes_on_as_it_is() -> None:
    one = reader(1, 2, 3)
    assert await taken(one) == [([1, 2, 3], BEGINNING)]


async def test_what_only_tells_is_an_empty_read() -> None:
    one = reader(Control(0, 1, 10))
    assert list(await one.read(10, 0.0)) == []
    assert one.watermark == 10
    assert one.lag() == 0


async def test_positions_are_those_of_what_was_given_and_heard() -> None:
    one = reader(1, 2, Control(0, 1, 10), 3)
    await one.read(1, 0.0)
    assert (one.position(), one.lag()) == (1, 3)
    await one.read(10, 0.0)
    assert (one.position(), one.lag()) == (2, 2)
    assert one.watermark == BEGINNING
    await one.read(10, 0.0)
    assert (one.position(), one.lag()) == (4, 0)


async def test_the_end_is_when_all_are_over_and_all_is_read() -> None:
    one = reader(1, Control(0, 2, 5, over=True), 2, Control(1, 2, 6, over=True))
    assert await taken(one) == [([1, 2], BEGINNING)]
    assert one.ended
    assert one.watermark == END


async def test_the_end_of_an_earlier_life_counts_only_in_the_same_run_and_at_the_end() -> None:
    first = reader(Control(0, 1, 5, over=True))
    await taken(first)
    cursor = first.cursor()
    again = ExchangeReader(Lying(log_of(7), at=1), "run", ManualClock(), lambda position: None)
    again.recall(cursor)
    assert again.ended
    more = ExchangeReader(Lying(log_of(7)), "run", ManualClock(), lambda position: None)
    more.recall(cursor)
    assert not more.ended
    other = ExchangeReader(Lying(log_of(7), at=1), "another run", ManualClock(), lambda position: None)
    other.recall(cursor)
    assert not other.ended
    assert other.watermark == 5
    other.recall(None)
    assert other.watermark == 5


async def test_when_all_are_idle_time_goes_on_with_the_wall_clock() -> None:
    clock = ManualClock()
    one = reader(Control(0, 1, 1_000, idle=True), 1, Control(0, 1, 1_100), clock=clock)
    await one.read(10, 0.0)
    assert one.idle
    clock.advance(2.5)
    assert one.watermark == 3_500
    assert one.watermark_before == 1_000
    await one.read(10, 0.0)
    assert not one.idle
    assert one.watermark == 1_100


async def test_many_control_records_are_worth_a_commit() -> None:
    clock, purged = ManualClock(), []
    items = [Control(0, 1, n) for n in range(MANY)]
    one = ExchangeReader(Lying(log_of(*items)), "run", clock, purged.append)
    await taken(one)
    assert one.overdue
    one.committed(MANY)
    assert not one.overdue
    assert purged == []
    clock.advance(PURGE_INTERVAL)
    one.committed(MANY)
    one.committed(MANY)
    assert purged == [MANY]


async def test_a_control_record_that_nobody_has_written_ends_the_pipeline() -> None:
    broken = SourceRecord(None, None, 0, 0, [(HEADER, b"?")])
    one = ExchangeReader(Lying([broken]), "run", ManualClock(), lambda position: None)
    with pytest.raises(FatalError, match="offset 0"):
        await one.read(1, 0.0)


async def test_closing_closes_what_is_below() -> None:
    below = Lying([])
    await ExchangeReader(below, "run", ManualClock(), lambda position: None).close()
    assert below.closed


items = st.lists(
    st.one_of(
        st.integers(0, 100),
        st.builds(Control, st.integers(0, 2), st.just(3), st.integers(0, 1000), idle=st.booleans(), over=st.booleans()),
    ),
    max_size=40,
)


@given(items, st.integers(1, 7), st.integers(1, 7), st.integers(0, 40))
async def test_records_and_watermarks_do_not_depend_on_batches_nor_on_crashes(
    given_items: list[int | Control], at_once: int, most: int, crash: int
) -> None:
    def flat(found: list[tuple[list[int], int]]) -> list[tuple[int, int]]:
        return [(value, watermark) for values, watermark in found for value in values]

    whole = flat(await taken(reader(*given_items)))
    assert [value for value, _ in whole] == [item for item in given_items if isinstance(item, int)]
    assert [w for _, w in whole if w != END] == sorted(w for _, w in whole if w != END)
    clock = ManualClock()
    first = ExchangeReader(Lying(log_of(*given_items), at_once), "run", clock, lambda position: None)
    found: list[tuple[int, int]] = []
    for _ in range(crash):
        records = await first.read(most, 0.0)
        found += [(int(record.value), first.watermark_before) for record in records]
    second = ExchangeReader(Lying(log_of(*given_items), at_once, first.position()), "run", clock, lambda position: None)
    second.recall(first.cursor())
    assert found + flat(await taken(second, most)) == whole

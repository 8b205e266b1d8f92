"""The watermark of a task, under a clock that a test moves."""

from __future__ import annotations

from typing import Any

import pytest

from demo.watermark_inputs import Inputs
from streamd.record import BEGINNING, END


def test_it_follows_the_highest_time_less_what_may_come_out_of_order() -> None:
    inputs = Inputs({"out_of_order": "5s"})
    assert inputs.watermark.move() == BEGINNING
    assert inputs.batch("a", 20_000) == 15_000
    assert inputs.batch("a", 18_000) == 15_000
    assert inputs.batch("a", 21_000) == 16_000
    assert inputs.after(3600.0) == 16_000


def test_without_settings_nothing_may_come_out_of_order() -> None:
    assert Inputs(None).batch("a", 20_000) == 20_000


def test_the_least_of_several_inputs_holds_back() -> None:
    inputs = Inputs(None, {"out_of_order": "1s"})
    assert inputs.batch("a", 50_000) == BEGINNING
    assert inputs.batch("b", 20_000) == 19_000
    assert inputs.watermark.times(("a", 0)) == [50_000, 19_000, 19_000]
    assert inputs.watermark.times(("b", 0)) == [20_000, 19_000, 50_000]
    assert inputs.batch("b", 90_000) == 50_000


def test_a_quiet_input_is_left_out_and_comes_back() -> None:
    inputs = Inputs({"idle": "10s"}, {"idle": "10s"})
    inputs.batch("a", 20_000)
    assert inputs.batch("b", 10_000) == 10_000
    inputs.clock.pass_(9.0)
    assert inputs.batch("a", 30_000) == 10_000
    inputs.clock.pass_(1.0)
    assert inputs.watermark.times(("a", 0)) == [30_000, 10_000, END]
    assert inputs.batch("a", 40_000) == 40_000
    # What comes now is judged by what was reached without it, and holds back from here on.
    assert inputs.watermark.times(("b", 0)) == [10_000, 40_000, 40_000]
    assert inputs.batch("b", 15_000) == 40_000
    assert inputs.batch("a", 70_000) == 40_000
    assert inputs.batch("b", 60_000) == 60_000


def test_an_input_that_never_gave_anything_is_left_out_as_well() -> None:
    inputs = Inputs({"idle": "10s"}, {"idle": "10s"})
    assert inputs.batch("a", 20_000) == BEGINNING
    inputs.clock.pass_(10.0)
    assert inputs.batch("a", 20_001) == 20_001


def test_when_all_are_quiet_it_goes_on_with_the_wall_clock() -> None:
    inputs = Inputs({"idle": "10s", "out_of_order": "1s"})
    assert inputs.batch("a", 20_000) == 19_000
    assert (inputs.after(9.0), inputs.watermark.idle) == (19_000, False)
    assert (inputs.after(1.0), inputs.watermark.idle) == (29_000, True)
    assert inputs.after(30.0) == 59_000
    assert inputs.batch("a", 21_000) == 59_000
    assert inputs.after(9.0) == 59_000


def test_where_nothing_ever_came_no_time_passes() -> None:
    inputs = Inputs({"idle": "1s"})
    assert inputs.after(100.0) == BEGINNING


@pytest.mark.parametrize("left", [7, None])
def test_what_is_there_and_not_read_is_no_silence(left: int | None) -> None:
    inputs = Inputs({"idle": "10s"})
    inputs.batch("a", 20_000)
    inputs.reader("a").left = left
    assert inputs.after(60.0) == 20_000


def test_a_server_out_of_reach_is_no_silence() -> None:
    inputs = Inputs({"idle": "10s"})
    inputs.batch("a", 20_000)
    inputs.reader("a").stale = True
    assert inputs.after(60.0) == 20_000


def test_records_in_an_open_transaction_are_no_silence() -> None:
    inputs = Inputs({"idle": "10s"})
    inputs.batch("a", 20_000)
    inputs.reader("a").unstable = (3, 60.0)
    assert inputs.after(60.0) == 20_000


def test_while_nobody_asks_there_is_no_silence() -> None:
    """A task may be busy, or held back by a rate, for longer than `idle`: then records may be there."""
    inputs = Inputs({"idle": "10s"}, {"idle": "10s"})
    inputs.batch("a", 20_000)
    inputs.batch("b", 30_000)
    one = inputs.watermark._inputs["a", 0]
    one.answer()
    assert inputs.after(60.0) == 20_000, "read, and not processed yet"
    inputs.watermark.took(("a", 0))
    inputs.clock.pass_(60.0)
    one.ask()
    assert inputs.after(9.0) == 20_000
    assert inputs.after(1.0) > 30_000, "both are quiet by now"


async def test_a_read_that_gives_nothing_is_silence() -> None:
    inputs = Inputs({"idle": "10s"})
    inputs.batch("a", 20_000)

    async def read() -> list[Any]:
        inputs.clock.pass_(5.0)
        return []

    for _ in range(2):
        assert inputs.watermark.move() == 20_000
        await inputs.watermark.while_asked(("a", 0), read)
        inputs.watermark.took(("a", 0))
    assert inputs.watermark.move() == 30_000


def test_the_processing_clock_needs_no_records_and_never_runs_ahead() -> None:
    inputs = Inputs({"clock": "processing", "out_of_order": "2s", "idle": "1s"})
    assert inputs.watermark.move() == inputs.clock.wall - 2000
    assert inputs.after(60.0) == inputs.clock.wall - 2000
    before = inputs.watermark.now
    inputs.clock.wall -= 3_600_000
    assert inputs.watermark.move() == before


def test_what_is_over_holds_nothing_back_and_all_of_it_is_the_end() -> None:
    inputs = Inputs(None, None)
    inputs.batch("a", 20_000)
    inputs.reader("a").ended = True
    assert inputs.batch("b", 90_000) == 90_000
    assert (inputs.watermark.now, inputs.watermark.idle) == (90_000, False)
    inputs.reader("b").ended = True
    assert inputs.watermark.move() == inputs.watermark.now == END
    assert inputs.watermark.state() == {"a": 20_000, "b": 90_000, "": 90_000}, (
        "a file may have grown until the next start"
    )


def test_it_goes_on_from_what_was_kept() -> None:
    inputs = Inputs({"out_of_order": "5s", "idle": "10s"})
    inputs.batch("a", 20_000)
    inputs.after(30.0)
    assert inputs.watermark.state() == {"a": 20_000, "": 45_000}
    again = Inputs({"out_of_order": "5s", "idle": "10s"}, stored=inputs.watermark.state())
    assert again.watermark.times(("a", 0)) == [20_000, 45_000, END]
    assert again.batch("a", 21_000) == 45_000
    assert Inputs(None).watermark.state() == {}


def test_what_comes_through_an_exchange_is_left_out_when_all_who_send_it_are_idle() -> None:
    """A table that hardly ever changes must not hold back the stream that is joined with it."""
    inputs = Inputs(None, None)
    inputs.reader("a").watermark, inputs.reader("a").watermark_before = 10_000, 10_000
    assert inputs.batch("b", 90_000) == 10_000
    inputs.reader("a").idle = True
    assert inputs.watermark.move() == 90_000
    inputs.reader("a").left = 1
    assert inputs.batch("b", 95_000) == 90_000
    assert inputs.watermark.times(("a", 0)) == [END, 90_000, 95_000]


def test_times_in_seconds_are_told_of_once() -> None:
    inputs = Inputs({"field": "ts"}, {"field": "a + b"}, None)
    for name in "abc":
        assert inputs.watermark.in_seconds((name, 0)) is None
        inputs.batch(name, 1_700_000_000)
    assert inputs.watermark.in_seconds(("a", 0)) == "event_time: {field: ts * 1000}, as times are milliseconds"
    assert inputs.watermark.in_seconds(("a", 0)) is None
    assert "(a + b) * 1000" in (inputs.watermark.in_seconds(("b", 0)) or "")
    assert inputs.watermark.in_seconds(("c", 0)) is None, "the source's own times are nothing that a user writes"

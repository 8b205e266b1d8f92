"""Timers: what is to be looked at when the watermark passes a time."""

from __future__ import annotations

import pytest

from streamd.windows.timers import Timers


@pytest.mark.parametrize("spread", [1, 1000, 10**9], ids=["close", "apart", "far apart"])
def test_all_up_to_a_time_are_taken_in_order_and_once(spread):
    timers = Timers()
    for number in (5, 3, 9, 3):
        assert timers.add(number * spread, number) == number * spread
    assert timers.take(5 * spread) == [(3 * spread, [3, 3]), (5 * spread, [5])]
    assert timers.take(5 * spread) == []
    assert timers.take(4 * spread) == []
    assert timers.take(2**62) == [(9 * spread, [9])]


def test_what_has_passed_is_put_off_to_the_next_time():
    timers = Timers()
    timers.take(100)
    assert timers.add(7, "late") == 101
    assert timers.take(100) == []
    assert timers.take(101) == [(101, ["late"])]

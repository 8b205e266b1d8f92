"""The slope test of the soak."""

from __future__ import annotations

import random

import pytest

from soaking.flat import MOST_SAMPLES, Bound, Series, slope, trend

HOUR = 3600.0
MEMORY = Bound(share=0.1, floor=4e6)


def series(value, seconds=1200.0, every=5.0):
    made = Series()
    for step in range(int(seconds / every)):
        made.add(step * every, value(step * every))
    return made


def test_a_constant_is_flat():
    found = trend(series(lambda t: 6e7), MEMORY)
    assert (found.slope, found.start, found.end, found.highest) == (0.0, 6e7, 6e7, 6e7)
    assert found.flat


def test_a_straight_rise_has_its_own_slope():
    assert slope(series(lambda t: 6e7 + 1000 * t)) == pytest.approx(1000 * HOUR)


def test_a_leak_is_found_under_noise():
    chance = random.Random(1)
    found = trend(series(lambda t: 6e7 + 4000 * t + chance.gauss(0, 1e6)), MEMORY)
    assert not found.flat
    assert found.slope == pytest.approx(4000 * HOUR, rel=0.1)


def test_noise_alone_is_flat():
    chance = random.Random(2)
    assert trend(series(lambda t: 6e7 + chance.gauss(0, 1e6)), MEMORY).flat


def test_rare_peaks_do_not_count():
    found = trend(series(lambda t: 9e7 if t % 300 > 270 else 6e7), MEMORY)
    assert found.flat
    assert found.highest == 9e7


def test_a_leak_in_steps_is_found():
    """One file descriptor that stays open after each fault, one fault a minute."""
    assert not trend(series(lambda t: 40 + t // 60), Bound(share=0.05, floor=4.0)).flat


def test_falling_is_flat():
    assert trend(series(lambda t: 8e7 - 5000 * t), MEMORY).flat


def test_a_bound_is_the_larger_of_share_and_floor():
    assert Bound(share=0.1, floor=5.0).of(20.0) == 5.0
    assert Bound(share=0.1, floor=5.0).of(200.0) == 20.0


def test_a_long_series_is_thinned_and_keeps_its_slope():
    long = series(lambda t: 100 + t / 36, seconds=5.0 * 7 * MOST_SAMPLES)
    assert len(long) > 2 * MOST_SAMPLES
    assert slope(long) == pytest.approx(100.0, rel=0.02)


def test_the_warm_up_is_left_out():
    def warming(t):
        return min(t, 180.0) * 1e5 + 5e7

    assert not trend(series(warming, seconds=400.0), MEMORY).flat
    assert trend(series(warming, seconds=400.0).after(180.0), MEMORY).flat


def test_no_samples_have_no_trend():
    with pytest.raises(ValueError, match="without samples"):
        trend(Series(), MEMORY)
    assert slope(Series([1.0], [5.0])) == 0.0

"""Stalls: time without a commit counts only while input waits."""

from __future__ import annotations

import pytest

from streamd.verify import progress
from streamd.verify.progress import Stalls

ONE, TWO = ("source", 0), ("source", 1)


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def seen(stalls, clock, at, committed, ends):
    clock.now = 100.0 + at
    stalls.saw(dict(zip((ONE, TWO), committed, strict=True)), dict(zip((ONE, TWO), ends, strict=True)))


def test_only_waiting_input_makes_a_stall(clock):
    stalls = Stalls()
    seen(stalls, clock, 0, (0, 0), (0, 0))
    seen(stalls, clock, 9, (0, 0), (5, 0))
    seen(stalls, clock, 10, (3, 0), (5, 0))
    seen(stalls, clock, 12, (5, 0), (5, 0))
    seen(stalls, clock, 30, (5, 0), (5, 0))
    assert stalls.longest == 2.0


def test_one_partition_that_goes_on_does_not_hide_another(clock):
    stalls = Stalls()
    for second in range(8):
        seen(stalls, clock, second, (second, 0), (10, 1))
    assert stalls.longest == 7.0
    assert stalls.behind({ONE: 7, TWO: 1}) == [TWO]


def test_a_look_that_sees_nothing_takes_nothing_back(clock):
    stalls = Stalls()
    seen(stalls, clock, 0, (4, 1), (5, 1))
    seen(stalls, clock, 1, (0, 0), (5, 1))
    assert (stalls.position(ONE), stalls.behind({ONE: 4, TWO: 1})) == (4, [])

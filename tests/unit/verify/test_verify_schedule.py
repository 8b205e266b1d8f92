"""The schedule follows from its seed alone, and every fault point has its share."""

from __future__ import annotations

from collections import Counter

import pytest

from streamd.runtime import faults
from streamd.verify.schedule import OF_STATE, REBALANCE_POINTS, points, schedule

# A worker that is hit at its last mark has ended its tasks already: nothing is left to come back.
POINTS = tuple(point for point in faults.POINTS if point != "in_last_mark")


def test_the_same_seed_gives_the_same_schedule_and_another_one_another():
    known = points(kafka=True, nodes=2, stateful=True)
    assert schedule(50, 7, known) == schedule(50, 7, known)
    assert schedule(50, 7, known) != schedule(50, 8, known)


@pytest.mark.parametrize("kills", [0, 1, 2, 5, 50, 300])
def test_as_many_strikes_as_asked_for(kills):
    strikes = schedule(kills, 1, points(kafka=True, nodes=2, stateful=True))
    assert len(strikes) == kills
    kinds = Counter(strike.what for strike in strikes)
    assert kills < 5 or set(kinds) == {"worker", "node", "point"}


def test_points_come_about_as_often():
    counts = Counter(strike.point for strike in schedule(300, 1, POINTS) if strike.point)
    assert set(counts) == set(POINTS)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_points_are_those_that_the_pipeline_comes_to():
    assert set(points(kafka=True, nodes=2, stateful=True)) == set(POINTS)
    alone = set(points(kafka=False, nodes=1, stateful=False))
    assert alone == set(POINTS) - set(REBALANCE_POINTS) - set(OF_STATE)

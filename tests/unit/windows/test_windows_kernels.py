"""Kernels driven directly: the user's own code in them, keys of all kinds, order after a crash, what is promised."""

from __future__ import annotations

from typing import Any

import pytest

from demo.window_driver import WindowDriver
from streamd.errors import LateRecordError, TransformError
from streamd.expr import parse_aggregate
from streamd.windows.build import kernel_of
from streamd.windows.kernel import LARGEST_TIME
from streamd.windows.spec import WindowSpec

COUNTS = {"n": parse_aggregate("count()"), "sum": parse_aggregate("sum(v)")}
OWN = {
    "n": parse_aggregate("count()"),
    "own": parse_aggregate('custom("demo.basket:Basket", v)'),
    "z": parse_aggregate('custom("demo.basket:Basket", v)'),
}
KINDS: dict[str, dict[str, Any]] = {
    "tumbling": {"size": 10, "every": 10},
    "hopping": {"size": 10, "every": 5},
    "session": {"gap": 5},
    "count": {"size": 4, "every": 2},
    "global": {},
}
ALL = {**KINDS, "sliding": {"size": 10, "every": 10}}


def windows(kind: Any, aggregates: Any = COUNTS, **settings: Any) -> WindowSpec:
    return WindowSpec(kind, aggregates, **{"by": ("k",), **settings})


@pytest.mark.parametrize("emit", ["close", "update", 3])
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_users_code_refuses_leaves_windows_as_they_were(kind, emit):
    if kind == "count" and emit == 3:
        emit = "close"
    events = [("a", 1, 1), ("b", 2, 2), ("a", 3, 5), ("b", 14, 6), ("a", 30, 1)]
    refused = [("a", 1, 13), ("c", 2, 13), ("b", 4, 13), ("a", 40, 13)]
    alone, mixed = (WindowDriver(windows(kind, OWN, emit=emit, **KINDS[kind]), 5) for _ in range(2))
    alone.batch(events)
    mixed.batch([refused[0], events[0], refused[1], events[1], refused[2], *events[2:]])
    mixed.crash()
    for driver in (alone, mixed):
        driver.end()
    assert [type(error) for _, error in mixed.failed] == [TransformError] * 3
    assert mixed.values == alone.values
    assert all(found["own"] == found["z"] for found in alone.values)


@pytest.mark.parametrize("kind", ALL)
def test_results_come_in_the_order_of_arrival_also_after_a_crash(kind):
    keys = [f"k{number * 7 % 10}" for number in range(10)]
    driver = WindowDriver(windows(kind, **ALL[kind]), 100)
    driver.batch([(key, 1, 1) for key in keys[:6]])
    driver.crash()
    driver.batch([(key, 1, 1) for key in keys[6:]])
    driver.crash()
    driver.end()
    order = [found["k"] for found in driver.values]
    assert order[:10] == keys


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind not in ("count", "global")])
def test_times_that_are_none_are_errors_of_their_records(kind):
    driver = WindowDriver(windows(kind, **ALL[kind]), 2**62)
    driver.batch([("a", 1, 1), ("a", LARGEST_TIME + 99, 1), ("a", -LARGEST_TIME - 99, 1), ("a", 2, 1)])
    assert [type(error) for _, error in driver.failed] == [TransformError] * 2
    assert "expected milliseconds" in str(driver.failed[0][1])
    driver.end()
    assert driver.values[-1]["n"] == 2


@pytest.mark.parametrize("kind", ["tumbling", "hopping", "session", "sliding"])
def test_late_records_say_how_late_and_nothing_of_the_record(kind):
    driver = WindowDriver(windows(kind, **ALL[kind]))
    driver.batch([("secret", 100, 1), ("secret", 50, 1)])
    [(_, error)] = driver.failed
    assert isinstance(error, LateRecordError)
    assert str(error) == "the record's windows are closed: its time is 50 ms before the watermark"


@pytest.mark.parametrize("kind", ALL)
def test_nothing_is_kept_of_what_is_over(kind):
    """At the end of the input, but for the totals that never end."""
    driver = WindowDriver(windows(kind, **ALL[kind]))
    driver.batch([(f"k{number % 3}", number, 1) for number in range(100)])
    driver.end()
    kept = {"global": 3}.get(kind, 0)
    driver.store.committed()
    facts = sum(1 for _ in driver.kernel.facts.scan())
    assert len(driver.store) - facts == kept


def test_a_crash_writes_only_what_has_changed():
    driver = WindowDriver(windows("tumbling", size=10, every=10))
    driver.batch([("a", 1, 1), ("b", 1, 1)])
    driver.crash()
    driver.batch([("b", 2, 1)])
    names = sorted(name for name, _ in driver.store.changes())
    assert len(names) == 1


def test_grouping_sets_are_late_for_all_or_counted_in_those_that_are_open():
    spec = windows("session", gap=10, keys=2, one=False, by=("x", "y"))
    driver = WindowDriver(spec)
    driver.batch([((("a", 1), ("a", None)), 0, 1), ((("a", 2), ("a", None)), 12, 1), ((("b", 2), ("b", None)), 20, 1)])
    # Its own session of (a, 1) is over; that of (a, null) has gone on.
    driver.batch([((("a", 1), ("a", None)), 9, 1)])
    driver.end()
    assert driver.late == []
    found = {(one["x"], one["y"]): one["n"] for one in driver.values if one["window_end"] > 10}
    assert found[("a", None)] == 2


def test_the_source_is_code_that_one_can_read():
    kernel = kernel_of(windows("hopping", size=60_000, every=10_000, grace=5_000))
    assert "start = time - time % 10000" in kernel.source
    assert "def together(tail, head):" in kernel.source

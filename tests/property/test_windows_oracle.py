"""Every window type gives what a brute-force oracle gives: for shuffled, late and repeated records, in any batches, and
with crashes in between.
"""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo import window_driver
from demo.window_driver import WindowDriver
from demo.window_oracle import answer
from streamd.expr import parse_aggregate
from streamd.windows import run as run_module
from streamd.windows.spec import WindowSpec
from streamd.windows.timed import AlignedWindows

AGGREGATES = {"n": parse_aggregate("count()"), "sum": parse_aggregate("sum(v)"), "max": parse_aggregate("max(v)")}

keys = st.sampled_from(["a", "b", "é", 3, True, 2.5])
values = st.one_of(st.none(), st.integers(-5, 5))
events = st.lists(st.tuples(keys, st.integers(0, 60), values), max_size=40).flatmap(
    lambda some: st.sampled_from([some, sorted(some, key=lambda event: event[1]), [*some, *some]])
)
# After so many records a batch ends; whether the task crashes there.
cuts = st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=12)
small, emits = st.integers(1, 12), st.one_of(st.sampled_from(["close", "update"]), st.integers(1, 9))
grace, out_of_order = st.sampled_from([0, 0, 3, 11]), st.sampled_from([0, 0, 2, 7, 100])


def run(
    spec: WindowSpec, records: list[Any], disorder: int, batches: list[tuple[int, bool]], cold: Path | None = None
) -> WindowDriver:
    driver, rest = WindowDriver(spec, disorder, cold), records
    for size, crash in batches:
        driver.batch(rest[:size])
        rest = rest[size:]
        if crash:
            driver.crash()
    driver.batch(rest)
    driver.end()
    return driver


def agrees(spec: WindowSpec, records: list[Any], disorder: int, batches: list[tuple[int, bool]]) -> None:
    expected, driver = answer(spec, records, disorder), run(spec, records, disorder, batches)
    final, early = [], []
    for found in driver.values:
        (final if found.pop("window_final", True) else early).append(found)
    assert final == expected.final
    assert early == expected.early
    assert driver.late == expected.late


def windows(kind: Any, **settings_: Any) -> WindowSpec:
    return WindowSpec(kind, AGGREGATES, by=("k",), **settings_)


@given(events, out_of_order, cuts, small, st.integers(0, 9), grace, emits)
def test_tumbling(records, disorder, batches, size, offset, late_by, emit):
    agrees(
        windows("tumbling", size=size, every=size, offset=offset, grace=late_by, emit=emit), records, disorder, batches
    )


@given(events, out_of_order, cuts, small, small, st.integers(0, 9), grace, emits)
def test_hopping(records, disorder, batches, one, other, offset, late_by, emit):
    spec = windows("hopping", size=max(one, other), every=min(one, other), offset=offset, grace=late_by, emit=emit)
    agrees(spec, records, disorder, batches)


@given(events, out_of_order, cuts, small, st.sampled_from([0, 0, 1, 5, 13, 40]), grace, emits)
def test_sessions(records, disorder, batches, gap, longest, late_by, emit):
    agrees(windows("session", gap=gap, longest=longest, grace=late_by, emit=emit), records, disorder, batches)


@given(events, out_of_order, cuts, st.integers(1, 60), grace)
def test_sliding(records, disorder, batches, size, late_by):
    agrees(windows("sliding", size=size, every=size, grace=late_by), records, disorder, batches)


@given(events, out_of_order, cuts, st.integers(1, 60), st.integers(0, 3))
def test_sliding_over_many_records(records, disorder, batches, size, few):
    """As above, with fewer records that are simply added up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "FEW", few)
        agrees(windows("sliding", size=size, every=size), records, disorder, batches)


@given(events, out_of_order, cuts, small, small, st.sampled_from(["close", "update"]))
def test_counts(records, disorder, batches, one, other, emit):
    agrees(windows("count", size=max(one, other), every=min(one, other), emit=emit), records, disorder, batches)


@given(events, out_of_order, cuts, emits)
def test_for_ever(records, disorder, batches, emit):
    agrees(windows("global", emit=emit), records, disorder, batches)


@given(st.lists(st.tuples(keys, st.integers(0, 60), values), max_size=40), small)
def test_sessions_without_late_records_are_cut_where_times_lie_apart(records, gap):
    """The oracle itself, against what sessions are."""
    expected = []
    for key in dict.fromkeys(key for key, _, _ in records):
        times = sorted(time for one, time, _ in records if one == key and type(one) is type(key))
        cut = [0, *(n for n in range(1, len(times)) if times[n] - times[n - 1] > gap), len(times)]
        expected += [(key, times[a], times[b - 1] + gap) for a, b in pairwise(cut)]
    found = answer(windows("session", gap=gap), records, 100).final
    assert sorted(map(str, expected)) == sorted(
        str((one["k"], one["window_start"], one["window_end"])) for one in found
    )


@settings(max_examples=60)
@given(st.lists(st.tuples(keys, st.integers(0, 90), values), max_size=40), cuts, small, small, grace)
def test_hopping_windows_of_panes_are_those_that_have_a_table_each(records, batches, one, other, late_by):
    """With every aggregate that can be merged without rounding, over records in order."""
    texts = ["count()", "sum(v)", "mean(v)", "min(v)", "max(v)", "first(v)", "last(v)", "argmax(v, v)", "collect(v, 5)"]
    texts += ["count_distinct(v)", "median(v)", "histogram(v, [0, 3])", "approx_count_distinct(v)", "top_k(v, 3)"]
    spec = WindowSpec(
        "hopping",
        {f"a{number}": parse_aggregate(text) for number, text in enumerate(texts)},
        size=max(one, other),
        every=min(one, other),
        grace=late_by,
        by=("k",),
    )
    records = sorted(records, key=lambda event: event[1])
    found = run(spec, records, 0, batches).values
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window_driver, "kernel_of", AlignedWindows)
        assert found == run(spec, records, 0, []).values


@settings(max_examples=40)
@given(st.lists(st.tuples(keys, st.integers(0, 400), st.floats(-1e6, 1e6)), max_size=60), out_of_order, cuts)
def test_crashes_do_not_change_a_digit(records, disorder, batches):
    specs = [
        windows("hopping", size=60, every=10),
        windows("session", gap=9),
        windows("sliding", size=100, every=100),
        windows("count", size=6, every=2),
    ]
    for spec in specs:
        crashed = run(spec, records, disorder, [(size, True) for size, _ in batches])
        assert crashed.values == run(spec, records, disorder, []).values


@settings(max_examples=15)
@given(events, out_of_order, cuts, emits)
def test_state_that_is_not_in_memory_is_the_same(records, disorder, batches, emit):
    specs = [
        windows("tumbling", size=10, every=10, emit=emit),
        windows("hopping", size=12, every=4, emit=emit),
        windows("session", gap=6, longest=20, emit=emit),
        windows("sliding", size=15, every=15),
        windows("count", size=6, every=2),
        windows("global", emit=emit),
    ]
    with tempfile.TemporaryDirectory() as folder:
        for number, spec in enumerate(specs):
            cold = run(spec, records, disorder, batches, Path(folder) / str(number))
            assert cold.values == run(spec, records, disorder, batches).values
            assert [one for one in cold.values if one.pop("window_final", True)] == answer(
                spec, records, disorder
            ).final

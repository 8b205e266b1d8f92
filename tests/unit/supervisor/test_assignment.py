"""Which worker runs which task."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from streamd.record import TaskId
from streamd.supervisor.assignment import place, wanted_workers


def task(partition, pipeline="p"):
    return TaskId("app", pipeline, 0, partition)


def test_workers_as_configured_or_one_per_core_never_more_than_tasks():
    assert wanted_workers(10, None, 4) == 4
    assert wanted_workers(10, 6, 4) == 6
    assert wanted_workers(3, None, 4) == 3
    assert wanted_workers(0, 6, 4) == 0


def test_tasks_stay_where_they_are():
    home = {task(0): 1, task(1): 0, task(2): 1, task(3): 0}
    assert place(home, [0, 1], home, {}) == home


def test_a_new_worker_takes_from_the_fullest_what_costs_least():
    home = {task(n): 0 for n in range(4)}
    placed = place(home, [0, 1], home, {task(0): 5.0, task(1): 1.0, task(2): 9.0, task(3): 2.0})
    assert {t.partition for t, worker in placed.items() if worker == 1} == {1, 3}


def test_tasks_of_a_lost_worker_go_where_the_load_is_least():
    home = {task(0): 0, task(1): 1, task(2): 2}
    placed = place(home, [0, 1], home, {task(0): 100.0, task(1): 1.0, task(2): 1.0})
    assert placed[task(2)] == 1


def test_a_pipeline_is_spread():
    tasks = [task(n, pipeline) for pipeline in "ab" for n in range(2)]
    placed = place(tasks, [0, 1], {}, {})
    assert {(t.pipeline, worker) for t, worker in placed.items()} == {("a", 0), ("a", 1), ("b", 0), ("b", 1)}


def test_no_worker_no_placement():
    assert place([task(0)], [], {}, {}) == {}


tasks = st.builds(task, st.integers(0, 30), st.sampled_from("abc"))


@given(
    st.sets(tasks),
    st.integers(1, 6),
    st.dictionaries(tasks, st.integers(0, 8)),
    st.dictionaries(tasks, st.floats(0, 1e6)),
)
def test_every_task_is_placed_once_and_numbers_are_even(wanted, workers, home, load):
    """All tasks, only workers there are, numbers that differ by one at most; and placing again moves nothing."""
    placed = place(wanted, range(workers), home, load)
    assert placed.keys() == wanted
    counts = Counter(placed.values())
    numbers = [counts[worker] for worker in range(workers)]
    assert sum(numbers) == len(wanted)
    assert max(numbers) - min(numbers) <= 1
    assert place(wanted, range(workers), placed, load) == placed

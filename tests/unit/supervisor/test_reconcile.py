"""Desired against actual."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamd.record import TaskId
from streamd.supervisor.reconcile import Placement, Steps, reconcile

TASKS = [TaskId("app", "p", 0, n) for n in range(4)]


def test_start_is_the_difference_from_nothing():
    steps = reconcile({TASKS[0]: 1, TASKS[1]: 1}, {}, [0, 1], {}, {})
    assert steps == Steps((), ((TASKS[0], 0), (TASKS[1], 1)))


def test_drain_is_the_difference_to_nothing():
    placed = {TASKS[0]: Placement(0, 1, 1), TASKS[1]: Placement(0, 2, 1, revoked=True)}
    assert reconcile({}, placed, [], {}, {}) == Steps((TASKS[0],), ())


def test_a_changed_version_is_revoked_first():
    placed = {TASKS[0]: Placement(0, 1, 1)}
    assert reconcile({TASKS[0]: 2}, placed, [0], {TASKS[0]: 0}, {}) == Steps((TASKS[0],), ())


def test_what_is_over_is_assigned_to_its_home():
    """A crash takes the placement away and leaves the home: the same worker gets the task again."""
    home = {TASKS[0]: 1, TASKS[1]: 0}
    placed = {TASKS[1]: Placement(0, 1, 1)}
    assert reconcile({TASKS[0]: 1, TASKS[1]: 1}, placed, [0, 1], home, {}) == Steps((), ((TASKS[0], 1),))


@given(
    st.lists(st.tuples(st.dictionaries(st.sampled_from(TASKS), st.integers(1, 3)), st.integers(1, 4)), min_size=1),
)
def test_steps_lead_to_what_is_desired(wishes):
    """Whatever was desired before: taking steps and ending revoked tasks ends with just the desired, for good."""
    placed, home = {}, {}
    for desired, workers in wishes:
        for _ in range(20):
            steps = reconcile(desired, placed, range(workers), home, {})
            if steps == Steps((), ()):
                break
            for task in steps.revoke:
                del placed[task]
            for task, worker in steps.assign:
                assert task not in placed
                placed[task] = Placement(worker, 1, desired[task])
                home[task] = worker
        assert {task: placement.version for task, placement in placed.items()} == desired
        assert all(placement.worker < workers for placement in placed.values())


def test_a_task_that_was_not_ours_for_a_while_starts_anew():
    placed = {TASKS[0]: Placement(0, 1, 1), TASKS[1]: Placement(0, 2, 1)}
    desired = {TASKS[0]: 1, TASKS[1]: 1}
    assert reconcile(desired, placed, [0], {}, {}, {TASKS[1]}) == Steps((TASKS[1],), ())

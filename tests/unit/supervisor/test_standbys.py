"""Which worker follows what, and that a copy and its task are never open here at once."""

from __future__ import annotations

import os
import time

import pytest

from streamd.record import TaskId
from streamd.runtime.control import Follow, FollowEnded, StandbyReport, Unfollow
from streamd.state.snapshots import OLDEST
from streamd.supervisor.standbys import PATIENCE, Standbys, warm_on_disk


def task(number: int) -> TaskId:
    return TaskId("app", "p", 0, number)


class Workers:
    """Takes orders, from workers that are up."""

    def __init__(self) -> None:
        self.up = {0, 1}
        self.orders: list[tuple[int, Follow | Unfollow]] = []
        self.reports: dict[tuple[int, TaskId], StandbyReport] = {}

    def assign(self, worker: int, order: Follow) -> bool:
        return worker in self.up and self.send(worker, order)

    def send(self, worker: int, order: Follow | Unfollow) -> bool:
        self.orders.append((worker, order))
        return True

    def standby(self, worker: int, task: TaskId) -> StandbyReport | None:
        return self.reports.get((worker, task))

    def taken(self) -> list[tuple[str, int, int]]:
        """[(order, worker, partition)] since the last call."""
        orders, self.orders = self.orders, []
        return [(type(order).__name__, worker, order.task.partition) for worker, order in orders]


@pytest.fixture
def workers() -> Workers:
    return Workers()


@pytest.fixture
def standbys(workers: Workers) -> Standbys:
    return Standbys(workers)


def wanted(*numbers: int, version: int = 1) -> dict[TaskId, int]:
    return {task(number): version for number in numbers}


def ended(standbys: Standbys, number: int) -> None:
    following = standbys.placed[task(number)]
    standbys.ended(following.worker, FollowEnded(task(number), following.incarnation))


def test_copies_are_shared_out_and_stay(standbys: Standbys, workers: Workers) -> None:
    standbys.step(wanted(0, 1, 2, 3), (), (0, 1), 0.0)
    orders = workers.taken()
    assert sorted(number for _, _, number in orders) == [0, 1, 2, 3]
    assert sorted(worker for _, worker, _ in orders) == [0, 0, 1, 1]
    standbys.step(wanted(0, 1, 2, 3), (), (0, 1), 1.0)
    assert workers.taken() == []
    assert standbys.busy == {0, 1}


def test_a_task_waits_until_its_copy_is_let_go_of(standbys: Standbys, workers: Workers) -> None:
    standbys.step(wanted(0), (), (0,), 0.0)
    workers.taken()
    assert standbys.holds(task(0), 0.0)
    standbys.step({}, {task(0)}, (0,), 1.0)
    standbys.step({}, {task(0)}, (0,), 1.1)
    assert workers.taken() == [("Unfollow", 0, 0)], "once"
    assert standbys.holds(task(0), 1.2)
    assert not standbys.holds(task(0), 1.0 + PATIENCE), "it is restored whole then"
    standbys.ended(0, FollowEnded(task(0), 99))
    assert standbys.holds(task(0), 1.2), "that was another one"
    ended(standbys, 0)
    assert not standbys.holds(task(0), 1.2)
    assert not standbys.holds(task(1), 1.2)


def test_what_runs_here_is_not_followed(standbys: Standbys, workers: Workers) -> None:
    standbys.step(wanted(0, 1), {task(1)}, (0,), 0.0)
    assert workers.taken() == [("Follow", 0, 0)]
    standbys.step(wanted(0, 1), (), (0,), 0.0)
    assert workers.taken() == [("Follow", 0, 1)]


def test_a_worker_that_died_or_goes_has_its_copies_followed_again(standbys: Standbys, workers: Workers) -> None:
    standbys.step(wanted(0, 1), (), (0, 1), 0.0)
    at = {number: standbys.placed[task(number)].worker for number in (0, 1)}
    workers.taken()
    workers.up = {at[1]}
    standbys.worker_gone(at[0])
    standbys.step(wanted(0, 1), (), (0, 1), 1.0)
    assert workers.taken() == [], "its place is not filled yet"
    workers.up = {0, 1}
    standbys.step(wanted(0, 1), (), (0, 1), 2.0)
    assert workers.taken() == [("Follow", at[0], 0)]
    # One worker less.
    standbys.step(wanted(0, 1), (), (0,), 3.0)
    [number] = [number for number in (0, 1) if standbys.placed[task(number)].worker == 1]
    assert workers.taken() == [("Unfollow", 1, number)]
    ended(standbys, number)
    standbys.step(wanted(0, 1), (), (0,), 4.0)
    assert workers.taken() == [("Follow", 0, number)]


def test_another_version_of_the_pipeline_is_followed_anew(standbys: Standbys, workers: Workers) -> None:
    standbys.step(wanted(0), (), (0,), 0.0)
    workers.taken()
    standbys.step(wanted(0, version=2), (), (0,), 1.0)
    assert workers.taken() == [("Unfollow", 0, 0)]
    ended(standbys, 0)
    standbys.step(wanted(0, version=2), (), (0,), 2.0)
    assert workers.orders[0][1] == Follow(task(0), 2, 2)


def test_a_copy_is_ready_when_its_worker_says_so_of_this_order(standbys: Standbys, workers: Workers) -> None:
    assert standbys.ready(task(0)) is None
    standbys.step(wanted(0), (), (0,), 0.0)
    incarnation = standbys.placed[task(0)].incarnation
    assert standbys.ready(task(0)) is False
    workers.reports[0, task(0)] = StandbyReport(task(0), incarnation + 1, "following", 0, True)
    assert standbys.ready(task(0)) is False
    workers.reports[0, task(0)] = StandbyReport(task(0), incarnation, "following", 0, True)
    assert standbys.ready(task(0)) is True


def test_a_copy_on_disk_counts_until_it_is_too_old(tmp_path) -> None:
    for number in (0, 1):
        (tmp_path / str(task(number))).mkdir()
    old = time.time() - OLDEST / 1000 - 60
    os.utime(tmp_path / str(task(1)), (old, old))
    assert warm_on_disk(tmp_path, [task(0), task(1), task(2)]) == {task(0)}

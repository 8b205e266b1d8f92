"""The standby copies that a node keeps for tasks of others: which of its workers follows what.

The group decides which copies are this node's. A copy and its task are never open here at the same time: the task is
assigned once its copy is let go of, and a copy is followed once its task is over.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from streamd.record import TaskId
from streamd.runtime.control import Follow, FollowEnded, StandbyReport, Unfollow
from streamd.state.snapshots import OLDEST
from streamd.supervisor.assignment import place

# Seconds that a task waits for its copy to be let go of. Then it comes all the same, and restores everything.
PATIENCE = 5.0


class Workers(Protocol):
    """Who takes the orders."""

    def assign(self, worker: int, order: Follow) -> bool: ...
    def send(self, worker: int, order: Unfollow) -> bool: ...
    def standby(self, worker: int, task: TaskId) -> StandbyReport | None: ...


@dataclass(slots=True)
class Following:
    """A copy that a worker keeps up to date. `until`: when it is given up at last, once that is ordered."""

    worker: int
    incarnation: int
    version: int
    until: float | None = None


class Standbys:
    """What is followed here: `placed`."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self.placed: dict[TaskId, Following] = {}
        self._home: dict[TaskId, int] = {}
        self._incarnations = itertools.count(1)

    @property
    def busy(self) -> frozenset[int]:
        """Workers that follow anything."""
        return frozenset(following.worker for following in self.placed.values())

    def step(
        self, desired: Mapping[TaskId, int], running: Collection[TaskId], workers: Sequence[int], now: float
    ) -> None:
        """Order what brings `placed` towards `desired` (task → version of its pipeline).

        `running`: tasks that are this node's, or still here. `now`: monotonic seconds.
        """
        wanted = {task: version for task, version in desired.items() if task not in running}
        target = place(wanted, workers, self._home, {})
        for task, following in self.placed.items():
            stays = target.get(task) == following.worker and wanted.get(task) == following.version
            if not stays and following.until is None:
                following.until = now + PATIENCE
                self._workers.send(following.worker, Unfollow(task, following.incarnation))
        for task, worker in sorted(target.items()):
            if task not in self.placed:
                follow = Follow(task, next(self._incarnations), wanted[task])
                if self._workers.assign(worker, follow):
                    self.placed[task] = Following(worker, follow.incarnation, follow.version)
                    self._home[task] = worker

    def holds(self, task: TaskId, now: float) -> bool:
        """Whether a task has to wait, since its copy is not let go of yet."""
        following = self.placed.get(task)
        return following is not None and (following.until is None or now < following.until)

    def ended(self, worker: int, news: FollowEnded) -> None:
        """A worker has let go of a copy."""
        following = self.placed.get(news.task)
        if following is not None and (following.worker, following.incarnation) == (worker, news.incarnation):
            del self.placed[news.task]

    def worker_gone(self, worker: int) -> None:
        """Nothing is followed there any more."""
        self.placed = {task: following for task, following in self.placed.items() if following.worker != worker}

    def report(self, task: TaskId) -> StandbyReport | None:
        """The newest report of a copy."""
        following = self.placed.get(task)
        report = None if following is None else self._workers.standby(following.worker, task)
        return report if report and following and report.incarnation == following.incarnation else None

    def ready(self, task: TaskId) -> bool | None:
        """Whether a copy would be used; None when nothing is followed here."""
        if task not in self.placed:
            return None
        report = self.report(task)
        return report is not None and report.ready


def warm_on_disk(folder: Path, tasks: Collection[TaskId]) -> frozenset[TaskId]:
    """Of these tasks those whose snapshot lies in `folder`, and is not too old to be used, as far as one sees."""

    def recent(task: TaskId) -> bool:
        try:
            return 1000 * (time.time() - (folder / str(task)).stat().st_mtime) < OLDEST
        except OSError:
            return False

    return frozenset(task for task in tasks if recent(task))


# Whether the copy of a task would be used: see `Standbys.ready`.
Ready = Callable[[TaskId], bool | None]

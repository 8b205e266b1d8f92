"""Desired against actual: the one decision behind start, reload, rebalance, repair and drain. Pure.

Start is the difference from nothing, drain the difference to nothing, repair the difference after a crash.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from streamd.record import TaskId
from streamd.supervisor.assignment import place


@dataclass(frozen=True, slots=True)
class Placement:
    """A task that a worker has been told to run, and has not yet said to be over.

    `since`: the generation of its group in which it came to this node, as the pipeline numbers them.
    """

    worker: int
    incarnation: int
    version: int
    revoked: bool = False
    since: int = 0


@dataclass(frozen=True, slots=True)
class Steps:
    """What to do next. A task that is to move or to change is revoked first, and assigned once it is over."""

    revoke: tuple[TaskId, ...]
    assign: tuple[tuple[TaskId, int], ...]


def reconcile(
    desired: Mapping[TaskId, int],
    placed: Mapping[TaskId, Placement],
    workers: Sequence[int],
    home: Mapping[TaskId, int],
    load: Mapping[TaskId, float],
    interrupted: Collection[TaskId] = (),
) -> Steps:
    """The steps from `placed` towards `desired` (task → version of its pipeline).

    `workers`: the places there should be, whether their processes run or not; `home`: where each task ran last;
    `interrupted`: tasks that another node may have run meanwhile, and which therefore start anew.
    Idempotent: once the steps are taken, and nothing else happens, there are no more.
    """
    target = place(desired, workers, home, load)
    revoke = tuple(
        task
        for task, placement in sorted(placed.items())
        if not placement.revoked
        and (target.get(task) != placement.worker or desired.get(task) != placement.version or task in interrupted)
    )
    assign = tuple((task, worker) for task, worker in sorted(target.items()) if task not in placed)
    return Steps(revoke, assign)

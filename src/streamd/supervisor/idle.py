"""When everything is done: `until_idle` ends a run once all sources are read to their present end and committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from streamd.record import TaskId
from streamd.runtime.control import TaskReport
from streamd.supervisor.pipelines import ManagedPipeline
from streamd.supervisor.reconcile import Placement


class Node(Protocol):
    """What has to be looked at."""

    @property
    def pipelines(self) -> Mapping[str, ManagedPipeline]: ...
    @property
    def placed(self) -> Mapping[TaskId, Placement]: ...

    def report(self, task: TaskId) -> TaskReport | None: ...
    def reported_at(self, task: TaskId) -> float: ...


class IdleWatch:
    """Sees that nothing is left to do, and looks again before it believes it.

    One task's commit is the next one's input: all must be idle, and in reports sent at least `confirmation` seconds
    later still be, with nothing read in between. By then each reader has asked its source anew how far it goes.
    """

    def __init__(self, confirmation: float) -> None:
        self._confirmation = confirmation
        self._since = 0.0
        self._seen: dict[TaskId, tuple[int, int]] | None = None

    def over(self, node: Node, now: float) -> bool:
        """Whether everything is done. Pipelines that failed do not count."""
        pipelines = [pipeline for pipeline in node.pipelines.values() if pipeline.failure is None]
        if not all(pipeline.ready for pipeline in pipelines):
            self._seen = None
            return False
        desired = [task for pipeline in pipelines for task in pipeline.desired]
        if not desired:
            return not node.placed
        seen = quiet_tasks(node.report, desired)
        if seen is None or seen != self._seen:
            self._seen, self._since = seen, now
            return False
        return all(node.reported_at(task) >= self._since + self._confirmation for task in desired)


def quiet_tasks(
    report_of: Callable[[TaskId], TaskReport | None], tasks: Iterable[TaskId]
) -> dict[TaskId, tuple[int, int]] | None:
    """task → (incarnation, records taken in), when all tasks are idle; None when one is not."""
    seen: dict[TaskId, tuple[int, int]] = {}
    for task in tasks:
        report = report_of(task)
        if report is None or not report.idle:
            return None
        seen[task] = (report.incarnation, report.records_in)
    return seen

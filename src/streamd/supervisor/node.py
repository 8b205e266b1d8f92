"""The control loop of a node: what should run against what does, several times a second and on each change.

Start, reload, rebalance, repair and drain are the same step: `desired` is compared with `placed`, and the difference is
ordered. Everything here runs on one event loop, in plain functions; only pipelines and processes wait for anything.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog

from streamd.clock import SYSTEM_CLOCK, Clock
from streamd.observability import catalog
from streamd.observability.merge import MergedMetrics
from streamd.observability.metrics import MetricSet, Snapshot
from streamd.observability.status import NodeStatus
from streamd.record import TaskId
from streamd.runtime.control import (
    Assign,
    Fault,
    FollowEnded,
    Generation,
    Loaded,
    Member,
    Revoke,
    SchemaChange,
    Seen,
    Start,
    TaskEnded,
    TaskReport,
)  # fmt: skip
from streamd.supervisor.assignment import wanted_workers
from streamd.supervisor.children import WORKER_COMMAND
from streamd.supervisor.gauges import NodeGauges
from streamd.supervisor.idle import IdleWatch
from streamd.supervisor.options import Options
from streamd.supervisor.pipelines import ManagedPipeline
from streamd.supervisor.reconcile import Placement, reconcile
from streamd.supervisor.report import node_status
from streamd.supervisor.standbys import Standbys
from streamd.supervisor.views import Views
from streamd.supervisor.workers import WorkerPool

log = structlog.get_logger(__name__)

TICK = 0.25
DISOBEDIENCE = 5.0  # seconds that a worker may overdraw the deadline of a revoked task


class Supervisor:
    """One node's control plane. Make it, `run` it; `drain` and `kill` may be called meanwhile, from signal handlers.

    `status` and `metrics` may be read at any time on the same loop.
    """

    def __init__(
        self,
        app: str,
        start: Start,
        options: Options,
        *,
        clock: Clock = SYSTEM_CLOCK,
        command: Sequence[str] = WORKER_COMMAND,
        metrics: MetricSet | None = None,
        on_progress: Callable[[NodeStatus, MergedMetrics], None] | None = None,
    ) -> None:
        self.app = app
        self.options = options
        self.clock = clock
        self.pipelines: dict[str, ManagedPipeline] = {}
        self.placed: dict[TaskId, Placement] = {}
        self.metrics = MergedMetrics()
        self.started_at = clock.now_ms()
        self.last_reconcile = clock.monotonic()
        self.stopping = False
        self.incomplete = False
        self._own_metrics = metrics or MetricSet()
        self.pool = WorkerPool(start, options, self, self._own_metrics, clock, command)
        self.standbys = Standbys(self.pool)
        self.views = Views(self.pipelines, self.placed, self.pool.send)
        self._gauges = NodeGauges(self._own_metrics)
        self._idle = IdleWatch(options.idle_confirmation)
        self._on_progress = on_progress
        self._home: dict[TaskId, int] = {}
        self._load: dict[TaskId, float] = {}
        self._members: dict[str, Member] = {}
        self._revoke_by: dict[TaskId, float] = {}
        self._incarnations = itertools.count(1)
        self._wake = asyncio.Event()
        self._deadline: float | None = None
        self._killed_by: int | None = None
        self._next_second = 0.0
        self._node = ""
        self._group: asyncio.TaskGroup | None = None
        self._retired: list[ManagedPipeline] = []

    # --- what others may ask for ----------------------------------------------------------------------------------

    def status(self) -> NodeStatus:
        """Everything that runs on this node, now."""
        return node_status(self)

    @property
    def own_metrics(self) -> MetricSet:
        """The metrics of this process; `metrics` has those of the workers as well."""
        return self._own_metrics

    def report(self, task: TaskId) -> TaskReport | None:
        """The newest report of a task from the worker that is to run it."""
        placement = self.placed.get(task)
        report = self.pool.report(placement.worker, task) if placement else None
        return report if report and placement and report.incarnation == placement.incarnation else None

    def reported_at(self, task: TaskId) -> float:
        """When that report was sent, monotonic seconds; 0 when there is none."""
        placement = self.placed.get(task)
        return self.pool.progress_at(placement.worker) if placement else 0.0

    def add(self, pipeline: ManagedPipeline) -> None:
        """Run a pipeline. One of the same name is replaced: its tasks are drained, then the new ones started."""
        before = self.pipelines.get(pipeline.name)
        if before is not None:
            self._retired.append(before)
        self.pipelines[pipeline.name] = pipeline
        pipeline.copied = self.standbys.ready
        pipeline.node = self._node
        self._gauges.introduce(pipeline.plan.config)
        if self._group is not None:
            self._group.create_task(pipeline.run(), name=f"pipeline {pipeline.name}")
        self.wake()

    def advertise(self, node: str) -> None:
        """Have the groups told where this node's HTTP server is, before they are joined."""
        self._node = node
        for pipeline in self.pipelines.values():
            pipeline.node = node

    def drain(self) -> None:
        """End in order: sources stop, tasks commit, workers exit, groups are left, all within `drain_timeout`."""
        if not self.stopping:
            self.stopping = True
            self._deadline = self.clock.monotonic() + self.options.drain_timeout
            log.info("Draining", timeout_seconds=self.options.drain_timeout)
            self.pool.start_no_more()
            self.wake()

    def kill(self, signal_number: int) -> None:
        """End at once. What is not committed is taken up again at the next start."""
        self._killed_by = signal_number
        self.stopping = True
        self.wake()

    def wake(self) -> None:
        """Have the control loop go round now."""
        self._wake.set()

    # --- the loop -------------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Run until drained, killed, idle (with `until_idle`) or at the end of every input. Returns the exit code."""
        try:
            async with asyncio.TaskGroup() as self._group:
                runs = [self._group.create_task(p.run(), name=f"pipeline {p.name}") for p in self.pipelines.values()]
                try:
                    await self._go_round()
                finally:
                    await self.pool.close()
                    for pipeline in (*self.pipelines.values(), *self._retired):
                        pipeline.release()
                    if self._killed_by is not None:
                        for run in runs:
                            run.cancel()
        finally:
            self._group = None
            self._every_second()
        return self._exit_code()

    async def _go_round(self) -> None:
        while True:
            self._wake.clear()
            self._step()
            if self._killed_by is not None or (self.stopping and self.pool.empty and not self.placed):
                return
            try:
                async with asyncio.timeout(TICK):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _step(self) -> None:
        now = self.clock.monotonic()
        self.last_reconcile = now
        self._release()
        if not self.stopping:
            self._look_at_pipelines(now)
        desired, followed = self._desired(), self._followed()
        wanted = wanted_workers(len(desired) + len(followed), self.options.workers, usable_cores())
        if not wanted and not self.stopping and any(pipeline.awaited for pipeline in self.pipelines.values()):
            wanted = 1  # started while the pipeline is checked and joins its group: its tasks need not wait for it
        self.pool.step(wanted, frozenset(p.worker for p in self.placed.values()) | self.standbys.busy)
        self._order(desired, range(wanted), now)
        self.standbys.step(followed, {*desired, *self.placed}, range(wanted), now)
        self._enforce(now)
        if now >= self._next_second:
            self._next_second = now + 1.0
            self._every_second()

    def _desired(self) -> dict[TaskId, int]:
        if self.stopping:
            return {}
        return {task: p.version for p in self.pipelines.values() for task in p.desired}

    def _followed(self) -> dict[TaskId, int]:
        if self.stopping:
            return {}
        return {task: p.version for p in self.pipelines.values() for task in p.standbys}

    def _order(self, desired: Mapping[TaskId, int], workers: Sequence[int], now: float) -> None:
        for pipeline in self.pipelines.values():
            if pipeline.partitions is not None and pipeline.failure is None:
                self._introduce(pipeline, now)
        steps = reconcile(desired, self.placed, workers, self._home, self._load, self._interrupted())
        for task in steps.revoke:
            deadline = self.options.revoke_timeout
            if self._deadline is not None:
                # The rest is for the workers to exit and the groups to be left.
                deadline = max(0.0, self._deadline - now - min(1.0, self.options.drain_timeout / 4))
            self._revoke(task, deadline, now)
        for task, worker in steps.assign:
            if self.standbys.holds(task, now):
                continue
            pipeline = self.pipelines[task.pipeline]
            assign = Assign(task, next(self._incarnations), desired[task], pipeline.member)
            if self.pool.assign(worker, assign):
                since = pipeline.since.get(task, 0)
                self.placed[task] = Placement(worker, assign.incarnation, assign.version, since=since)
                self._home[task] = worker

    def _revoke(self, task: TaskId, deadline: float, now: float) -> None:
        placement = self.placed[task]
        if self.pool.send(placement.worker, Revoke(task, placement.incarnation, deadline)):
            self.placed[task] = replace(placement, revoked=True)
            self._revoke_by[task] = now + deadline + DISOBEDIENCE

    def _interrupted(self) -> frozenset[TaskId]:
        """Placed tasks that are ours again: another node may have run them meanwhile."""
        return frozenset(
            task
            for task, placement in self.placed.items()
            if (pipeline := self.pipelines.get(task.pipeline)) is not None
            and pipeline.version == placement.version
            and pipeline.since.get(task, placement.since) != placement.since
        )

    def _drop_strays(self, pipeline: ManagedPipeline, now: float) -> None:
        """End tasks that were not ours all the time, at once, where nothing but the generation fences their commits.

        They must not hear of the new generation: under it they could set the positions of their new owner back.
        """
        if pipeline.member is None or pipeline.plan.config.delivery != "at_least_once":
            return
        for task, placement in tuple(self.placed.items()):
            if task.pipeline == pipeline.name and pipeline.since.get(task) != placement.since:
                self._revoke(task, 0.0, now)

    def _introduce(self, pipeline: ManagedPipeline, now: float) -> None:
        """Make the pipeline, and the generation of its group, known to the workers."""
        self.pool.load(pipeline.load())
        if self.pool.knows(pipeline.name, pipeline.version):
            pipeline.warm.set()
        member = pipeline.member
        if member is not None and self._members.get(pipeline.name) != member:
            self._members[pipeline.name] = member
            self._drop_strays(pipeline, now)
            for worker in {p.worker for task, p in self.placed.items() if task.pipeline == pipeline.name}:
                self.pool.send(worker, Generation(pipeline.name, member))

    def _enforce(self, now: float) -> None:
        """Kill workers that keep a revoked task beyond its deadline, and, at the end of the drain, all of them."""
        for task, latest in tuple(self._revoke_by.items()):
            placement = self.placed.get(task)
            if placement is None or not placement.revoked:
                del self._revoke_by[task]
            elif now > latest:
                self.pool.kill(placement.worker, f"It did not give up task {task} in time.")
        if self._deadline is not None and now > self._deadline and not self.pool.empty:
            self.incomplete = self.incomplete or bool(self.placed)
            self.pool.kill_all("It did not drain in time.")

    def _look_at_pipelines(self, now: float) -> None:
        """Decide what ends: pipelines that failed or are replaced, and the whole node."""
        if self.options.until_idle:
            for pipeline in (*self.pipelines.values(), *self._retired):
                if pipeline.failure is None:
                    self._lose_patience(pipeline, now)
        every = self.pipelines.values()
        failed = [pipeline for pipeline in every if pipeline.failure is not None]
        if failed and self.options.exit_on_failure:
            self.drain()
        elif self.options.until_idle:
            if self._idle.over(self, now):
                self.drain()
        elif every and not failed and all(pipeline.drained for pipeline in every) and not self.placed:
            log.info("Every input was read to its end")
            self.drain()

    def _release(self) -> None:
        """Leave the groups of pipelines that are over and have no task left: others take their partitions at once."""
        for pipeline in (*self.pipelines.values(), *self._retired):
            retired = self.pipelines.get(pipeline.name) is not pipeline
            over = self.stopping or retired or pipeline.failure is not None
            if over and not pipeline.released and not self._has_tasks(pipeline):
                pipeline.release()
        self._retired = [pipeline for pipeline in self._retired if not pipeline.released]

    def _has_tasks(self, pipeline: ManagedPipeline) -> bool:
        return any(t.pipeline == pipeline.name and p.version == pipeline.version for t, p in self.placed.items())

    def _lose_patience(self, pipeline: ManagedPipeline, now: float) -> None:
        """With `until_idle` nobody waits for ever for a server that can not be reached."""
        limit = self.options.unreachable_timeout
        waiting = [pipeline.waiting_since] if pipeline.waiting_since is not None else []
        for task in pipeline.desired:
            report = self.report(task)
            if report is not None and report.restarts and report.state in ("starting", "loading", "backing_off"):
                waiting.append(report.last_progress)
        if waiting and now - min(waiting) > limit:
            last = pipeline.error.message if pipeline.error else "no message"
            pipeline.fail(Fault("fatal", "UnavailableError", f"Given up after {limit:g} s without progress: {last}"))

    def _every_second(self) -> None:
        self._gauges.update(self.status())
        for pipeline in self.pipelines.values():
            self._gauges.rebalanced(pipeline)
        self.metrics.update("supervisor", self._own_metrics.snapshot())
        if self._on_progress is not None:
            self._on_progress(self.status(), self.metrics)

    def _exit_code(self) -> int:
        if self._killed_by is not None:
            return 128 + self._killed_by
        return int(self.incomplete or any(pipeline.failure is not None for pipeline in self.pipelines.values()))

    # --- what the pool tells (workers.Listener) --------------------------------------------------------------------

    def task_ended(self, worker: int, ended: TaskEnded) -> None:
        placement = self.placed.get(ended.task)
        if placement is None or placement.incarnation != ended.incarnation:
            return
        del self.placed[ended.task]
        pipeline = self.pipelines.get(ended.task.pipeline)
        if pipeline is None or pipeline.version != placement.version:
            return
        if ended.outcome == "failed" and ended.fault is not None:
            pipeline.fail(ended.fault)
        elif ended.outcome == "drained":
            pipeline.ended(ended.task)
        elif ended.outcome == "killed" and self.stopping:
            self.incomplete = True
            log.warning(
                "Task did not drain in time; what it had not committed is done again at the next start",
                task=str(ended.task), drain_timeout_seconds=self.options.drain_timeout,
            )  # fmt: skip

    def follow_ended(self, worker: int, ended: FollowEnded) -> None:
        self.standbys.ended(worker, ended)

    def pipeline_loaded(self, loaded: Loaded) -> None:
        pipeline = self.pipelines.get(loaded.pipeline)
        if loaded.fault is None or pipeline is None or pipeline.version != loaded.version:
            return
        if loaded.fault.kind == "transient":
            pipeline.note(loaded.fault)
        else:
            pipeline.fail(loaded.fault)

    def reported(
        self, reports: Mapping[TaskId, TaskReport], before: Mapping[TaskId, TaskReport], seconds: float
    ) -> None:
        """New reports came, `seconds` after the ones `before`: note the load, and errors."""
        for task, report in reports.items():
            old = before.get(task)
            if old is None or old.incarnation != report.incarnation:
                old = None
            if old is not None and seconds > 0:
                rate = max(0, report.records_in - old.records_in) / seconds
                self._load[task] = 0.8 * self._load.get(task, rate) + 0.2 * rate
            self._note(report, old)

    def _note(self, report: TaskReport, before: TaskReport | None) -> None:
        restarts = report.restarts - (before.restarts if before else 0)
        pipeline = self.pipelines.get(report.task.pipeline)
        if pipeline is None:
            return
        if report.records_in:
            pipeline.progressed(report.task, report.last_progress)
        if restarts > 0 and report.fault is not None:
            pipeline.task_restarts += restarts
            pipeline.note(report.fault)
            labels = {"pipeline": pipeline.name, "error": report.fault.error}
            self._own_metrics.counter(catalog.TASK_RESTARTS, **labels).add(restarts)

    def worker_gone(self, worker: int) -> None:
        """Its tasks are no longer placed anywhere: the next step assigns them to the process that takes its place."""
        self.standbys.worker_gone(worker)
        for task, placement in tuple(self.placed.items()):
            if placement.worker == worker:
                del self.placed[task]

    def seen(self, answer: Seen) -> None:
        self.views.seen(answer)

    def schema_changed(self, change: SchemaChange) -> None:
        pipeline = self.pipelines.get(change.pipeline)
        if pipeline is not None:
            pipeline.schema_changed(change)

    def metrics_came(self, source: str, snapshot: Snapshot | None) -> None:
        if snapshot is None:
            self.metrics.forget(source)
        else:
            self.metrics.update(source, snapshot)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))

"""All tasks of one pipeline in the current loop, without processes: what the Python API runs on.

The same tasks under the same owner as in a worker, prepared by the same code as in the daemon. A blocked loop blocks
all of them, and nobody kills it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from streamd.clock import SYSTEM_CLOCK
from streamd.component.context import PipelineContext
from streamd.observability.metrics import MetricSet
from streamd.plan.graph import PipelinePlan
from streamd.record import TaskId
from streamd.runtime.assembly import Assembly
from streamd.runtime.backoff import fault_of
from streamd.runtime.control import Assign, Fault, Member, TaskEnded, TaskReport
from streamd.runtime.environment import refuse_untested
from streamd.runtime.host import clients_closed, membership_of, rival_of
from streamd.runtime.task import Task
from streamd.runtime.tasks import TaskOwner
from streamd.supervisor.idle import quiet_tasks
from streamd.supervisor.membership import GroupFactory, group_of
from streamd.supervisor.options import Options
from streamd.supervisor.pipelines import ManagedPipeline

TICK = 0.05


@dataclass(frozen=True, slots=True)
class InlineResult:
    """How it ended: `fault` is why the pipeline failed, None when it did not; `error` is the exception behind it, where
    that is one that nobody thought of.
    """

    fault: Fault | None
    seconds: float
    error: BaseException | None = None


async def run_inline(
    plan: PipelinePlan,
    context: PipelineContext,
    metrics: MetricSet,
    *,
    until_idle: bool = False,
    options: Options | None = None,
    stop: asyncio.Event | None = None,
    group: GroupFactory = group_of,
    on_progress: Callable[[list[TaskReport]], None] | None = None,
) -> InlineResult:
    """Run every task of the plan until all inputs have ended, with `until_idle` until all are read for now.

    `stop`, once set, drains the tasks: everything read is committed. A cancel ends them at once, nothing open is
    committed, and CancelledError is raised. Errors that may pass are tried again; any other ends the pipeline, and is
    in the result. `on_progress` gets the tasks' reports some 20 times a second. Raises ConfigError under a Python or
    with a Kafka client that it is not to run with.
    """
    refuse_untested()
    inline = _Inline(plan, context, metrics, until_idle, options or Options(), group)
    began = context.clock.monotonic()
    await inline.run(stop or asyncio.Event(), on_progress)
    return InlineResult(inline.pipeline.failure, context.clock.monotonic() - began, inline.pipeline.unexpected)


class _QuietPipeline(ManagedPipeline):
    """Logs nothing of what its caller is told anyway."""

    unexpected: BaseException | None = None
    keeps_standbys = False

    def say_failed(self, fault: Fault) -> None:
        pass

    def say_unexpected(self, error: BaseException) -> None:
        self.unexpected = error


class _Inline:
    def __init__(
        self,
        plan: PipelinePlan,
        context: PipelineContext,
        metrics: MetricSet,
        until_idle: bool,
        options: Options,
        group: GroupFactory,
    ) -> None:
        self._changed = asyncio.Event()
        self.pipeline = _QuietPipeline(plan, 1, context, self._changed.set, options.restart, group)
        self.pipeline.warm.set()
        self._assembly = Assembly(plan, context)
        self._metrics = metrics
        self._until_idle = until_idle
        self._options = options
        # {task: the rebalance that brought it}
        self._placed: dict[TaskId, int] = {}
        self._member: Member | None = None
        self._incarnation = 0
        self._idle_since: tuple[float, dict[TaskId, tuple[int, int]]] | None = None

    async def run(self, stop: asyncio.Event, on_progress: Callable[[list[TaskReport]], None] | None) -> None:
        owner = TaskOwner(
            self._make,
            self._ended,
            policy=self._options.restart,
            membership=membership_of,
            on_unexpected=lambda error, _: self.pipeline.say_unexpected(error),
            rivals=lambda assign: rival_of(assign.task, self._assembly),
        )
        async with asyncio.TaskGroup() as group:
            preparing = group.create_task(self.pipeline.run())
            try:
                async with owner:
                    await self._go_round(owner, stop, on_progress)
            finally:
                self.pipeline.release()
                await self._assembly.close()
            await preparing
        await clients_closed()

    async def _go_round(
        self, owner: TaskOwner, stop: asyncio.Event, on_progress: Callable[[list[TaskReport]], None] | None
    ) -> None:
        opened = over = False
        while True:
            self._changed.clear()
            over = over or stop.is_set() or self.pipeline.failure is not None or self._done(owner)
            if self.pipeline.ready and not opened:
                opened = await self._open()
            self._step(owner, over)
            if on_progress is not None:
                on_progress(owner.reports())
            if over and not self._placed:
                return
            try:
                async with asyncio.timeout(TICK):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _open(self) -> bool:
        """Put the pipeline together; what does not work fails it, as in a worker. False: to be tried again."""
        try:
            await self._assembly.open()
        except Exception as error:
            if (fault := fault_of(error)).kind == "transient":
                self.pipeline.note(fault)
                return False
            if fault.kind == "unexpected":
                self.pipeline.say_unexpected(error)
            self.pipeline.fail(fault)
        return True

    def _step(self, owner: TaskOwner, over: bool) -> None:
        """Desired against actual, in the small."""
        pipeline = self.pipeline
        desired = frozenset() if over else pipeline.desired
        if pipeline.partitions is not None:
            self._assembly.partitions.update(pipeline.partitions)
        strays = {task for task, since in self._placed.items() if pipeline.since.get(task, since) != since}
        if pipeline.member is not None and pipeline.member != self._member:
            self._member = pipeline.member
            if pipeline.plan.config.delivery == "at_least_once":
                # As in the daemon: under the new generation they could set the positions of their new owner back.
                for task in strays | (self._placed.keys() - pipeline.owned):
                    owner.revoke(task, 0.0)
            owner.generation(pipeline.name, pipeline.member)
        for task in strays | (self._placed.keys() - desired):
            owner.revoke(task, self._options.drain_timeout)
        for task in sorted(desired - self._placed.keys()):
            self._incarnation += 1
            self._placed[task] = pipeline.since.get(task, 0)
            owner.assign(Assign(task, self._incarnation, pipeline.version, pipeline.member))

    def _done(self, owner: TaskOwner) -> bool:
        """Whether everything is read: to its end, or with `until_idle` to its present end, seen twice."""
        if self.pipeline.drained:
            return True
        if not self._until_idle or not self.pipeline.ready:
            return False
        reports = {report.task: report for report in owner.reports()}
        quiet = quiet_tasks(reports.get, self.pipeline.desired)
        now = self.pipeline.clock.monotonic()
        if quiet is None or self._idle_since is None or self._idle_since[1] != quiet:
            self._idle_since = None if quiet is None else (now, quiet)
            return False
        return now - self._idle_since[0] >= self._options.idle_confirmation

    def _make(self, assign: Assign, member: Member | None) -> Task:
        part = self._assembly.plan.parts[assign.task.part]
        tasks = max(self._assembly.partitions[source.id] for source in part.sources)
        membership = membership_of(member) if member is not None else None
        return Task(assign.task, self._assembly, tasks, self._metrics, membership, SYSTEM_CLOCK)

    def _ended(self, ended: TaskEnded) -> None:
        self._placed.pop(ended.task, None)
        if ended.outcome == "failed" and ended.fault is not None:
            self.pipeline.fail(ended.fault)
        elif ended.outcome == "drained":
            self.pipeline.ended(ended.task)
        self._changed.set()

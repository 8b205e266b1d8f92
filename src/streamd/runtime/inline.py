"""A pipeline run in the current event loop, without processes: the same tasks under the same rules."""

from __future__ import annotations

import asyncio

from streamd.clock import SYSTEM_CLOCK, Clock
from streamd.component.context import PipelineContext
from streamd.errors import FatalError
from streamd.observability.metrics import MetricSet
from streamd.plan.graph import PipelinePlan
from streamd.record import TaskId
from streamd.runtime.assembly import Assembly
from streamd.runtime.backoff import RestartPolicy
from streamd.runtime.control import Assign, Member, TaskEnded
from streamd.runtime.task import Task
from streamd.runtime.tasks import TaskOwner

LOOK_INTERVAL = 0.02
# A pipeline counts as idle when it was so at this many looks in a row: one task's commit is another one's input.
IDLE_LOOKS = 5
DRAIN_TIMEOUT = 30.0


async def run_inline(
    plan: PipelinePlan,
    context: PipelineContext,
    metrics: MetricSet,
    *,
    until_idle: bool = False,
    policy: RestartPolicy | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> None:
    """Run all tasks of a plan until every source has ended; with `until_idle`, until all is read and committed.

    A cancel drains: what was read is committed before it is passed on. Raises FatalError with the first task's reason
    when one fails for good, after the others have drained.
    """
    assembly = Assembly(plan, context)
    await assembly.open()
    ended: list[TaskEnded] = []
    try:
        for sink in assembly.sinks.values():
            await sink.prepare()
        for name, source in assembly.sources.items():
            await source.prepare()
            assembly.partitions[name] = await source.partitions()
        assigns = [
            Assign(TaskId(context.app, plan.name, part.index, partition), 1, 1)
            for part in plan.parts
            for partition in range(max(assembly.partitions[source.id] for source in part.sources))
        ]

        def make(assign: Assign, member: Member | None) -> Task:
            part = plan.parts[assign.task.part]
            tasks = max(assembly.partitions[source.id] for source in part.sources)
            return Task(assign.task, assembly, tasks, metrics, None, clock)

        async with TaskOwner(make, ended.append, policy=policy, clock=clock) as owner:
            for assign in assigns:
                owner.assign(assign)
            await _until_over(owner, ended, until_idle=until_idle)
    finally:
        await assembly.close()
    failed = next((end.fault for end in ended if end.outcome == "failed" and end.fault is not None), None)
    if failed is not None:
        raise FatalError(failed.message)


async def _until_over(owner: TaskOwner, ended: list[TaskEnded], *, until_idle: bool) -> None:
    idle_looks = 0
    try:
        while owner.tasks and not any(end.outcome == "failed" for end in ended):
            await asyncio.sleep(LOOK_INTERVAL)
            idle = until_idle and all(report.idle for report in owner.reports())
            idle_looks = idle_looks + 1 if idle else 0
            if idle_looks >= IDLE_LOOKS:
                break
    finally:
        await asyncio.shield(_drain(owner))


async def _drain(owner: TaskOwner) -> None:
    owner.stop(DRAIN_TIMEOUT)
    while owner.tasks:  # noqa: ASYNC110 - tasks end in many ways, and this is no hot path
        await asyncio.sleep(LOOK_INTERVAL)

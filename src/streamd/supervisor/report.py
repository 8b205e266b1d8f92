"""What the supervisor knows, as the frozen values that health, the HTTP API and the CLI read."""

from __future__ import annotations

from typing import Protocol, cast

from streamd.clock import Clock
from streamd.observability.status import (
    ErrorStatus,
    GraphNode,
    NodeStatus,
    PipelineState,
    PipelineStatus,
    SchemaChangeStatus,
    StandbyStatus,
    TaskState,
    TaskStatus,
    WorkerStatus,
)  # fmt: skip
from streamd.plan.graph import PipelinePlan
from streamd.record import TaskId
from streamd.runtime.control import TaskReport
from streamd.supervisor.options import Options
from streamd.supervisor.pipelines import ManagedPipeline
from streamd.supervisor.reconcile import Placement
from streamd.supervisor.standbys import Standbys
from streamd.supervisor.workers import WorkerPool


class Node(Protocol):
    """What is reported on: a Supervisor."""

    app: str
    options: Options
    clock: Clock
    pipelines: dict[str, ManagedPipeline]
    placed: dict[TaskId, Placement]
    pool: WorkerPool
    standbys: Standbys
    last_reconcile: float
    started_at: int
    stopping: bool

    def report(self, task: TaskId) -> TaskReport | None: ...


def node_status(node: Node) -> NodeStatus:
    """The whole node, now."""
    tasks_of = [placement.worker for placement in node.placed.values()]
    workers = tuple(
        WorkerStatus(
            worker=worker,
            state=node.pool.state(worker),
            pid=place.process.child.pid if place.process else None,
            tasks=tasks_of.count(worker),
            restarts=place.crashes.total,
            last_report=(place.process.heard_at or 0.0) if place.process else 0.0,
            started_at=place.process.started_at if place.process else None,
        )
        for worker, place in node.pool.places()
    )
    return NodeStatus(
        app=node.app,
        monotonic=node.clock.monotonic(),
        stall_timeout=node.options.stall_timeout,
        pipelines=tuple(_pipeline(node, pipeline) for pipeline in node.pipelines.values()),
        workers=workers,
        last_reconcile=node.last_reconcile,
        started_at=node.started_at,
        stopping=node.stopping,
    )


def _pipeline(node: Node, pipeline: ManagedPipeline) -> PipelineStatus:
    tasks = tuple(_task(node, pipeline, task) for task in sorted(pipeline.owned))
    config = pipeline.plan.config
    return PipelineStatus(
        name=pipeline.name,
        state=_state(node, pipeline, tasks),
        file=None if config.file is None else str(config.file),
        description=config.description,
        delivery=config.delivery,
        graph=graph_of(pipeline.plan),
        tables=tuple(table.id for table in config.tables),
        tasks=tasks,
        joined=pipeline.joined,
        unreachable=tuple(pipeline.unreachable.values()),
        restarts=pipeline.task_restarts,
        error=pipeline.error,
        schema_changes=tuple(
            SchemaChangeStatus(c.source, c.kind, c.path, c.was, c.now, c.at) for c in pipeline.schema_changes.values()
        ),
        standbys=tuple(_standby(node, task) for task in sorted(node.standbys.placed) if task.pipeline == pipeline.name),
    )


def _standby(node: Node, task: TaskId) -> StandbyStatus:
    worker, report = node.standbys.placed[task].worker, node.standbys.report(task)
    if report is None:
        return StandbyStatus(task.part, task.partition, "copying", worker)
    error = None if report.fault is None else report.fault.message
    return StandbyStatus(task.part, task.partition, report.state, worker, report.lag, error)


def _state(node: Node, pipeline: ManagedPipeline, tasks: tuple[TaskStatus, ...]) -> PipelineState:
    placed = any(t.pipeline == pipeline.name for t in node.placed)
    if pipeline.failure is not None:
        return "draining" if placed else "failed"
    if node.stopping:
        return "draining" if placed else "drained" if pipeline.drained else "stopped"
    if pipeline.drained:
        return "drained"
    if pipeline.unreachable or any(task.state == "backing_off" for task in tasks):
        return "backing_off"
    if pipeline.ready and all(task.state in ("running", "drained") for task in tasks):
        return "running"
    return "starting"


def _task(node: Node, pipeline: ManagedPipeline, task: TaskId) -> TaskStatus:
    placement = node.placed.get(task)
    report = node.report(task)
    if task in pipeline.over:
        state: TaskState = "drained"
    elif pipeline.failure is not None and placement is None:
        state = "failed"
    elif node.stopping and placement is None:
        state = "stopped"
    else:
        state = cast("TaskState", report.state) if report else "starting"
    if report is None:
        return TaskStatus(
            task.pipeline, task.part, task.partition, state, placement.worker if placement else None,
            idle=state == "drained", last_progress=pipeline.progress_of(task),
        )  # fmt: skip
    fault = report.fault
    return TaskStatus(
        task.pipeline,
        task.part,
        task.partition,
        state,
        placement.worker if placement else None,
        report.idle,
        report.lag,
        report.records_in,
        report.positions,
        max(pipeline.progress_of(task), report.last_progress),
        report.restarts,
        None if fault is None else ErrorStatus(fault.error, fault.message, report.fault_at),
    )


def graph_of(plan: PipelinePlan) -> tuple[GraphNode, ...]:
    """The pipeline's components and what each reads."""
    config = plan.config
    ordinary = (*config.sources, *config.tables, *config.stages, *config.sinks)
    return (
        *(GraphNode(c.id, c.kind, c.name, (*c.inputs, *c.spec.tables(c.settings))) for c in ordinary),
        *(GraphNode(c.id, "dead_letter", c.name, c.inputs) for c in config.dead_letters),
    )

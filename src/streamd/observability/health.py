"""Live and ready, as values with reasons, from a status value. Pure.

Live: does what runs get on with its work? Not live means that only a new process can help, so an orchestrator may kill
this one. A broker that is away is no such reason.
Ready: does everything that should run, run, and is everything that it needs within reach?
"""

from __future__ import annotations

from dataclasses import dataclass

from streamd.observability.status import NodeStatus, PipelineStatus, TaskStatus

# The supervisor kills and replaces a worker after one stall timeout. Only when that did not help is the node not live.
STALL_TIMEOUTS = 3.0
MAX_REASONS = 50
# States whose names alone would say too little.
_STATES = {"loading": "loading the tables that it looks rows up in"}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why not. `code` is for programs and does not change; `message` is for people."""

    code: str
    message: str
    pipeline: str | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """`ok` exactly when there is no reason. At most 50 reasons are kept, `more` says how many were left out."""

    ok: bool
    reasons: tuple[Reason, ...] = ()
    more: int = 0


def live(status: NodeStatus) -> Health:
    """Whether the control loop goes round and every running task with lag makes progress."""
    patience = status.stall_timeout * STALL_TIMEOUTS
    reasons: list[Reason] = []
    silent = status.monotonic - status.last_reconcile
    if silent > patience:
        reasons.append(Reason("supervisor_stalled", f"the control loop last went round {silent:.0f} s ago"))
    for pipeline in status.pipelines:
        for task in pipeline.tasks:
            quiet = status.monotonic - task.last_progress
            if _should_progress(task) and quiet > patience:
                message = f"task {_name(task)} has a lag of {task.lag} and made no progress for {quiet:.0f} s"
                reasons.append(Reason("task_stalled", message, pipeline.name))
    return _health(reasons)


def ready(status: NodeStatus) -> Health:
    """Whether all pipelines have their place in their groups, run all their tasks, and reach sources and sinks."""
    if status.stopping:
        return _health([Reason("stopping", "the node is shutting down")])
    reasons: list[Reason] = []
    for pipeline in status.pipelines:
        reasons.extend(_pipeline_reasons(pipeline))
    return _health(reasons)


def _pipeline_reasons(pipeline: PipelineStatus) -> list[Reason]:
    if pipeline.state in {"drained", "stopped"}:
        return []
    if pipeline.state == "failed":
        because = f": {pipeline.error.error}: {pipeline.error.message}" if pipeline.error else ""
        return [Reason("pipeline_failed", f"pipeline {pipeline.name} has failed{because}", pipeline.name)]
    reasons = [Reason("unreachable", message, pipeline.name) for message in pipeline.unreachable]
    if not pipeline.joined:
        reasons.append(Reason("not_joined", f"pipeline {pipeline.name} has no place in its group yet", pipeline.name))
    waiting = [task for task in pipeline.tasks if task.state not in {"running", "drained", "stopped"}]
    for task in waiting:
        because = f" after {task.error.error}: {task.error.message}" if task.error else ""
        state = _STATES.get(task.state) or task.state.replace("_", " ")
        reasons.append(Reason(f"task_{task.state}", f"task {_name(task)} is {state}{because}", pipeline.name))
    if pipeline.state != "running" and not reasons:
        state = pipeline.state.replace("_", " ")
        reasons.append(Reason(f"pipeline_{pipeline.state}", f"pipeline {pipeline.name} is {state}", pipeline.name))
    return reasons


def _should_progress(task: TaskStatus) -> bool:
    """Tasks that back off wait for someone else; those without (known) lag have nothing to do."""
    return task.state in {"starting", "running", "draining"} and bool(task.lag)


def _name(task: TaskStatus) -> str:
    return f"{task.pipeline}.{task.part}.{task.partition}"


def _health(reasons: list[Reason]) -> Health:
    return Health(not reasons, tuple(reasons[:MAX_REASONS]), max(len(reasons) - MAX_REASONS, 0))

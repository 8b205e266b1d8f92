"""What a node says of itself: frozen values, made by the supervisor, read by health, the HTTP API and the CLI.

All times named `…_at` are milliseconds since the epoch; `monotonic` and `last_progress` are seconds of the machine's
monotonic clock, which all processes of a node share. Counts and rates are not here: they come from the metrics.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

TaskState = Literal[
    "starting", "loading", "restoring", "running", "backing_off", "draining", "drained", "stopped", "failed"
]
"""`loading`: reads the tables that it looks rows up in. `drained`: a bounded input was read to its end and committed.
`backing_off`: waits after a TransientError."""

StandbyState = Literal["copying", "following", "backing_off"]

PipelineState = Literal["starting", "running", "backing_off", "draining", "drained", "stopped", "failed"]
"""`starting`: checks its components, joins its group, waits for its tasks. `failed`: stopped for good, see `error`."""

WorkerState = Literal["starting", "running", "backing_off", "stopping", "stopped"]
"""`backing_off`: the process ended and its replacement is not started yet."""

ComponentKind = Literal["source", "stage", "sink", "dead_letter"]


@dataclass(frozen=True, slots=True)
class ErrorStatus:
    """An error as it may be shown: class, sanitised message (no record contents, no secrets), time."""

    error: str
    message: str
    occurred_at: int


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """One task of a pipeline, as this node runs it.

    `lag`: records (bytes, for files) that are there and not yet read, None when unknowable. `idle`: everything read is
    committed and lag is 0. `positions`: source id → position. `last_progress`: when it last read or committed
    anything, or was assigned to this node; a restart alone does not count, so that a task that only ever restarts
    shows as stalled.
    """

    pipeline: str
    part: int
    partition: int
    state: TaskState
    worker: int | None = None
    idle: bool = False
    lag: int | None = None
    records_in: int = 0
    positions: dict[str, Any] = field(default_factory=dict)
    last_progress: float = 0.0
    restarts: int = 0
    error: ErrorStatus | None = None


@dataclass(frozen=True, slots=True)
class StandbyStatus:
    """A copy that this node keeps of the state of a task that another node runs.

    `lag`: records of its changelogs that are committed and not in the copy yet, None before that is known.
    """

    part: int
    partition: int
    state: StandbyState
    worker: int
    lag: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class GraphNode:
    """One component of a pipeline. `inputs`: ids of the nodes it reads, "stage.output" for a named output."""

    id: str
    kind: ComponentKind
    component: str
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SchemaChangeStatus:
    """A change of what a source gives: `was` and `now` are types of the field at a path, empty where there is none."""

    source: str
    kind: Literal["appeared", "vanished", "type_changed"]
    path: str
    was: str
    now: str
    first_seen_at: int


@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """One pipeline on this node.

    `tables`: sources that are read whole for lookups. `tasks`: those assigned to this node, none on a stand-by node.
    `joined`: it has its place in its group (always true where there is no group). `unreachable`: one sentence for
    each source or sink that cannot be reached now. `error`: the last one, also after it passed; `restarts`: of its
    tasks, since the node started. `standbys`: copies of the state of tasks that other nodes run.
    """

    name: str
    state: PipelineState
    file: str | None = None
    description: str = ""
    delivery: str = "exactly_once"
    graph: tuple[GraphNode, ...] = ()
    tables: tuple[str, ...] = ()
    tasks: tuple[TaskStatus, ...] = ()
    joined: bool = True
    unreachable: tuple[str, ...] = ()
    restarts: int = 0
    error: ErrorStatus | None = None
    standbys: tuple[StandbyStatus, ...] = ()
    schema_changes: tuple[SchemaChangeStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker process. `last_report`: when its control channel last said anything, monotonic seconds."""

    worker: int
    state: WorkerState
    pid: int | None = None
    tasks: int = 0
    restarts: int = 0
    last_report: float = 0.0
    started_at: int | None = None


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """Everything that runs on this node, at one moment.

    `monotonic`: that moment. `last_reconcile`: when the supervisor's control loop last went round. `stall_timeout`:
    seconds without progress, with lag, after which a worker is killed. `stopping`: SIGTERM came, tasks drain.
    """

    app: str
    monotonic: float
    stall_timeout: float
    pipelines: tuple[PipelineStatus, ...] = ()
    workers: tuple[WorkerStatus, ...] = ()
    last_reconcile: float = 0.0
    started_at: int = 0
    stopping: bool = False

    def pipeline(self, name: str) -> PipelineStatus | None:
        """The pipeline of that name, or None."""
        return next((pipeline for pipeline in self.pipelines if pipeline.name == name), None)

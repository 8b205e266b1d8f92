"""Where the state of a task lies: what of it is in memory, and what is on the local disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from streamd.clock import Clock
from streamd.component.context import PipelineContext
from streamd.record import TaskId
from streamd.runtime.assembly import Assembly
from streamd.state.cold import ColdTier
from streamd.state.snapshot import Snapshot
from streamd.state.spill import Spill
from streamd.state.task_stores import TaskStores


def stores_of(task: TaskId, assembly: Assembly, tasks: int, running: Callable[[], int], clock: Clock) -> TaskStores:
    """The stores of a task's stages. `tasks`: how many its part has. `running`: how many share the process's memory."""
    part, config = assembly.plan.parts[task.part], assembly.plan.config
    stateful = {stage.id: stage.spec.state(stage.settings) for stage in part.stages if stage.spec.state}
    spill: Spill | None = None
    snapshot: Snapshot | None = None
    if stateful and (memory := config.state_memory) is not None:
        cold = ColdTier(assembly.context.state_dir / "cold", str(task))
        spill = Spill(cold, lambda: memory // max(1, running()))
    if stateful and config.state_snapshots and part.transport == "kafka":
        # The embedded log is on the local disk itself.
        snapshot = Snapshot(snapshot_folder(assembly.context, task), clock)
    # Embedded checkpoints are exact whatever is asked for.
    exact = config.delivery == "exactly_once" or part.transport == "embedded"
    return TaskStores(task, stateful, tasks, exact=exact, spill=spill, snapshot=snapshot)


def snapshot_folder(context: PipelineContext, task: TaskId) -> Path:
    """Where the local copy of a task's state lies."""
    return context.state_dir / "snapshots" / str(task)

"""A partitioned log, positions and changelog in one SQLite file: exactly once without any server.

`database` opens the file, `records` packs records into batches, `committer` is the one thread of a process that writes,
`log` is the file as the event loop sees it, `reader` reads one partition, `transaction` is a task's checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamd.component.context import PipelineContext
    from streamd.record import TaskId
    from streamd.transport.embedded.transaction import EmbeddedTransaction


def transaction(
    task: TaskId, sources: Any, context: PipelineContext, membership: Any, delivery: str, commit_interval: float
) -> EmbeddedTransaction:
    """A transaction object for one attempt at a task. At least once is the same here: exactly once is free."""
    from streamd.transport.embedded.log import log_path
    from streamd.transport.embedded.transaction import EmbeddedTransaction

    return EmbeddedTransaction(log_path(context.state_dir, context.app), task, context.clock)

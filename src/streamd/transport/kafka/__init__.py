"""Apache Kafka. aiokafka is used here only.

Data plane, over connections of our own: `reader` reads one partition, `transactional` is a task's checkpoint
(`batch_commit` for at least once), `outbox` writes, `positions` and `position_store` keep where a task is, `client`,
`cluster`, `coordinator` and `protocol` speak to the brokers. Control plane: `settings`, `admin`, `membership`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamd.component.context import PipelineContext
    from streamd.record import TaskId
    from streamd.transport.kafka.batch_commit import KafkaBatchCommit
    from streamd.transport.kafka.transactional import KafkaTransaction


def transaction(
    task: TaskId, sources: Any, context: PipelineContext, membership: Any, delivery: str, commit_interval: float
) -> KafkaTransaction | KafkaBatchCommit:
    """A transaction object for one attempt at a task; nothing is sent before its `open`. See `opening.transaction`."""
    from streamd.transport.kafka import opening

    return opening.transaction(task, sources, context, membership, delivery, commit_interval)

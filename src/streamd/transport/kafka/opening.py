"""From a pipeline's settings to the transaction of one of its tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from streamd.component.context import PipelineContext
from streamd.record import TaskId
from streamd.transport.kafka.batch_commit import KafkaBatchCommit
from streamd.transport.kafka.leases import ClientLease
from streamd.transport.kafka.membership import group_name
from streamd.transport.kafka.outbox import OutboxOptions
from streamd.transport.kafka.position_store import Membership
from streamd.transport.kafka.settings import KafkaSettings
from streamd.transport.kafka.topic import cluster_of
from streamd.transport.kafka.transactional import KafkaTransaction, TransactionOptions

SHORTEST_TIMEOUT = 10.0
"""Seconds that a transaction may be open at least: a broker that restarts must not abort it."""
LONGEST_TIMEOUT = 900.0
"""What brokers allow at most, unless told otherwise (`transaction.max.timeout.ms`)."""


def transaction(
    task: TaskId,
    sources: Sequence[Any],
    context: PipelineContext,
    membership: Membership | None,
    delivery: str,
    commit_interval: float,
) -> KafkaTransaction | KafkaBatchCommit:
    """A transaction object for one attempt at a task, in the running event loop.

    `sources`: the `ComponentConfig`s of the task's part. `delivery`: `exactly_once` or `at_least_once`. Raises
    ConfigError when no cluster is named, NotFoundError and FatalError when its TLS files cannot be used.
    """
    settings = cluster_of(context, f"task {task}")
    topics = {(one.id, task.partition): one.settings.topic for one in sources if one.spec.transport == "kafka"}
    named = (one.settings.group for one in sources if one.spec.transport == "kafka" and one.settings.group)
    group = next(named, group_name(task.app, task.pipeline))
    kind = KafkaBatchCommit if delivery == "at_least_once" else KafkaTransaction
    lease = ClientLease(settings, "producer")
    options = transaction_options(settings, commit_interval)
    made = kind(
        lease.client,
        task,
        topics,
        group,
        replace(options, create_topics=context.create_topics),
        clock=context.clock,
        on_closed=lease.give_back,
    )
    made.update_membership(membership)
    return made


def transaction_options(settings: KafkaSettings, commit_interval: float) -> TransactionOptions:
    """What the `options` of a cluster mean for a transaction that is committed every `commit_interval` seconds."""
    timeout_ms = settings.option("producer", "transaction.timeout.ms")
    if timeout_ms is None:
        timeout = min(max(SHORTEST_TIMEOUT, 10 * commit_interval), LONGEST_TIMEOUT)
    else:
        timeout = timeout_ms / 1000
    outbox = OutboxOptions(
        batch_bytes=settings.option("producer", "batch.size"),
        max_record_bytes=settings.option("producer", "max.request.size"),
        compression=settings.option("producer", "compression.type") or "none",
        delivery=timeout,
    )
    return TransactionOptions(outbox=outbox, timeout=timeout)

"""From a pipeline's settings to a task's transaction, as the runtime asks for it."""

from __future__ import annotations

import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest

from integration.kafka.workbench import SOURCE, commit
from streamd.component.context import PipelineContext
from streamd.errors import ConfigError, UnavailableError
from streamd.record import TaskId
from streamd.transport.kafka import leases, opening
from streamd.transport.kafka.batch_commit import KafkaBatchCommit
from streamd.transport.kafka.membership import Membership, group_name
from streamd.transport.kafka.opening import transaction_options
from streamd.transport.kafka.settings import KafkaSettings
from streamd.transport.kafka.transactional import KafkaTransaction

pytestmark = pytest.mark.kafka


def context(settings: KafkaSettings | None) -> PipelineContext:
    return PipelineContext("test", f"p-{uuid.uuid4().hex[:8]}", Path(), Path(), settings)


def source(topic: str) -> SimpleNamespace:
    """What the factory reads of a `ComponentConfig`."""
    settings, spec = SimpleNamespace(topic=topic, group=None), SimpleNamespace(transport="kafka")
    return SimpleNamespace(id=SOURCE[0], name="kafka", settings=settings, spec=spec)


async def test_tasks_of_a_pipeline_share_a_client_which_the_last_one_closes(kafka, make_topic):
    topic = await make_topic(partitions=2)
    where = context(KafkaSettings(bootstrap=(kafka.bootstrap,)))
    tasks = [TaskId("test", where.pipeline, 0, partition) for partition in range(2)]
    made = [opening.transaction(task, [source(topic)], where, None, "exactly_once", 0.2) for task in tasks]
    assert [type(one) for one in made] == [KafkaTransaction] * 2
    assert made[0]._client is made[1]._client
    assert len(leases._ENTRIES) == 1
    for one in made:
        await one.open()
    await commit(made[0], 3)
    await made[0].close()
    await made[1]._client.partition_count(topic)
    made[1].abandon()
    await leases.closed()
    assert not leases._ENTRIES
    again = opening.transaction(tasks[0], [source(topic)], where, None, "at_least_once", 0.2)
    assert isinstance(again, KafkaBatchCommit)
    assert (await again.open()).positions == {SOURCE: 3}
    await again.close()
    await leases.closed()


async def test_positions_are_those_of_the_pipelines_group_or_of_its_membership(kafka, make_topic):
    topic = await make_topic()
    where = context(KafkaSettings(bootstrap=(kafka.bootstrap,)))
    task = TaskId("test", where.pipeline, 0, 0)
    plain = opening.transaction(task, [source(topic)], where, None, "exactly_once", 0.2)
    assert plain._group is not None
    assert plain._group.group == group_name("test", where.pipeline)
    member = Membership("another", "m", 1)
    joined = opening.transaction(task, [source(topic)], where, member, "exactly_once", 0.2)
    assert joined._group is not None
    assert joined._group.group == "another"
    for one in (plain, joined):
        one.abandon()
    await leases.closed()


async def test_a_task_without_a_cluster_is_a_mistake_of_the_configuration():
    where = context(None)
    with pytest.raises(ConfigError, match="bootstrap"):
        opening.transaction(TaskId("test", where.pipeline, 0, 0), [], where, None, "exactly_once", 0.2)


async def test_a_cluster_that_is_not_there_is_unavailable():
    settings = KafkaSettings(bootstrap=("127.0.0.1:1",))
    lease = leases.ClientLease(settings, "producer")
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"):
        await lease.client.start(0.2)
    lease.give_back()
    lease.give_back()
    await leases.closed()


@pytest.mark.parametrize(("interval", "timeout"), [(0.2, 10.0), (5.0, 50.0), (1000.0, 900.0)])
def test_the_timeout_of_a_transaction_follows_the_commit_interval(interval, timeout):
    options = transaction_options(KafkaSettings(bootstrap=("k:1",)), interval)
    assert (options.timeout, options.outbox.delivery) == (timeout, timeout)


def test_what_a_user_sets_is_used():
    settings = KafkaSettings.model_validate(
        {
            "bootstrap": "k:1",
            "options": {
                "transaction.timeout.ms": 30_000,
                "batch.size": 4096,
                "max.request.size": 8192,
                "compression.type": "zstd",
            },
        }
    )
    options = transaction_options(settings, 0.2)
    assert options.timeout == 30.0
    assert (options.outbox.batch_bytes, options.outbox.max_record_bytes) == (4096, 8192)
    assert options.outbox.compression == "zstd"

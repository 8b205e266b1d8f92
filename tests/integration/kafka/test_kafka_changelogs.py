"""A task's state on a real broker: restored as it was committed, refused where it does not belong to the positions."""

from __future__ import annotations

import contextlib
import time

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from integration.kafka.workbench import SOURCE
from services.kafka import read_topic
from streamd.errors import FatalError, NotFoundError
from streamd.state.snapshot import Snapshot
from streamd.state.task_stores import META_KEY, TaskStores
from streamd.transport.kafka.changelogs import changelog_topic

pytestmark = pytest.mark.kafka


@pytest.fixture
async def topic(kafka, bench):
    """The changelog's topic; deleted in the end."""
    name = changelog_topic(bench.task, "s")
    yield name
    await delete(kafka, name)


async def delete(kafka, name):
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    with contextlib.suppress(Exception):
        await admin.delete_topics([name])
    await admin.close()


@pytest.fixture
async def source(make_topic):
    return await make_topic()


@pytest.fixture
def attempt(bench, source):
    """`await attempt()`: (transaction, stores, records restored) of a new attempt at the task."""

    async def begin(make=None, *, tasks=1, exact=True, **options):
        transaction = (make or bench.transaction)(source, **options)
        committed = await transaction.open()
        stores = TaskStores(bench.task, {"s": {}}, tasks, exact=exact)
        stores.table = stores.stores["s"].table("t")
        restored = []
        await stores.restore(transaction, committed, restored.append)
        return transaction, stores, sum(restored)

    return begin


async def commit(transaction, stores, position, *, end=True, **values):
    stores.table |= values
    stores.table.dirty |= values.keys()
    transaction.begin()
    cursors = stores.write(transaction, {SOURCE: position})
    await transaction.flush()
    await transaction.put_positions({SOURCE: position}, cursors)
    if end:
        await transaction.commit()
        stores.committed()


async def test_what_is_committed_is_restored(kafka, topic, attempt):
    transaction, stores, _ = await attempt()
    for n in range(5):
        await commit(transaction, stores, n, a=n, b=-n)
    _, stores, restored = await attempt()
    assert stores.table == {"a": 4, "b": -4}
    assert restored == 15, "each checkpoint has written two keys and its own record"
    [description] = [r for r in await read_topic(kafka.bootstrap, topic) if r.key == META_KEY][-1:]
    assert b'"checkpoint":5' in description.value


async def test_what_was_under_way_is_aborted_and_not_restored(attempt, topic):
    transaction, stores, _ = await attempt()
    await commit(transaction, stores, 1, a=1)
    await commit(transaction, stores, 2, end=False, a=2, c=3)
    _, stores, _ = await attempt()
    assert stores.table == {"a": 1}


async def test_a_key_that_is_gone_stays_gone(attempt, topic):
    transaction, stores, _ = await attempt()
    await commit(transaction, stores, 1, a=1, b=2)
    stores.table.remove("a")
    await commit(transaction, stores, 2)
    _, stores, _ = await attempt()
    assert stores.table == {"b": 2}


async def test_more_than_one_read_is_restored_whole(attempt, topic):
    transaction, stores, _ = await attempt()
    many = {f"key-{n}": n for n in range(25_000)}
    await commit(transaction, stores, 1, **many)
    _, stores, restored = await attempt()
    assert stores.table == many
    assert restored == len(many) + 1


async def test_the_topic_is_made_compacted_with_a_partition_for_each_task(kafka, attempt, topic):
    await attempt(tasks=3)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        [description] = await admin.describe_topics([topic])
        assert len(description["partitions"]) == 3
        await attempt(tasks=5)
        [description] = await admin.describe_topics([topic])
        assert len(description["partitions"]) == 5, "it grows with the tasks"
    finally:
        await admin.close()


async def test_topics_that_may_not_be_made_are_asked_for(attempt, topic):
    with pytest.raises(NotFoundError) as caught:
        await attempt(tasks=4, create_topics=False)
    assert str(caught.value) == (
        f"the changelog {topic} does not exist, and streamd may not make it (`create_topics: false`): make it with 4 "
        "partitions and cleanup.policy=compact"
    )
    await attempt()
    with pytest.raises(FatalError, match="has 1 partitions, and 2 tasks need one each"):
        await attempt(tasks=2, create_topics=False)


async def test_a_changelog_whose_beginning_was_deleted_is_refused(kafka, attempt, topic):
    """The newest checkpoint is there, and keys that were written before are not."""
    transaction, stores, _ = await attempt()
    await commit(transaction, stores, 1, a=1)
    await commit(transaction, stores, 2, b=2)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        # As a broker has it that was told to forget by age or size, too.
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"cleanup.policy": "compact,delete"})
        await admin.alter_configs([resource])
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=3)})
    finally:
        await admin.close()
    with pytest.raises(FatalError, match=r"\[0\] begins at offset 3: records were deleted from it"):
        await attempt()


async def test_a_deleted_changelog_is_refused(kafka, attempt, topic):
    transaction, stores, _ = await attempt()
    await commit(transaction, stores, 1, a=1)
    transaction.abandon()
    await delete(kafka, topic)
    with pytest.raises(FatalError, match="belong to checkpoint 1: it was deleted or truncated"):
        await attempt()


async def test_at_least_once_state_ahead_of_the_positions_is_gone_on_with(bench, attempt, topic):
    transaction, stores, _ = await attempt(bench.batch_commit, exact=False)
    await commit(transaction, stores, 1, a=1)
    await commit(transaction, stores, 2, end=False, a=2)
    transaction.abandon()
    _, stores, _ = await attempt(bench.batch_commit, exact=False)
    assert stores.table == {"a": 2}


async def test_a_snapshot_makes_a_restart_read_the_tail_alone(bench, source, topic, tmp_path):
    async def begin(*, whole):
        transaction = bench.transaction(source)
        committed = await transaction.open()
        stores = TaskStores(bench.task, {"s": {}}, 1, exact=True, snapshot=Snapshot(tmp_path / "snapshot"))
        stores.table = stores.stores["s"].table("t")
        if not whole:
            del transaction.restore  # what restores everything
        restored = []
        await stores.restore(transaction, committed, restored.append)
        return transaction, stores, restored

    transaction, stores, _ = await begin(whole=True)
    now_ms = time.time_ns() // 1_000_000
    for n in range(12):
        await commit(transaction, stores, n, **{f"k{m}": n for m in range(50)})
        await stores.keep(transaction, now_ms - 120_000 + n * 10_000)
    expected = dict(stores.table)
    stores.close()
    transaction.abandon()
    for n in range(2):
        transaction, stores, restored = await begin(whole=False)
        assert stores.table == expected
        assert sum(restored) < 50 + 3 * 51
        await commit(transaction, stores, 20 + n, extra=n)
        expected["extra"] = n
        stores.close()
        transaction.abandon()


async def test_a_value_that_no_topic_takes_is_named_by_its_stage(attempt, topic):
    transaction, stores, _ = await attempt()
    with pytest.raises(FatalError, match=r"Stage 's' keeps more for one key than .*changelog takes"):
        await commit(transaction, stores, 1, a="x" * 2_000_000)

"""The log sink appends to the task's own transaction, each record to the partition that Kafka would choose."""

from __future__ import annotations

import pytest

from streamd.component.context import PipelineContext, TaskContext
from streamd.errors import FatalError, LoadError, NotFoundError
from streamd.record import TaskId
from streamd.sinks.log import LogSink, LogSinkConfig
from streamd.sources.log import LogSource, LogSourceConfig
from streamd.transport.embedded.records import MAX_RECORD_BYTES
from streamd.transport.embedded.topic import opened
from streamd.transport.embedded.transaction import EmbeddedTransaction
from streamd.transport.partitioner import STICKY_RECORDS, murmur2

TASK = TaskId("app", "orders", 0, 1)


@pytest.fixture
def context(tmp_path):
    return PipelineContext("app", "orders", tmp_path, tmp_path)


@pytest.fixture
async def transaction(tmp_path):
    transaction = EmbeddedTransaction(tmp_path / "app.db", TASK)
    await transaction.open()
    yield transaction
    await transaction.close()


async def writer_of(context, transaction, transport="embedded", **settings):
    sink = LogSink(LogSinkConfig(topic="out", **settings), context)
    await sink.prepare()
    return await sink.open(TaskContext(context, TASK, 2, transaction, transport), None)


async def records(context, partition=0):
    async with opened(context):
        reader = await LogSource(LogSourceConfig(topic="out"), context).open(partition, None)
        found = []
        while batch := await reader.read(1000, 0):
            found += batch
        await reader.close()
    return found


async def test_records_are_there_after_the_commit_and_not_before(context, transaction):
    writer = await writer_of(context, transaction)
    assert writer.write([(b"k", b"v", 5, (("h", b"1"),))]) == []
    assert await writer.flush() is None
    assert await records(context) == []
    await transaction.commit()
    assert [(r.key, r.value, r.timestamp, r.headers) for r in await records(context)] == [
        (b"k", b"v", 5, (("h", b"1"),))
    ]


async def test_keys_decide_the_partition_and_order_is_kept(context, transaction):
    writer = await writer_of(context, transaction, partitions=3)
    rows = [(b"user-%d" % (n % 50), b"%d" % n, 0, ()) for n in range(1000)]
    writer.write(rows[:300])
    writer.write(rows[300:])
    await transaction.commit()
    for partition in range(3):
        expected = [(key, value) for key, value, *_ in rows if (murmur2(key) & 0x7FFFFFFF) % 3 == partition]
        assert [(r.key, r.value) for r in await records(context, partition)] == expected


async def test_records_without_key_begin_at_the_tasks_own_partition(context, transaction):
    writer = await writer_of(context, transaction, partitions=3)
    writer.write([(None, b"x", 0, ())] * (STICKY_RECORDS + 7))
    await transaction.commit()
    assert [len(await records(context, partition)) for partition in range(3)] == [0, STICKY_RECORDS, 7]


async def test_records_that_are_too_large_are_refused_by_their_index(context, transaction):
    writer = await writer_of(context, transaction, partitions=2)
    large = b"x" * (MAX_RECORD_BYTES + 1)
    refused = writer.write([(b"a", b"1", 0, ()), (b"b", large, 0, ()), (b"c", b"2", 0, ()), (b"d", large, 0, ())])
    assert [(index, type(error)) for index, error in refused] == [(1, LoadError), (3, LoadError)]


async def test_retention_is_that_of_the_settings(context, transaction):
    writer = await writer_of(context, transaction, retention={"records": 5})
    for _ in range(4):
        writer.write([(None, b"x", 0, ())] * 3)
        await transaction.commit()
    async with opened(context) as log:
        await log.trim()
        assert [(s.start, s.end) for s in await log.streams("out")] == [(6, 12)]


async def test_a_missing_topic_that_may_not_be_made_is_not_found(tmp_path):
    context = PipelineContext("app", "orders", tmp_path, tmp_path, create_topics=False)
    with pytest.raises(NotFoundError, match="has no topic 'out', and create_topics is off; it has none"):
        await LogSink(LogSinkConfig(topic="out"), context).prepare()


async def test_another_number_of_partitions_is_refused(context, transaction):
    await writer_of(context, transaction, partitions=2)
    with pytest.raises(FatalError, match="has 2 partitions, the settings say 3"):
        await writer_of(context, transaction, partitions=3)


async def test_beside_another_transports_checkpoint_it_commits_by_itself(context):
    writer = await writer_of(context, object(), transport="kafka")
    writer.write([(None, b"x", 0, ())])
    assert writer.backlog > 0
    await writer.drain()
    assert await records(context) == []
    assert await writer.flush() is None
    assert len(await records(context)) == 1
    await writer.close()

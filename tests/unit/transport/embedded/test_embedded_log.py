"""The embedded log: topics, dense offsets, reading, waiting, retention."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager

import pytest

from streamd.errors import FatalError, LoadError, NotFoundError, PositionLostError
from streamd.record import TaskId
from streamd.transport.embedded.jobs import OpenTask, Retention
from streamd.transport.embedded.log import EmbeddedLog
from streamd.transport.embedded.reader import LogReader
from streamd.transport.embedded.records import BATCH_RECORDS, MAX_RECORD_BYTES
from streamd.transport.embedded.transaction import STAGE_BYTES, EmbeddedTransaction


@pytest.fixture
async def log(tmp_path):
    log = EmbeddedLog.acquire(tmp_path / "app.db")
    yield log
    await log.release()


@asynccontextmanager
async def transaction(log, name="t"):
    opened = EmbeddedTransaction(log.path, name)
    committed = await opened.open()
    try:
        yield opened, committed
    finally:
        await opened.close()


async def append(log, topic, values, partition=0, key=None):
    async with transaction(log, "writer") as (writer, _):
        for value in values:
            writer.append(topic, partition, key, value, 1000, ())
        await writer.commit()


async def reader(log, topic, partition=0, offset=0):
    # Each reader lets go of the log when it is closed.
    return LogReader(EmbeddedLog.acquire(log.path), await log.stream(topic, partition), offset)


async def read_all(source):
    found = []
    while records := await source.read(100, 0):
        found += records
    return found


async def test_a_topic_is_made_once(log):
    assert await log.partitions("orders") is None
    assert await log.create_topic("orders", 3) == 3
    assert await log.create_topic("orders", None) == 3
    assert await log.create_topic("others", None) == 1
    assert await log.topics() == ["orders", "others"]
    assert [(s.partition, s.start, s.end) for s in await log.streams("orders")] == [(0, 0, 0), (1, 0, 0), (2, 0, 0)]


async def test_another_number_of_partitions_is_refused(log):
    await log.create_topic("orders", 3)
    with pytest.raises(FatalError, match="has 3 partitions, the settings say 4"):
        await log.create_topic("orders", 4)


async def test_records_come_back_as_they_went_in(log):
    await log.create_topic("orders", 2)
    headers = (("a", b"1"), ("b", None))
    async with transaction(log) as (writer, _):
        writer.append("orders", 1, b"k", b"v", 17, headers)
        writer.append("orders", 1, None, None, -5, ())
        writer.append("orders", 0, b"", b"", 0, [("c", b"")])
        await writer.commit()
    source = await reader(log, "orders", 1)
    found = await source.read(10, 1)
    assert [(r.key, r.value, r.timestamp, r.headers, r.offset) for r in found] == [
        (b"k", b"v", 17, headers, 0),
        (None, None, -5, (), 1),
    ]
    assert source.position() == 2
    assert source.lag() == 0
    await source.close()


async def test_offsets_are_dense_over_commits_and_batches(log):
    await log.create_topic("orders", 1)
    for size in (1, BATCH_RECORDS, BATCH_RECORDS + 1, 3):
        await append(log, "orders", [b"x"] * size)
    source = await reader(log, "orders")
    assert [r.offset for r in await read_all(source)] == list(range(2 * BATCH_RECORDS + 5))
    await source.close()


@pytest.mark.parametrize("offset", [0, 1, 2047, 2048, 2050, 4999])
async def test_reading_begins_at_any_offset_and_gives_as_many_as_asked_for(log, offset):
    await log.create_topic("orders", 1)
    await append(log, "orders", [b"%d" % n for n in range(5000)])
    source = await reader(log, "orders", 0, offset)
    found = await source.read(7, 1)
    assert [(r.offset, r.value) for r in found] == [(n, b"%d" % n) for n in range(offset, min(offset + 7, 5000))]
    assert source.lag() == 5000 - source.position()
    await source.close()


async def test_a_cancelled_read_moves_nothing(log):
    await log.create_topic("orders", 1)
    source = await reader(log, "orders")
    waiting = asyncio.ensure_future(source.read(10, 30))
    for _ in range(5):
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await append(log, "orders", [b"a", b"b"])
    fetching = asyncio.ensure_future(source.read(10, 30))
    await asyncio.sleep(0)
    fetching.cancel()
    await asyncio.gather(fetching, return_exceptions=True)
    assert [r.value for r in await source.read(1, 1)] == [b"a"]
    assert [r.value for r in await source.read(10, 1)] == [b"b"]
    await source.close()


async def test_a_waiting_reader_is_woken_by_a_commit(log):
    await log.create_topic("orders", 1)
    source = await reader(log, "orders")
    waiting = asyncio.ensure_future(source.read(10, 30))
    await append(log, "orders", [b"a"])
    assert [r.value for r in await asyncio.wait_for(waiting, 5)] == [b"a"]
    assert await source.read(10, 0) == []
    await source.close()


async def test_a_waiting_reader_sees_what_another_connection_commits(log):
    """As another process would: nothing in this one says that there is something new."""
    await log.create_topic("orders", 2)
    source = await reader(log, "orders", 1)
    waiting = asyncio.ensure_future(source.read(10, 30))
    await asyncio.sleep(0)
    stranger = EmbeddedLog(log.path)
    writer = EmbeddedTransaction(log.path, "stranger")
    writer._log = stranger
    stranger._users = 1
    writer._epoch, _ = await stranger.write(OpenTask("stranger"))
    writer.append("orders", 1, None, b"x", 0, ())
    await writer.commit()
    assert [r.value for r in await asyncio.wait_for(waiting, 5)] == [b"x"]
    await writer.close()
    await source.close()


async def test_an_unknown_partition_is_not_found(log):
    await log.create_topic("orders", 1)
    with pytest.raises(NotFoundError, match="no partition 1 of a topic 'orders'"):
        await log.stream("orders", 1)
    async with transaction(log) as (writer, _):
        writer.append("orders", 5, None, b"x", 0, ())
        with pytest.raises(NotFoundError, match="no partition 5"):
            await writer.commit()


async def test_a_record_that_is_too_large_is_refused_alone(log):
    await log.create_topic("orders", 1)
    large = b"x" * (MAX_RECORD_BYTES + 1)
    async with transaction(log) as (writer, _):
        with pytest.raises(LoadError, match=r"the record has \d+ bytes"):
            writer.append("orders", 0, None, large, 0, ())
        refused = writer.extend("orders", 0, [(None, b"a", 0, ()), (b"k", large, 0, ()), (None, b"b", 0, ())])
        assert [index for index, _ in refused] == [1]
        await writer.commit()
    source = await reader(log, "orders")
    assert [r.value for r in await read_all(source)] == [b"a", b"b"]
    await source.close()


async def test_a_deleted_topic_leaves_nothing(log):
    await log.create_topic("orders", 2)
    await append(log, "orders", [b"x"] * 10)
    assert await log.delete_topic("orders")
    assert not await log.delete_topic("orders")
    await log.create_topic("orders", 1)
    assert [s.end for s in await log.streams("orders")] == [0]
    with sqlite3.connect(log.path) as connection:
        assert connection.execute("SELECT count(*) FROM blob").fetchone() == (0,)
    connection.close()


class FixedClock:
    def __init__(self, now_ms=1_000_000):
        self.now = now_ms

    def now_ms(self):
        return self.now

    def monotonic(self):
        return self.now / 1000


async def test_retention_by_records_keeps_at_least_that_many(log):
    await log.create_topic("orders", 1, Retention(records=25))
    for n in range(10):
        await append(log, "orders", [b"%d" % n] * 10)
    assert await log.trim() == 7
    assert [(s.start, s.end) for s in await log.streams("orders")] == [(70, 100)]
    source = await reader(log, "orders", 0, 70)
    assert len(await read_all(source)) == 30
    await source.close()
    behind = await reader(log, "orders", 0, 69)
    with pytest.raises(PositionLostError, match=r"offset 69 is gone.*starts at 70"):
        await behind.read(10, 1)
    await behind.close()


async def test_retention_by_age_keeps_the_newest_batch(tmp_path):
    clock = FixedClock()
    log = EmbeddedLog(tmp_path / "app.db", clock)
    log._users = 1
    await log.create_topic("orders", 1, Retention(age_ms=1000))
    for _ in range(3):
        writer = EmbeddedTransaction(log.path, "w", clock)
        await writer.open()
        writer.append("orders", 0, None, b"x", 0, ())
        await writer.commit()
        await writer.close()
        clock.now += 600
    assert await log.trim() == 2
    clock.now += 100_000
    assert await log.trim() == 0
    assert [(s.start, s.end) for s in await log.streams("orders")] == [(2, 3)]
    with sqlite3.connect(log.path) as connection:
        assert connection.execute("SELECT count(*) FROM blob").fetchone() == (1,)
    connection.close()
    await log.release()


async def test_much_output_is_staged_and_becomes_visible_with_the_commit(log):
    await log.create_topic("orders", 1)
    value = b"x" * 65536
    async with transaction(log) as (writer, _):
        for _ in range(2):
            for _ in range(STAGE_BYTES // len(value) + 1):
                writer.append("orders", 0, None, value, 0, ())
            assert writer.backlog > STAGE_BYTES
            await writer.drain()
            assert writer.backlog == 0
        writer.append("orders", 0, None, b"last", 0, ())
        assert (await log.stream("orders", 0)).end == 0
        await writer.commit()
    source = await reader(log, "orders")
    found = await read_all(source)
    assert [r.offset for r in found] == list(range(2 * (STAGE_BYTES // len(value) + 1) + 1))
    assert found[-1].value == b"last"
    await source.close()


async def test_staged_output_of_a_transaction_that_never_committed_is_dropped(log):
    await log.create_topic("orders", 1)
    value = b"x" * (STAGE_BYTES + 1)
    async with transaction(log) as (writer, _):
        writer.append("orders", 0, None, value, 0, ())
        await writer.drain()
        await writer.abort()
        writer.append("orders", 0, None, value, 0, ())
        await writer.drain()
        writer.abandon()
    async with transaction(log) as (writer, _):
        writer.append("orders", 0, None, b"x", 0, ())
        await writer.commit()
    with sqlite3.connect(log.path) as connection:
        assert connection.execute("SELECT count(*) FROM blob").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM staged").fetchone() == (0,)
    connection.close()


async def test_task_ids_are_taken_as_they_are_written(log):
    task = TaskId("app", "orders", 0, 3)
    opened = EmbeddedTransaction(log.path, task)
    await opened.open()
    await opened.close()
    with sqlite3.connect(log.path) as connection:
        assert connection.execute("SELECT id, epoch FROM task").fetchall() == [("app.orders.0.3", 1)]
    connection.close()

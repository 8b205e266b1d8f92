"""Reading one partition of a real topic: what comes, in which order, from where on, and what goes wrong how."""

from __future__ import annotations

import asyncio
import os

import pytest
from aiokafka import AIOKafkaProducer

from integration.kafka.workbench import commit, read_to_end, read_until, settled, until
from services.kafka import produce
from streamd.errors import FatalError, NotFoundError, PositionLostError
from streamd.transport.kafka.client import EARLIEST, LATEST
from streamd.transport.kafka.reader import PartitionReader

pytestmark = pytest.mark.kafka


async def test_records_come_as_they_were_written(kafka, make_topic, bench):
    topic = await make_topic()
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
    await producer.start()
    await producer.send_and_wait(topic, b"value", b"key", timestamp_ms=1700000000123, headers=[("a", b"1"), ("b", b"")])
    await producer.send_and_wait(topic, None, b"tombstone", timestamp_ms=1700000000124)
    await producer.send_and_wait(topic, b"", None, timestamp_ms=1700000000125)
    await producer.stop()
    found = await read_until(bench.reader(topic), 3)
    assert [(r.key, r.value, r.timestamp, r.offset, r.headers) for r in found] == [
        (b"key", b"value", 1700000000123, 0, [("a", b"1"), ("b", b"")]),
        (b"tombstone", None, 1700000000124, 1, []),
        (None, b"", 1700000000125, 2, []),
    ]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_batches_are_read_from_their_middle_too(kafka, make_topic, bench, codec):
    topic = await make_topic()
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, compression_type=codec, linger_ms=50)
    await producer.start()
    sent = [await producer.send(topic, b"%d" % i * 50) for i in range(500)]
    await producer.flush()
    await asyncio.gather(*sent)
    await producer.stop()
    assert [r.value for r in await read_until(bench.reader(topic), 500)] == [b"%d" % i * 50 for i in range(500)]
    assert [r.offset for r in await read_until(bench.reader(topic, 333), 167)] == list(range(333, 500))


async def test_nothing_is_lost_or_repeated_whatever_the_size_of_a_read(kafka, make_topic, bench):
    topic = await make_topic()
    await produce(kafka.bootstrap, topic, [b"%d" % i for i in range(2000)])
    reader = bench.reader(topic, max_bytes=4096)
    found = []
    for most in (1, 7, 100, 1, 3000, 13, 250, 10_000):
        records = await reader.read(most, 5)
        assert 0 < len(records) <= most
        found += records
        assert reader.position() == found[-1].offset + 1
    found += await read_to_end(reader, 2000)
    assert [r.value for r in found] == [b"%d" % i for i in range(2000)]
    assert (reader.lag(), await reader.read(10, 0)) == (0, ())


async def test_a_record_larger_than_a_fetch_is_read(make_topic, bench):
    topic = await make_topic()
    large = os.urandom(500_000)
    transaction = bench.transaction(topic)
    await transaction.open()
    transaction.append(topic, 0, None, large, 1, ())
    transaction.append(topic, 0, None, b"small", 1, ())
    await commit(transaction, 0)
    found = await read_until(bench.reader(topic, max_bytes=10_000), 2)
    assert [r.value for r in found] == [large, b"small"]


async def test_aborted_records_are_left_out_and_the_position_passes_the_markers(make_topic, bench):
    topic = await make_topic()
    transaction = bench.transaction(topic)
    await transaction.open()
    for number in range(3):
        transaction.append(topic, 0, None, b"good %d" % number, 1, ())
        await commit(transaction, number)
        transaction.append(topic, 0, None, b"bad %d" % number, 1, ())
        await transaction.flush()
        await transaction.abort()
    end = await settled(bench.client, topic, 12)
    assert end == 12, "six records and six markers"
    reader = bench.reader(topic)
    assert [r.value for r in await read_to_end(reader, end)] == [b"good 0", b"good 1", b"good 2"]
    assert (reader.position(), reader.lag()) == (12, 0)
    raw = await read_to_end(bench.reader(topic, isolation="read_uncommitted"), end)
    assert sum(r.value.startswith(b"bad") for r in raw) == 3, "the aborted records are there"
    assert [r.value for r in await read_to_end(bench.reader(topic, 3), end)] == [b"good 1", b"good 2"]


async def test_only_markers_and_aborted_records_move_the_position(make_topic, bench):
    topic = await make_topic()
    transaction = bench.transaction(topic)
    await transaction.open()
    transaction.append(topic, 0, None, b"bad", 1, ())
    await transaction.flush()
    await transaction.abort()
    reader = bench.reader(topic)
    assert await read_to_end(reader, 2) == []
    assert reader.lag() == 0


async def test_an_open_transaction_is_not_read_and_counts_not_as_lag(make_topic, bench):
    topic = await make_topic()
    transaction = bench.transaction(topic)
    await transaction.open()
    transaction.append(topic, 0, None, b"first", 1, ())
    await commit(transaction, 1)
    transaction.append(topic, 0, None, b"open", 1, ())
    await transaction.flush()
    reader = bench.reader(topic, max_wait_ms=50)
    assert [r.value for r in await read_to_end(reader, 2)] == [b"first"]
    assert (await reader.read(10, 0.2), reader.lag()) == ((), 0)
    await transaction.put_positions({("in", 0): 2}, {})
    waiting = asyncio.create_task(reader.read(10, 20))
    await transaction.commit()
    assert [r.value for r in await waiting] == [b"open"]


async def test_a_waiting_read_returns_as_soon_as_a_record_is_there(kafka, make_topic, bench):
    topic = await make_topic()
    reader = bench.reader(topic, max_wait_ms=10_000)
    waiting = asyncio.create_task(reader.read(10, 30))
    await until(lambda: reader._fetch)
    began = asyncio.get_running_loop().time()
    await produce(kafka.bootstrap, topic, [b"now"])
    assert [r.value for r in await waiting] == [b"now"]
    assert asyncio.get_running_loop().time() - began < 5, "the poll itself would have taken 10 s"


async def test_a_cancelled_read_loses_nothing(kafka, make_topic, bench):
    topic = await make_topic()
    reader = bench.reader(topic, max_wait_ms=100)
    for number in range(5):
        waiting = asyncio.create_task(reader.read(10, 30))
        await until(lambda: reader._fetch)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await produce(kafka.bootstrap, topic, [b"%d" % number])
    assert [r.value for r in await read_until(reader, 5)] == [b"0", b"1", b"2", b"3", b"4"]


async def test_compacted_holes_are_passed(kafka, make_topic, bench):
    topic = await make_topic(
        cleanup_policy="compact",
        min_cleanable_dirty_ratio="0.01",
        segment_ms="100",
        max_compaction_lag_ms="100",
        delete_retention_ms="0",
    )
    await produce(kafka.bootstrap, topic, [(b"same", b"%d" % i) for i in range(100)])
    async with asyncio.timeout(100):
        while True:
            # A new segment makes the ones before it ready to be compacted.
            await produce(kafka.bootstrap, topic, [(b"other", b"x")])
            end = await bench.client.find_offset(topic, 0, LATEST)
            reader = bench.reader(topic)
            found = await read_to_end(reader, end)
            await reader.close()
            if found[0].offset >= 99:
                break
            await asyncio.sleep(0.2)
    assert found[0].value == b"99"
    assert [r.offset for r in found] == sorted(r.offset for r in found)
    assert (await read_to_end(bench.reader(topic, 50), end))[0].offset == found[0].offset


@pytest.mark.parametrize("position", [1000, 5])
async def test_a_position_that_is_gone_is_an_error(kafka, make_topic, bench, position):
    topic = await make_topic()
    await produce(kafka.bootstrap, topic, [b"x"] * 3)
    with pytest.raises(PositionLostError, match=f"offset {position} of {topic}"):
        await bench.reader(topic, position).read(10, 20)


async def test_a_topic_that_is_not_there_is_an_error_when_it_stays_away(bench):
    with pytest.raises(NotFoundError, match="no-such-topic"):
        await bench.reader("no-such-topic", outage=0.3).read(10, 20)


async def test_an_offset_is_not_negative(bench):
    with pytest.raises(FatalError, match="≥ 0"):
        bench.reader("any", -1)


async def test_offsets_are_found_by_place_and_time(kafka, make_topic, client):
    topic = await make_topic()
    await produce(kafka.bootstrap, topic, [b"a"], timestamp_ms=1000)
    await produce(kafka.bootstrap, topic, [b"b"], timestamp_ms=2000)
    assert await client.find_offset(topic, 0, EARLIEST) == 0
    assert await client.find_offset(topic, 0, LATEST) == 2
    assert await client.find_offset(topic, 0, 1001) == 1
    assert await client.find_offset(topic, 0, 9999) == 2, "after all records: the end"


async def test_a_lag_is_stale_while_the_broker_is_away(kafka, make_topic, proxied):
    client, proxy = proxied
    topic = await make_topic()
    await produce(kafka.bootstrap, topic, [b"1"])
    reader = PartitionReader(client, topic, 0, 0, max_wait_ms=50)
    try:
        await read_to_end(reader, 1)
        assert (reader.lag(), reader.stale) == (0, False)
        await proxy.stop()
        await until(lambda: reader.stale)
        assert reader.lag() == 0, "nothing new is known"
        await proxy.start(proxy.port)
        await until(lambda: not reader.stale)
    finally:
        await reader.close()


@pytest.mark.parametrize(
    ("spoilt", "lost"),
    [(None, False), (lambda answer: answer[:-8] + (1).to_bytes(8, "big"), True)],
    ids=["kept", "truncated"],
)
async def test_after_an_outage_the_log_is_compared_with_what_was_read(kafka, make_topic, proxied, spoilt, lost):
    """A replica that was not in sync leads now, with others' records at the offsets that were read."""
    client, proxy = proxied
    topic = await make_topic()
    await produce(kafka.bootstrap, topic, [b"1", b"2", b"3"])
    reader = PartitionReader(client, topic, 0, 0, max_wait_ms=50)
    try:
        await read_to_end(reader, 3)
        if spoilt is not None:
            proxy.spoil("epoch_end", spoilt)
        await until(lambda: proxy.cut())
        await produce(kafka.bootstrap, topic, [b"4"])
        if lost:
            with pytest.raises(PositionLostError, match="has lost what it had from offset 1 on"):
                await read_to_end(reader, 4)
            assert proxy.done
        else:
            assert [record.value for record in await read_to_end(reader, 4)] == [b"4"]
    finally:
        await reader.close()

"""A task's transaction on a real broker: what is committed together, what is never seen, who is fenced."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from integration.kafka.workbench import SOURCE, commit, read_to_end, read_until, settled, until
from services.kafka import read_topic
from streamd.component.transaction import Committed
from streamd.errors import FatalError, FencedError, LoadError, NotFoundError, NotMemberError, TransientError
from streamd.transport.kafka.membership import GroupMember
from streamd.transport.kafka.outbox import OutboxOptions
from streamd.transport.kafka.settings import KafkaSettings

pytestmark = pytest.mark.kafka


async def test_outputs_and_positions_are_committed_together(kafka, make_topic, bench):
    source, out, other = await make_topic(), await make_topic(partitions=3), await make_topic()
    transaction = bench.transaction(source)
    assert await transaction.open() == Committed()
    transaction.begin()
    for partition in range(3):
        transaction.append(out, partition, b"key", b"%d" % partition, 1700000000000, [("h", b"v"), ("none", None)])
    transaction.append(other, 0, None, None, 1700000000001, ())
    await commit(transaction, 7, {"file": {"bytes": 12}})
    found = await read_topic(kafka.bootstrap, out, expected=3)
    assert [(r.partition, r.key, r.value, r.timestamp, r.headers) for r in found] == [
        (n, b"key", b"%d" % n, 1700000000000, (("h", b"v"), ("none", None))) for n in range(3)
    ]
    [tombstone] = await read_topic(kafka.bootstrap, other, expected=1)
    assert (tombstone.key, tombstone.value) == (None, None)
    committed = await bench.transaction(source).open()
    assert committed.positions == {SOURCE: 7}
    assert committed.cursors == {"file": {"bytes": 12}}
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=bench.group, enable_auto_commit=False)
    await consumer.start()
    assert await consumer.committed(TopicPartition(source, 0)) == 7, "any Kafka tool sees the position"
    await consumer.stop()


async def test_what_is_not_committed_is_never_seen(kafka, make_topic, bench):
    source, out = await make_topic(), await make_topic()
    transaction = bench.transaction(source)
    await transaction.open()
    transaction.append(out, 0, None, b"kept", 1, ())
    await commit(transaction, 1)
    transaction.append(out, 0, None, b"dropped", 1, ())
    await transaction.flush()
    await transaction.put_positions({SOURCE: 99}, {"file": 99})
    await transaction.abort()
    transaction.append(out, 0, None, b"never sent", 1, ())
    await transaction.abort()
    transaction.append(out, 0, None, b"kept too", 1, ())
    await commit(transaction, 2, {"file": 2})
    reader = bench.reader(out)
    assert [r.value for r in await read_until(reader, 2)] == [b"kept", b"kept too"]
    committed = await bench.transaction(source).open()
    assert (committed.positions, committed.cursors) == ({SOURCE: 2}, {"file": 2})
    raw = await read_topic(kafka.bootstrap, out, committed=False)
    assert b"dropped" in [r.value for r in raw], "it was written, so the test shows something"


async def test_positions_alone_are_a_transaction_too(make_topic, bench):
    source = await make_topic()
    transaction = bench.transaction(source)
    await transaction.open()
    for offset in (3, 4):
        await commit(transaction, offset)
    transaction.begin()
    await transaction.flush()
    await transaction.commit()
    assert (await bench.transaction(source).open()).positions == {SOURCE: 4}


async def test_a_task_without_a_kafka_source_keeps_its_positions_in_a_topic(kafka, bench):
    topic = f"streamd.test.{bench.task.pipeline}.positions"
    try:
        for number in range(3):
            transaction = bench.transaction()
            committed = await transaction.open()
            if number:
                assert committed.positions == {("ticks", 0): {"line": number - 1}}
                assert committed.cursors == {"file": [number - 1]}
            transaction.begin()
            await transaction.flush()
            await transaction.put_positions({("ticks", 0): {"line": number}}, {"file": [number]})
            await transaction.commit()
            transaction.begin()
            await transaction.flush()
            await transaction.put_positions({("ticks", 0): {"line": 1000}}, {})
            await transaction.close()
        assert len(await read_topic(kafka.bootstrap, topic)) == 3, "positions of aborted transactions do not count"
    finally:
        await delete(kafka, topic)


async def test_positions_of_another_tasks_open_transaction_do_not_hide_ours(kafka, bench):
    topic = f"streamd.test.{bench.task.pipeline}.positions"
    try:
        ours = bench.transaction()
        await ours.open()
        bench.task = bench.task._replace(partition=1)
        other = bench.transaction()
        await other.open()
        await other.put_positions({("ticks", 1): 5}, {})
        bench.task = bench.task._replace(partition=0)
        await ours.put_positions({("ticks", 0): 6}, {})
        await ours.commit()
        opening = asyncio.create_task(bench.transaction().open())
        done, _ = await asyncio.wait((opening,), timeout=0.5)
        assert not done, "our last position lies behind the other task's open transaction: it must be waited for"
        await other.commit()
        assert (await opening).positions == {("ticks", 0): 6}
    finally:
        await delete(kafka, topic)


async def test_no_topic_for_positions_is_made_where_none_may_be(bench):
    with pytest.raises(NotFoundError, match="positions"):
        await bench.transaction(create_topics=False).open()


async def delete(kafka, *topics: str) -> None:
    from streamd.transport.kafka.admin import open_admin

    async with open_admin(KafkaSettings(bootstrap=(kafka.bootstrap,))) as admin:
        await admin.delete_topics(topics)


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_many_batches_keep_their_order(kafka, make_topic, bench, codec):
    source, out = await make_topic(), await make_topic(partitions=2)
    transaction = bench.transaction(source, outbox=OutboxOptions(batch_bytes=20_000, compression=codec))
    await transaction.open()
    rows = [(b"%d" % (i % 2), b"%d " % i * 30, 1700000000000 + i, ()) for i in range(5000)]
    for start in range(0, 5000, 1000):
        assert transaction.append_rows(out, rows[start : start + 1000], int) == []
        await transaction.drain()
    assert transaction.backlog < 4 << 20
    await commit(transaction, 5000)
    assert transaction.backlog == 0
    for partition in range(2):
        found = await read_until(bench.reader(out, partition=partition), 2500)
        expected = rows[partition::2]
        assert [(r.key, r.value, r.timestamp) for r in found] == [row[:3] for row in expected]


async def test_a_record_above_the_limit_is_refused_alone(kafka, make_topic, bench):
    source, out = await make_topic(), await make_topic()
    transaction = bench.transaction(source, outbox=OutboxOptions(max_record_bytes=10_000))
    await transaction.open()
    transaction.append(out, 0, None, b"before", 1, ())
    with pytest.raises(LoadError, match="10000 are allowed"):
        transaction.append(out, 0, None, b"x" * 10_000, 1, ())
    rows = [(None, b"a", 1, ()), (None, b"x" * 10_000, 1, ()), (None, b"b", 1, ()), (None, b"x" * 20_000, 1, ())]
    refused = transaction.append_rows(out, rows, lambda key: 0)
    assert [(index, type(error)) for index, error in refused] == [(1, LoadError), (3, LoadError)]
    await commit(transaction, 1)
    assert [r.value for r in await read_topic(kafka.bootstrap, out)] == [b"before", b"a", b"b"]


async def test_a_batch_that_the_topic_refuses_fails_the_transaction_and_the_record_the_next_time(
    kafka, make_topic, bench
):
    """Stock aiokafka commits the offsets and loses the record here."""
    source, out = await make_topic(), await make_topic(max_message_bytes=2000)
    transaction = bench.transaction(source)
    await transaction.open()
    await commit(transaction, 1)
    transaction.append(out, 0, None, b"x" * 3000, 1, ())
    with pytest.raises(TransientError, match="at most 2000 bytes"):
        await transaction.flush()
    with pytest.raises(TransientError):
        await transaction.flush()
    transaction.abandon()
    again = bench.transaction(source)
    assert (await again.open()).positions == {SOURCE: 1}, "the position did not move"
    with pytest.raises(LoadError):
        again.append(out, 0, None, b"x" * 3000, 1, ())
    for number in range(40):
        again.append(out, 0, None, b"%d " % number * 50, 1, ())
    await commit(again, 2)
    assert len(await read_topic(kafka.bootstrap, out)) == 40, "batches now keep within the topic's limit"


async def test_many_records_that_are_too_large_together_are_split(kafka, make_topic, bench):
    source, out = await make_topic(), await make_topic(max_message_bytes=2000)
    for _ in range(2):
        transaction = bench.transaction(source)
        await transaction.open()
        for number in range(100):
            transaction.append(out, 0, None, b"%d " % number * 30, 1, ())
        try:
            await commit(transaction, 1)
        except TransientError:
            transaction.abandon()
    assert len(await read_topic(kafka.bootstrap, out)) == 100


async def test_a_missing_output_topic_is_an_error(make_topic, bench):
    transaction = bench.transaction(await make_topic(), outbox=OutboxOptions(delivery=0.5))
    await transaction.open()
    transaction.append("no-such-topic", 0, None, b"x", 1, ())
    with pytest.raises(NotFoundError, match="no-such-topic"):
        await transaction.flush()


async def test_an_older_instance_is_fenced_at_once_and_what_it_had_open_is_gone(kafka, make_topic, bench):
    source, out = await make_topic(), await make_topic()
    older = bench.transaction(source)
    await older.open()
    await commit(older, 5)
    older.append(out, 0, None, b"of the older", 1, ())
    await older.flush()
    await older.put_positions({SOURCE: 6}, {})
    newer = bench.transaction(source)
    assert (await newer.open()).positions == {SOURCE: 5}, "the pending position is not taken"
    with pytest.raises(FencedError):
        await older.commit()
    newer.append(out, 0, None, b"of the newer", 1, ())
    await commit(newer, 6)
    assert [r.value for r in await read_until(bench.reader(out), 1)] == [b"of the newer"]


@pytest.mark.parametrize("step", ["append", "positions", "commit"])
async def test_every_step_of_a_fenced_instance_says_so(make_topic, bench, step):
    source, out = await make_topic(), await make_topic()
    older = bench.transaction(source)
    await older.open()
    if step == "commit":
        await older.put_positions({SOURCE: 1}, {})
    await bench.transaction(source).open()
    if step == "append":
        older.append(out, 0, None, b"x", 1, ())
    steps = {"append": older.flush, "positions": lambda: older.put_positions({SOURCE: 1}, {}), "commit": older.commit}
    with pytest.raises(FencedError):
        await steps[step]()


@pytest.fixture
async def membership(kafka, make_topic, bench):
    """(source topic, proof of a real membership in the bench's group)."""
    source = await make_topic()
    settings = KafkaSettings(bootstrap=(kafka.bootstrap,))
    member = GroupMember(settings, bench.group, [source], lambda *_: None, lambda *_: None)
    await member.start()
    try:
        await until(lambda: member.membership)
        yield source, member.membership
    finally:
        await member.stop()


def stale(current):
    """An older generation, and somebody unknown."""
    return replace(current, generation=current.generation - 1), replace(current, member_id="stranger")


async def test_a_stale_generation_or_a_stranger_cannot_commit_positions(membership, bench):
    source, current = membership
    for wrong in stale(current):
        transaction = bench.transaction(source)
        transaction.update_membership(current)
        await transaction.open()
        transaction.update_membership(wrong)
        with pytest.raises(NotMemberError, match=r"ILLEGAL_GENERATION|UNKNOWN_MEMBER_ID"):
            await transaction.put_positions({SOURCE: 1}, {})
        transaction.abandon()
    transaction = bench.transaction(source)
    transaction.update_membership(current)
    await transaction.open()
    await commit(transaction, 2)
    assert (await bench.transaction(source).open()).positions == {SOURCE: 2}


async def test_who_is_no_member_fences_nobody(membership, bench):
    """It is refused before it takes the transactional id from its owner."""
    source, current = membership
    owner = bench.transaction(source)
    owner.update_membership(current)
    await owner.open()
    for wrong in stale(current):
        zombie = bench.transaction(source)
        zombie.update_membership(wrong)
        with pytest.raises(NotMemberError, match=r"ILLEGAL_GENERATION|UNKNOWN_MEMBER_ID"):
            await zombie.open()
    await commit(owner, 3)


async def test_a_commit_in_an_old_generation_waits_for_the_news_of_the_next(membership, make_topic, bench):
    """The transaction stays: nothing that was produced in it is done again."""
    source, current = membership
    out = await make_topic()
    transaction = bench.transaction(source)
    transaction.update_membership(current)
    await transaction.open()
    transaction.append(out, 0, None, b"once", 1, ())
    await transaction.flush()
    transaction.update_membership(stale(current)[0])
    committing = asyncio.create_task(commit(transaction, 4))
    await refused_once(transaction)
    transaction.update_membership(current)
    await committing
    assert [record.value for record in await read_topic(bench.client.address, out, committed=False)] == [b"once"]
    assert (await bench.transaction(source).open()).positions == {SOURCE: 4}


async def refused_once(transaction):
    """Return when the transaction waits for news of its group."""
    async with asyncio.timeout(10):
        while not transaction._group._updated._waiters:  # noqa: ASYNC110 — nothing tells
            await asyncio.sleep(0.002)


async def test_cursors_that_do_not_fit_are_an_error_that_names_the_limit(make_topic, bench):
    transaction = bench.transaction(await make_topic())
    await transaction.open()
    with pytest.raises(FatalError, match="4096"):
        await transaction.put_positions({SOURCE: 1}, {"file": "x" * 5000})


async def test_cursors_of_the_longest_length_are_kept(make_topic, bench):
    source = await make_topic()
    transaction = bench.transaction(source)
    await transaction.open()
    await commit(transaction, 1, {"file": "é" * 1990})
    assert (await bench.transaction(source).open()).cursors == {"file": "é" * 1990}


CRASHING = """
import asyncio, sys
from integration.kafka.workbench import Workbench
from streamd.record import TaskId
from streamd.transport.kafka.client import KafkaClient

async def main(bootstrap, pipeline, source, out):
    client = KafkaClient({"bootstrap_servers": bootstrap})
    await client.start()
    bench = Workbench(client)
    bench.task, bench.group = TaskId("test", pipeline, 0, 0), f"group-{pipeline}"
    transaction = bench.transaction(source)
    await transaction.open()
    transaction.append(out, 0, None, b"of the dead", 1, ())
    await transaction.flush()
    await transaction.put_positions({("in", 0): 9}, {})
    print("open", flush=True)
    await asyncio.sleep(1000)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_after_a_kill_the_successor_frees_the_readers_at_once(kafka, make_topic, bench):
    source, out = await make_topic(), await make_topic()
    first = bench.transaction(source)
    await first.open()
    await commit(first, 3)
    await first.close()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CRASHING,
        kafka.bootstrap,
        bench.task.pipeline,
        source,
        out,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"open\n"
    process.send_signal(signal.SIGKILL)
    await process.wait()
    reader = bench.reader(out)
    assert await reader.read(10, 0.5) == (), "the dead one's transaction holds the readers back"
    began = time.monotonic()
    successor = bench.transaction(source)
    assert (await successor.open()).positions == {SOURCE: 3}
    assert await read_to_end(reader, 2) == []
    assert time.monotonic() - began < 5, "far below the transaction's timeout of 10 s"
    successor.append(out, 0, None, b"of the successor", 1, ())
    await commit(successor, 9)
    assert [r.value for r in await read_until(reader, 1)] == [b"of the successor"]


async def test_a_transaction_that_timed_out_is_fenced_and_leaves_nothing(kafka, make_topic, bench):
    source, out = await make_topic(), await make_topic()
    transaction = bench.transaction(source, timeout=1.0)
    await transaction.open()
    transaction.append(out, 0, None, b"late", 1, ())
    await transaction.flush()
    # The broker looks for such transactions once a second; then the abort marker makes the end stable.
    await settled(bench.client, out, 2)
    with pytest.raises(FencedError):
        await commit(transaction, 1)
    assert (await bench.transaction(source).open()).positions == {}
    assert await read_topic(kafka.bootstrap, out) == []

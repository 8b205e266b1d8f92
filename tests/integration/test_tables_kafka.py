"""Lookups in tables that are topics of a real broker: compacted, partitioned otherwise, changing, workers killed."""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections import Counter

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from faults.running_node import worker_pids
from services.kafka import produce, read_topic
from streamd.observability import catalog
from streamd.observability.health import ready

pytestmark = pytest.mark.kafka

COMPACTED = {"cleanup.policy": "compact"}
LOOKUP = """
name: lookup-{unique}
sources:
  orders: {{kafka: {{topic: {orders}}}}}
  users: {{kafka: {{topic: {users}}}, table: {table}}}
stages:
  - enrich: {{table: users, key: user, as: u, missing: null}}
sink: {{kafka: {{topic: {out}}}}}
kafka:
  bootstrap: "{bootstrap}"
  options: {{session.timeout.ms: 6000, heartbeat.interval.ms: 300}}
"""


class Lookup:
    """The topics of one pipeline: orders in two partitions, users in three."""

    def __init__(self, kafka, orders, users, out):
        self.bootstrap, self.orders, self.users, self.out = kafka.bootstrap, orders, users, out
        self.unique = uuid.uuid4().hex[:8]

    def text(self, table="{}"):
        topics = {"orders": self.orders, "users": self.users, "out": self.out}
        return LOOKUP.format(unique=self.unique, table=table, bootstrap=self.bootstrap, **topics)

    async def set(self, **rows):
        await self.set_all(rows)

    async def set_all(self, rows):
        pairs = [(key.encode(), None if row is None else json.dumps(row).encode()) for key, row in rows.items()]
        await produce(self.bootstrap, self.users, pairs)

    async def order(self, numbers, users):
        values = [
            (str(n).encode(), json.dumps({"n": n, "user": user}).encode())
            for n, user in zip(numbers, users, strict=True)
        ]
        await produce(self.bootstrap, self.orders, values)

    async def came(self, expected):
        """{number of an order: the row it got}; each has come once."""
        records = await read_topic(self.bootstrap, self.out, expected=expected)
        documents = [json.loads(record.value) for record in records]
        assert max(Counter(document["n"] for document in documents).values(), default=1) == 1
        return {document["n"]: document["u"] for document in documents}


@pytest.fixture
async def lookup(kafka, make_topic):
    return Lookup(kafka, await make_topic(2), await make_topic(3, **COMPACTED), await make_topic(2))


@pytest.fixture
async def writer(kafka):
    """A producer with transactions."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=f"users-{uuid.uuid4().hex}")
    await producer.start()
    yield producer
    await producer.stop()


def loaded(node):
    """How many rows the node's table has, once it is complete."""
    return node.metrics.totals(catalog.TABLE_ROWS) if node.metrics.totals(catalog.TABLE_LOADED) else None


async def test_newest_rows_deletions_and_aborted_rows(lookup, nodes, writer):
    """Each task has all partitions of the table, and what is not committed is in none."""
    users = {f"user-{n}": {"v": 1} for n in range(50)}
    await lookup.set_all(users)
    await lookup.set_all({f"user-{n}": {"v": 2} for n in range(0, 50, 2)})
    await lookup.set_all({f"user-{n}": None for n in range(0, 50, 5)})
    async with writer.transaction():
        await writer.send_and_wait(lookup.users, b'{"v": 3}', b"user-1")
    await writer.begin_transaction()
    await writer.send_and_wait(lookup.users, b'{"v": 4}', b"user-2")
    await writer.abort_transaction()
    # One that stays open holds nobody up.
    await writer.begin_transaction()
    await writer.send_and_wait(lookup.users, b'{"v": 5}', b"user-3")
    await lookup.order(range(52), [*users, "nobody", None])
    node = nodes()
    node.start({"lookup.yaml": lookup.text()}, until_idle=True, workers=2)
    assert (await node.ended()).exit_code == 0
    await writer.abort_transaction()
    wanted = {n: {"v": 1 + (n % 2 == 0)} if n % 5 else None for n in range(50)}
    assert await lookup.came(52) == wanted | {1: {"v": 3}, 50: None, 51: None}


async def test_the_group_has_no_partition_of_the_table(lookup, nodes, kafka):
    await lookup.set(a={"v": 1})
    await lookup.order(range(20), ["a"] * 20)
    node = nodes()
    node.start({"lookup.yaml": lookup.text()}, until_idle=True, workers=1)
    assert (await node.ended()).exit_code == 0
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    offsets = await admin.list_consumer_group_offsets(f"streamd.streamd.lookup-{lookup.unique}")
    await admin.close()
    assert {at.topic for at in offsets} == {lookup.orders}


@pytest.mark.timeout(180)
async def test_large_table_changes_and_killed_workers(lookup, nodes):
    """Every order comes out once, with a version that was the newest at some time since it came."""
    await lookup.set_all({str(n): {"v": 0, "id": n} for n in range(200_000)})
    node = nodes()
    node.start({"lookup.yaml": lookup.text("{key: id}")}, workers=2)
    await lookup.order(range(1000), range(0, 200_000, 200))
    assert await lookup.came(1000) == {n: {"v": 0, "id": n * 200} for n in range(1000)}
    await node.until(lambda: node.metrics and loaded(node) == 200_000)
    total, newest = 1000, 0
    for _ in range(3):
        newest += 1
        await lookup.set_all({str(n): {"v": newest, "id": n} for n in range(0, 200_000, 2000)})
        await lookup.order(range(total, total + 500), [n % 100 * 2000 for n in range(500)])
        os.kill(worker_pids()[0], signal.SIGKILL)
        total += 500
        await lookup.order(range(total, total + 500), [n % 100 * 2000 for n in range(500)])
        total += 500
        came = await lookup.came(total)
        assert len(came) == total
        assert all(row["v"] in (newest - 1, newest) for n, row in came.items() if n >= total - 1000)
    # Once a row has changed for who reads it, it does not go back.
    await lookup.order(range(total, total + 100), range(0, 200_000, 2000))
    came = await lookup.came(total + 100)
    assert {row["v"] for n, row in came.items() if n >= total} == {newest}
    assert ready(node.status).ok or node.status.pipelines[0].state in ("starting", "running")


async def test_rows_that_change_reach_running_tasks(lookup, nodes):
    await lookup.set(a={"v": 1})
    node = nodes()
    node.start({"lookup.yaml": lookup.text()}, workers=2)
    await lookup.order(range(4), ["a"] * 4)
    assert set(map(str, (await lookup.came(4)).values())) == {"{'v': 1}"}
    await lookup.set(a=None, b={"v": 2})
    total = 4

    async def deleted():
        nonlocal total
        await lookup.order(range(total, total + 2), ["a", "b"])
        total += 2
        came = await lookup.came(total)
        return (came[total - 2], came[total - 1]) == (None, {"v": 2})

    await node.until(deleted)
    await node.until(lambda: node.metrics.totals(catalog.TABLE_ROWS) == 1)


async def test_a_table_that_is_missing_stops_the_pipeline(lookup, nodes):
    text = lookup.text().replace(lookup.users, "no-such-topic")
    node = nodes()
    node.start({"lookup.yaml": text}, workers=1, create_topics=False)
    await node.until(lambda: node.status and node.status.pipelines[0].state == "failed")
    assert "no-such-topic" in node.status.pipelines[0].error.message


async def test_a_record_that_makes_no_row_stops_the_pipeline_before_anything_is_read(lookup, nodes):
    await produce(lookup.bootstrap, lookup.users, [(b"a", b"not JSON")], partition=2)
    await lookup.order(range(4), ["a"] * 4)
    node = nodes()
    node.start({"lookup.yaml": lookup.text()}, workers=1)
    await node.until(lambda: node.status and node.status.pipelines[0].state == "failed")
    message = node.status.pipelines[0].error.message
    assert f"The record at offset 0 of {lookup.users}, partition 2, makes no row" in message
    assert "not JSON, from byte" in message
    assert await lookup.came(0) == {}


async def test_two_nodes_each_have_all_of_it(lookup, nodes):
    await lookup.set_all({str(n): {"v": n} for n in range(100)})
    first, second = nodes(), nodes()
    first.start({"lookup.yaml": lookup.text()}, workers=1)
    second.start({"lookup.yaml": lookup.text()}, workers=1)
    await first.until(lambda: first.status and len(first.status.pipelines[0].tasks) == 1)
    await second.until(lambda: second.status and len(second.status.pipelines[0].tasks) == 1)
    await lookup.order(range(100), range(100))
    assert await lookup.came(100) == {n: {"v": n} for n in range(100)}
    for node in (first, second):
        await node.until(lambda node=node: loaded(node) == 100)

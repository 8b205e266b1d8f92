"""Three brokers, one taken away in the middle of transactions: every record once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from integration.kafka.workbench import SOURCE, Workbench, read_until, until
from services.kafka import KafkaCluster, Topics, read_topic
from streamd.errors import StreamdError
from streamd.transport.kafka.client import KafkaClient
from streamd.transport.kafka.coordinator import GROUP, TRANSACTION

pytestmark = pytest.mark.kafka


@pytest.fixture
async def cluster_bench(kafka_cluster: KafkaCluster) -> AsyncIterator[Workbench]:
    client = KafkaClient({"bootstrap_servers": kafka_cluster.bootstrap, "request_timeout_ms": 5000})
    await client.start()
    bench = Workbench(client)
    yield bench
    await bench.close()
    await client.close()


class Task:
    """The least of a task: writes its offset as a record with every transaction, opens anew whatever goes wrong."""

    def __init__(self, bench: Workbench, source: str, out: str) -> None:
        self.bench, self.source, self.out = bench, source, out
        self.committed = 0
        self.reopened = 0

    async def run(self, last: int) -> None:
        while self.committed < last:
            transaction = self.bench.transaction(self.source)
            try:
                self.committed = (await transaction.open()).positions.get(SOURCE, 0)
                while self.committed < last:
                    offset = self.committed + 1
                    transaction.begin()
                    transaction.append(self.out, 0, None, b"%d" % offset, 1, ())
                    await transaction.flush()
                    await transaction.put_positions({SOURCE: offset}, {})
                    await transaction.commit()
                    self.committed = offset
            except StreamdError:
                self.reopened += 1
                transaction.abandon()
                await asyncio.sleep(0.05)


async def victim(bench: Workbench, what: str, out: str) -> int:
    client = bench.client
    if what == "leader":
        await client.partition_count(out)
        node = client.leader(out, 0)
        assert node is not None
        return node
    kind, key = (TRANSACTION, f"streamd.{bench.task}") if what == "transaction coordinator" else (GROUP, bench.group)
    return await client.coordinator(kind, key, 10)


@pytest.mark.parametrize(
    ("what", "crash"),
    [("leader", True), ("transaction coordinator", True), ("group coordinator", True), ("leader", False)],
)
async def test_a_broker_goes_away_in_the_middle(kafka_cluster, cluster_bench, what, crash):
    topics = Topics(kafka_cluster.bootstrap)
    source, out = await topics.make(), await topics.make()
    task = Task(cluster_bench, source, out)
    await task.run(5)
    reader = cluster_bench.reader(out)
    broker = kafka_cluster.broker(await victim(cluster_bench, what, out))
    running = asyncio.create_task(task.run(400))
    reading = asyncio.create_task(read_until(reader, 400, deadline=100))
    try:
        await until(lambda: task.committed >= 50)
        await asyncio.to_thread(broker.kill if crash else broker.stop)
        await running
        found = [int(record.value) for record in await reading]
    finally:
        for one in (running, reading):
            one.cancel()
        if not broker.running:
            await asyncio.to_thread(broker.start)
        await asyncio.to_thread(broker.wait_ready, 3)
    assert found == list(range(1, 401))
    assert [int(r.value) for r in await read_topic(kafka_cluster.bootstrap, out)] == found
    await topics.delete_all()

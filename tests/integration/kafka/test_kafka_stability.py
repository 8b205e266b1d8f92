"""What open transactions hold back is measured: in inputs by their readers, in outputs by the supervisor's look."""

from __future__ import annotations

import asyncio
import uuid
from types import SimpleNamespace

import pytest
from aiokafka import AIOKafkaProducer

from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.observability import catalog
from streamd.observability.metrics import MetricSet
from streamd.plan.graph import build_plan
from streamd.supervisor.stability import watch_topics, written_topics
from streamd.transport.kafka.client import KafkaClient
from streamd.transport.kafka.reader import PartitionReader

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(60)]


@pytest.fixture
async def open_at(kafka):
    """`await open_at(topic)`: a producer in the middle of a transaction that has written two records."""
    made = []

    async def begin(topic):
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=f"open-{uuid.uuid4().hex}")
        made.append(producer)
        await producer.start()
        await producer.begin_transaction()
        for value in (b"1", b"2"):
            await producer.send_and_wait(topic, value, partition=0)
        return producer

    yield begin
    for producer in made:
        await producer.stop()


async def until(condition, deadline=20.0):
    async with asyncio.timeout(deadline):
        while not condition():  # noqa: ASYNC110 — gauges are looked at, there is no event
            await asyncio.sleep(0.01)


async def test_a_reader_knows_what_is_held_back_and_since_when(kafka, make_topic, open_at):
    topic = await make_topic(1)
    client = KafkaClient({"bootstrap_servers": kafka.bootstrap})
    await client.start()
    reader = PartitionReader(client, topic, 0, 0, max_wait_ms=50)
    try:
        writer = await open_at(topic)

        async def read_until(condition):
            async with asyncio.timeout(20):
                while not condition():
                    await reader.read(10, 0.05)

        await read_until(lambda: reader.unstable[0] == 2)
        first = reader.unstable[1]
        await read_until(lambda: reader.unstable[1] > first + 0.1)
        assert reader.lag() == 0, "what is held back cannot be read yet, and is no lag"
        await writer.commit_transaction()
        await read_until(lambda: reader.unstable == (0, 0.0))
    finally:
        await reader.close()
        await client.close()


def gauges(metrics):
    found = {}
    for family in metrics.snapshot().families:
        if family.name in (catalog.TOPIC_UNSTABLE_RECORDS.name, catalog.TOPIC_UNSTABLE_SECONDS.name):
            for labels, value in zip(family.labels, family.values, strict=True):
                found[family.name, tuple(labels)] = value
    return found


async def test_the_supervisor_sees_outputs_that_stand_still(kafka, make_topic, open_at, tmp_path):
    source, sink = await make_topic(1), await make_topic(2)
    text = (
        f"name: p\nkafka: {{bootstrap: '{kafka.bootstrap}'}}\n"
        f"source: {{kafka: {{topic: {source}, partitioned_by: key}}}}\n"
        f"stages:\n  - aggregate: {{by: key, values: {{seen: count()}}}}\nsink: {{kafka: {{topic: {sink}}}}}\n"
    )
    plan = build_plan(load_pipeline_text(text, tmp_path / "p.yaml", Registry.default(), {}, ServiceConfig()))
    assert written_topics("a", plan) == {sink, "streamd.a.p.aggregate.changelog"}
    metrics, plans = MetricSet(), [plan]
    records, seconds = catalog.TOPIC_UNSTABLE_RECORDS.name, catalog.TOPIC_UNSTABLE_SECONDS.name
    watching = asyncio.create_task(watch_topics("a", lambda: plans, metrics, interval=0.05))
    try:
        await until(lambda: gauges(metrics).get((records, (sink,))) == 0)
        writer = await open_at(sink)
        await until(lambda: gauges(metrics)[records, (sink,)] == 2)
        await until(lambda: gauges(metrics)[seconds, (sink,)] > 0.2)
        # Another one that goes on: the first still stands, and so does the offset.
        other = await open_at(sink)
        await other.commit_transaction()
        await until(lambda: gauges(metrics)[records, (sink,)] == 5)
        assert gauges(metrics)[seconds, (sink,)] > 0.2
        await writer.abort_transaction()
        await until(lambda: gauges(metrics)[records, (sink,)] == gauges(metrics)[seconds, (sink,)] == 0)
        plans.clear()
        await until(lambda: not gauges(metrics))
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_a_pipeline_without_kafka_is_not_looked_at(tmp_path):
    plan = SimpleNamespace(name="p", parts=(), config=SimpleNamespace(kafka=None))
    assert written_topics("a", plan) == set()

"""`streamd verify` on a broker: two nodes, state and dead letters, and nothing but the user's own topics afterwards."""

from __future__ import annotations

import json
import textwrap

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from services.command import streamd
from services.kafka import read_topic

pytestmark = pytest.mark.kafka

PIPELINE = """
name: totals
kafka:
  bootstrap: "${BOOTSTRAP}"
  options: {consumer.session.timeout.ms: 2000, consumer.heartbeat.interval.ms: 300}
source: {kafka: {topic: "${ORDERS}"}}
stages:
  - filter: amount > 10
  - aggregate: {by: user, values: {orders: count(), total: sum(amount)}}
sink: {kafka: {topic: "${ORDERS}-totals", key: user, create: {partitions: 2}}}
on_error: {dead_letter: {kafka: {topic: "${ORDERS}-dlq"}}}
"""


async def fill(bootstrap, topic, partitions, count):
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        for number in range(count):
            user, amount = number % 7, '"free"' if number == 5 else number
            value = f'{{"user": "u{user}", "amount": {amount}}}'.encode()
            await producer.send(topic, value, key=b"u%d" % user, partition=user % partitions)
        await producer.flush()
    finally:
        await producer.stop()


async def names(bootstrap):
    """All topics and groups that hold the word verify."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        found = [*await admin.list_topics(), *(name for name, _ in await admin.list_consumer_groups())]
    finally:
        await admin.close()
    return [name for name in found if "verify" in name]


async def test_a_stateful_pipeline_with_the_users_own_records(kafka, make_topic, tmp_path):
    topic = await make_topic(3)
    await fill(kafka.bootstrap, topic, 3, 60)
    file = tmp_path / "totals.yaml"
    file.write_text(textwrap.dedent(PIPELINE))
    done = streamd(
        "verify", file, "--kills", "6", "--records", "2000", "--sample", "100", "--report", tmp_path / "report.json",
        env={"BOOTSTRAP": kafka.bootstrap, "ORDERS": topic}, folder=tmp_path, deadline=170,
    )  # fmt: skip
    assert done.code == 0, done.all
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["inputs"] == {"source": "sampled: 60 of its own"}
    assert (report["nodes"], report["partitions"], report["records"]) == (2, 3, 2000)
    assert {output["output"]: output["order"] for output in report["outputs"]} == {
        "sink": "input partition", "dead_letter": "input partition",
    }  # fmt: skip
    assert all(output["records"] for output in report["outputs"]), done.all
    assert report["kills"]["node"] >= 1
    assert report["longest_stall"] > 0
    assert await names(kafka.bootstrap) == []
    assert len(await read_topic(kafka.bootstrap, topic)) == 60


def test_a_broker_that_is_not_there(tmp_path):
    file = tmp_path / "totals.yaml"
    file.write_text(textwrap.dedent(PIPELINE))
    done = streamd("verify", file, env={"BOOTSTRAP": "127.0.0.1:1", "ORDERS": "orders"}, folder=tmp_path)
    assert done.code == 1, done.all
    assert "cannot be reached" in done.err
    assert "--embedded" in done.err

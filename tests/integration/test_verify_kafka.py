"""`streamd verify` on a broker: two nodes, state and dead letters, and nothing but the user's own topics afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import textwrap
from contextlib import contextmanager

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from services.command import PROGRAM, streamd
from services.kafka import KafkaBroker, Topics, read_topic
from services.process import free_ports, wait_until

pytestmark = pytest.mark.kafka

PIPELINE = """
name: totals
kafka:
  bootstrap: "${BOOTSTRAP}"
  options: {consumer.session.timeout.ms: 2000, consumer.heartbeat.interval.ms: 300}
source: {kafka: {topic: "${ORDERS}", partitioned_by: user}}
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
    [port] = free_ports(1)
    done = streamd("verify", file, env={"BOOTSTRAP": f"127.0.0.1:{port}", "ORDERS": "orders"}, folder=tmp_path)
    assert done.code == 2, done.all
    assert "cannot be reached" in done.err
    assert "--embedded" in done.err
    assert len(done.err.splitlines()) == 1, done.all


@contextmanager
def disturbed(bootstrap, topic, folder):
    """A verification whose nodes run, with its scratch folders below `folder`/tmp."""
    (folder / "tmp").mkdir()
    file = folder / "totals.yaml"
    file.write_text(textwrap.dedent(PIPELINE))
    env = {**os.environ, "BOOTSTRAP": bootstrap, "ORDERS": topic, "TMPDIR": str(folder / "tmp")}
    command = [str(PROGRAM), "verify", str(file), "--kills", "500", "--records", "100000"]
    with (
        (folder / "err").open("wb") as err,
        subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=err) as process,
    ):
        try:
            wait_until(lambda: list((folder / "tmp").glob("*/kills/node-1/streamd.log")) != [], "nodes are killed", 120)
            yield process
        finally:
            process.kill()


@pytest.mark.campaign
async def test_an_interrupt_leaves_neither_topics_nor_files(kafka, make_topic, tmp_path):
    topic = await make_topic(2)
    with disturbed(kafka.bootstrap, topic, tmp_path) as process:
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 100) == 130
    assert await names(kafka.bootstrap) == []
    assert list((tmp_path / "tmp").iterdir()) == []
    assert "the scratch is deleted" in (tmp_path / "err").read_text()


@pytest.mark.campaign
async def test_the_next_one_deletes_what_one_that_was_killed_has_left(kafka, make_topic, tmp_path):
    topic = await make_topic(2)
    with disturbed(kafka.bootstrap, topic, tmp_path) as process:
        process.kill()
    assert await names(kafka.bootstrap) != []
    done = streamd(
        "verify", tmp_path / "totals.yaml", "--kills", "0", "--records", "200", folder=tmp_path, deadline=170,
        env={"BOOTSTRAP": kafka.bootstrap, "ORDERS": topic, "TMPDIR": str(tmp_path / "tmp")},
    )  # fmt: skip
    assert done.code == 0, done.all
    assert "Deleted what a killed verification had left: streamd-verify-" in done.out, done.all
    assert await names(kafka.bootstrap) == []
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.campaign
async def test_a_broker_that_goes_away_in_the_middle(tmp_path):
    broker = KafkaBroker(tmp_path / "broker")
    try:
        await asyncio.to_thread(broker.start)
        topic = await Topics(broker.bootstrap).make(2)
        with disturbed(broker.bootstrap, topic, tmp_path) as process:
            broker.kill()
            assert await asyncio.to_thread(process.wait, 150) == 2
        err = (tmp_path / "err").read_text()
        assert "Kafka went away in the middle" in err
        assert "Could not be deleted: topics streamd-verify-" in err
        assert len(err.splitlines()) == 3, err
        [folder] = (tmp_path / "tmp").iterdir()
        assert sorted(path.name for path in folder.iterdir()) == ["claim.json", "lock"]
    finally:
        broker.discard()

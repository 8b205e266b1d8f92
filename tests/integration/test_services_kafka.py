"""The broker that the other tests stand on: comes up, answers, survives what tests do to it, dies with pytest."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.kafka import KafkaBroker, KafkaCluster, Topics, describes, produce, read_topic
from services.process import ServiceError, wait_until

TESTS = Path(__file__).resolve().parents[1]

CHILD = """
import signal, sys
from pathlib import Path
from services.process import ServiceProcess
service = ServiceProcess(["sleep", "600"], Path(sys.argv[1]))
print(service.pid, flush=True)
signal.pause()
"""


async def test_topic_takes_and_gives_records(kafka, make_topic):
    topic = await make_topic(partitions=2, retention_ms=-1)
    await produce(kafka.bootstrap, topic, [(b"k%d" % n, b"v%d" % n) for n in range(100)], timestamp_ms=1)
    records = await read_topic(kafka.bootstrap, topic)
    assert sorted(record.value for record in records) == sorted(b"v%d" % n for n in range(100))
    assert {record.partition for record in records} == {0, 1}
    assert {record.timestamp for record in records} == {1}


async def test_unknown_topics_are_not_created_by_asking(kafka):
    assert await read_topic(kafka.bootstrap, "no-such-topic") == []
    assert await read_topic(kafka.bootstrap, "no-such-topic") == []


async def test_broker_of_ones_own_survives_crash_and_pause(tmp_path):
    broker = KafkaBroker(tmp_path, listeners={"SECOND": "PLAINTEXT"}, properties={"message.max.bytes": 2_000_000})
    try:
        await asyncio.to_thread(broker.start)
        assert describes(broker.address("SECOND"))
        topic = await Topics(broker.bootstrap).make()
        await produce(broker.bootstrap, topic, [b"a"])
        await asyncio.to_thread(broker.restart, crash=True)
        broker.pause()
        assert not describes(broker.bootstrap)
        broker.resume()
        await produce(broker.bootstrap, topic, [b"b"])
        assert [record.value for record in await read_topic(broker.bootstrap, topic)] == [b"a", b"b"]
    finally:
        broker.discard()
    assert not broker.running


async def test_cluster_goes_on_without_one_broker(kafka_cluster: KafkaCluster):
    topics = Topics(kafka_cluster.bootstrap)
    topic = await topics.make(partitions=3)
    victim = kafka_cluster.broker(3)
    await asyncio.to_thread(victim.kill)
    try:
        await produce(kafka_cluster.bootstrap, topic, [b"%d" % n for n in range(30)])
        assert len(await read_topic(kafka_cluster.bootstrap, topic)) == 30
    finally:
        await asyncio.to_thread(victim.start)
        await topics.delete_all()


def test_a_broker_that_does_not_come_up_fails_with_its_log(tmp_path):
    broker = KafkaBroker(tmp_path, properties={"num.network.threads": "many"})
    with pytest.raises(ServiceError, match=r"num\.network\.threads"):
        broker.start()


def test_services_die_with_the_session(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-c", CHILD, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as session:
        assert session.stdout is not None
        cmdline = Path(f"/proc/{int(session.stdout.readline())}/cmdline")
        # Before that, what has it die with its parent may not be set yet.
        wait_until(lambda: cmdline.read_bytes().startswith(b"sleep"), "the service runs", 60)
        session.send_signal(signal.SIGKILL)
    wait_until(lambda: not cmdline.exists() or not cmdline.read_bytes(), "the service ends", 60)

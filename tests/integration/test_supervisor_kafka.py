"""Whole nodes over a real broker: groups in the supervisor, tasks in workers, kills, rebalances, no broker at all."""

from __future__ import annotations

import json
import os
import signal
import uuid

import pytest

from faults.running_node import worker_pids
from services.kafka import produce, read_topic
from streamd.observability import catalog

pytestmark = pytest.mark.kafka

COPY = """
name: copy-{unique}
source: {{kafka: {{topic: {source}}}}}
stages:
  - set: {{double: number * 2}}
sink: {{kafka: {{topic: {sink}}}}}
kafka:
  bootstrap: "{bootstrap}"
  options: {{session.timeout.ms: 6000, heartbeat.interval.ms: 300}}
"""


@pytest.fixture
async def copy(kafka, make_topic):
    """(input topic, output topic, text of a pipeline between them), four partitions each."""
    source, sink = await make_topic(4), await make_topic(4)
    text = COPY.format(unique=uuid.uuid4().hex[:8], source=source, sink=sink, bootstrap=kafka.bootstrap)
    return source, sink, text


async def feed(kafka, topic, first, count):
    """Numbers from `first` on, by eleven keys."""
    values = [
        (str(n % 11).encode(), json.dumps({"key": n % 11, "number": n}).encode()) for n in range(first, first + count)
    ]
    await produce(kafka.bootstrap, topic, values)


async def numbers(kafka, topic, expected):
    """The numbers per key in the order of the output, of committed records."""
    records = await read_topic(kafka.bootstrap, topic, expected=expected)
    found = {}
    for record in records:
        document = json.loads(record.value)
        assert document["double"] == 2 * document["number"]
        found.setdefault(document["key"], []).append(document["number"])
    return found


def every(count):
    return {key: list(range(key, count, 11)) for key in range(11)}


async def test_until_idle_reads_all_partitions(kafka, copy, nodes):
    source, sink, text = copy
    await feed(kafka, source, 0, 3000)
    node = nodes()
    node.start({"copy.yaml": text}, until_idle=True, workers=2)
    summary = await node.ended()
    assert (summary.exit_code, summary.records_processed) == (0, 3000)
    assert await numbers(kafka, sink, 3000) == every(3000)


async def test_killed_workers_are_replaced_inside_the_generation(kafka, copy, nodes):
    """Nothing lost or repeated, and the group has not rebalanced for it: the member is the supervisor."""
    source, sink, text = copy
    node = nodes()
    node.start({"copy.yaml": text}, workers=2)
    total = 0
    for _ in range(5):
        await feed(kafka, source, total, 500)
        total += 500
        await read_topic(kafka.bootstrap, sink, expected=total)
        await feed(kafka, source, total, 500)
        os.kill(worker_pids()[0], signal.SIGKILL)
        total += 500
        await read_topic(kafka.bootstrap, sink, expected=total)
    assert await numbers(kafka, sink, total) == every(total)
    assert node.metrics.totals(catalog.REBALANCES) == 1


async def test_a_second_node_takes_its_share_and_gives_it_back(kafka, copy, nodes):
    """Rebalances under load lose and repeat nothing."""
    source, sink, text = copy
    first, second = nodes(), nodes()
    first.start({"copy.yaml": text}, workers=1)
    await first.until(lambda: first.status and first.status.pipelines[0].state == "running")
    await feed(kafka, source, 0, 2000)
    second.start({"copy.yaml": text}, workers=1)
    await second.until(lambda: second.status and len(second.status.pipelines[0].tasks) == 2)
    await first.until(lambda: len(first.status.pipelines[0].tasks) == 2)
    await feed(kafka, source, 2000, 2000)
    await read_topic(kafka.bootstrap, sink, expected=4000)
    second.drain()
    assert (await second.ended()).exit_code == 0
    await first.until(lambda: len(first.status.pipelines[0].tasks) == 4)
    await feed(kafka, source, 4000, 1000)
    assert await numbers(kafka, sink, 5000) == every(5000)
    await first.until(lambda: first.status.pipelines[0].state == "running")


async def test_an_unreachable_broker_is_said_and_with_until_idle_given_up(nodes):
    """Port 1 of this machine refuses connections."""
    text = COPY.format(unique="none", source="a", sink="b", bootstrap="127.0.0.1:1")
    node = nodes()
    node.start({"copy.yaml": text}, workers=1)
    await node.until(lambda: node.status and node.status.pipelines[0].unreachable)
    assert "127.0.0.1:1" in node.status.pipelines[0].unreachable[0]
    node.drain()
    assert (await node.ended()).exit_code == 0

"""A partition that is added while nodes run gets its task without a restart, and is read from its beginning."""

from __future__ import annotations

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from faults.nodes import CountedSystem, flowing
from faults.oracle import KEYS
from faults.systems import IN_PARTITIONS
from streamd.transport.kafka.admin import open_admin
from streamd.transport.kafka.settings import KafkaSettings

pytestmark = pytest.mark.kafka

ADDED = 500


class GrowingSystem(CountedSystem):
    """Records with keys that the others do not have are apart, in `added`: what came of the new partition."""

    def __init__(self, folder, bootstrap, **options):
        super().__init__(folder, bootstrap, **options)
        self.added = []

    async def _set_up(self):
        return (await super()._set_up()).replace(f"topic: {self.input}", f"topic: {self.input}, start: latest")

    def _saw(self, values):
        every = [(value, orjson.loads(value)) for value in values]
        self.added += [found["number"] for _, found in every if found["key"] >= KEYS]
        super()._saw([value for value, found in every if found["key"] < KEYS])

    async def _outputs(self):
        return [[found for found in partition if found["key"] < KEYS] for partition in await super()._outputs()]


@pytest.fixture
def nodes_system():
    return GrowingSystem


async def grow(system, count):
    """Give the input one more partition, and write to it at once."""
    async with open_admin(KafkaSettings(bootstrap=(system.bootstrap,))) as admin:
        await admin.create_partitions(system.input, count)
    producer = AIOKafkaProducer(bootstrap_servers=system.bootstrap)
    await producer.start()
    try:
        for number in range(ADDED):
            value = orjson.dumps({"key": KEYS + count, "number": number})
            await producer.send(system.input, value, key=b"added", partition=count - 1)
    finally:
        await producer.stop()


async def test_a_partition_is_added(nodes, tally):
    """Nothing is lost of a partition that is added while the pipeline runs or stands still, `start: latest` or not."""
    system = nodes.system
    first = await nodes.join()
    await nodes.join()
    await nodes.settled()
    async with flowing(system):
        await grow(system, IN_PARTITIONS + 1)
        tally.injected("kafka", "partition added")
        await system.until(lambda: len(system.added) >= ADDED, "the new partition is read", 20)
        await system.resumed()
        assert not any(node.logged("Task will be tried again") for node in nodes.alive)
    await system.complete()
    for node in tuple(nodes.alive):
        await nodes.leave(node)
    await grow(system, IN_PARTITIONS + 2)
    tally.injected("kafka", "partition added")
    nodes.alive.append(first)
    await first.start()
    await system.until(lambda: len(system.added) >= 2 * ADDED, "what was added while nothing ran is read")
    tally.judged("kafka", await nodes.exact())
    assert system.added == [*range(ADDED)] * 2

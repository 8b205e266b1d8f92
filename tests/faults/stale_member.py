"""A task whose node loses its membership while a transaction is open: does Kafka take its positions all the same?

`stale_member.py BOOTSTRAP TOPIC GROUP` prints `refused` or `committed`. A program of its own, so that a mutant can be
planted into it.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer

from streamd.errors import FencedError
from streamd.record import TaskId
from streamd.transport.kafka.client import KafkaClient
from streamd.transport.kafka.transactional import KafkaTransaction


@dataclass(frozen=True)
class Member:
    """What a supervisor hands to its workers."""

    group: str
    member_id: str
    generation: int


async def joined(bootstrap: str, topic: str, group: str) -> AIOKafkaConsumer:
    """A member that has the topic's partition."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    async with asyncio.timeout(30):
        while not consumer.assignment():  # noqa: ASYNC110 — there is no event
            await asyncio.sleep(0.01)
    return consumer


async def main(bootstrap: str, topic: str, group: str) -> str:
    """Open as a member, lose the membership to another one, and commit."""
    first = await joined(bootstrap, topic, group)
    coordinator = first._coordinator
    client = KafkaClient({"bootstrap_servers": bootstrap})
    source = ("source", 0)
    transaction = KafkaTransaction(client, TaskId("faults", topic, 0, 0), {source: topic}, group)
    transaction.update_membership(Member(group, coordinator.member_id, coordinator.generation))
    await transaction.open()
    await first.stop()
    second = await joined(bootstrap, topic, group)
    try:
        await transaction.put_positions({source: 1}, {})
        await transaction.commit()
        return "committed"
    except FencedError:
        return "refused"
    finally:
        await transaction.close()
        await client.close()
        await second.stop()


if __name__ == "__main__":
    print(asyncio.run(main(*sys.argv[1:4])))

"""CPU per record of streamd's Kafka reader and transaction beside aiokafka's consumer and producer, in one run.

    python bench/kafka_client.py [--bootstrap HOST:PORT] [--records N] [--rounds N]

Reads N records of about 217 bytes from one partition (read_committed), and writes N records to one partition in
transactions of 20,000 with an offset each. "aiokafka" is what a careful person writes by hand over it: `getmany`, and
batches built with `create_batch`. Each is measured once a round, in turns; the table has the best round of each, user
and system time of this process. Latency is that of a transaction with one record and one offset, median of 200.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamd.record import TaskId
from streamd.transport.kafka.client import KafkaClient
from streamd.transport.kafka.outbox import OutboxOptions
from streamd.transport.kafka.reader import PartitionReader
from streamd.transport.kafka.transactional import KafkaTransaction, TransactionOptions

PER_COMMIT = 20_000
PER_READ = 2000
VALUE = b'{"user":"user-%07d","ts":%d,"amount":%9.2f,"type":"order","note":"' + b"x" * 120 + b'"}'


def only_partition(key: bytes | None) -> int:
    """The partitioner of a topic with one partition."""
    return 0


class Bench:
    """The topics and clients that all measurements share."""

    def __init__(self, bootstrap: str, records: int) -> None:
        self.bootstrap, self.records = bootstrap, records
        self.input, self.output, self.group = (f"bench-{uuid.uuid4().hex}" for _ in range(3))
        start = 1_700_000_000_000
        self.rows = [
            (b"user-%07d" % (i * 7919 % 1000), VALUE % (i * 7919 % 1000, start + i, i % 900), start + i, ())
            for i in range(PER_COMMIT)
        ]

    async def run(self, rounds: int) -> None:
        """Measure and print."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        forever = {"retention.ms": "-1"}
        await admin.create_topics([NewTopic(name, 1, 1, topic_configs=forever) for name in (self.input, self.output)])
        client = KafkaClient({"bootstrap_servers": self.bootstrap})
        await client.start()
        try:
            await self.write_streamd(client, self.input)
            await self.measure(client, rounds)
        finally:
            await client.close()
            await admin.delete_topics([self.input, self.output])
            await admin.close()

    async def measure(self, client: KafkaClient, rounds: int) -> None:
        """Every way in turns, `rounds` times."""
        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "read, streamd": lambda: self.read_streamd(client),
            "read, aiokafka": self.read_aiokafka,
            "append and commit, streamd": lambda: self.write_streamd(client, self.output),
            "append and commit, aiokafka": self.write_aiokafka,
        }
        best: dict[str, float] = {}
        for _ in range(rounds):
            for name, way in ways.items():
                gc.collect()
                began = time.process_time()
                await way()
                spent = (time.process_time() - began) / self.records * 1e6
                best[name] = min(best.get(name, spent), spent)
        for name, spent in best.items():
            print(f"{name:30} {spent:6.3f} µs a record")
        print(f"{'small transaction, streamd':30} {await self.latency(client):6.2f} ms")

    async def read_streamd(self, client: KafkaClient) -> None:
        """Everything in the input, batch by batch."""
        reader = PartitionReader(client, self.input, 0, 0)
        left = self.records
        while left:
            left -= len(await reader.read(PER_READ, 5))
        await reader.close()

    async def read_aiokafka(self) -> None:
        """The same with a consumer."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            isolation_level="read_committed",
            enable_auto_commit=False,
            max_partition_fetch_bytes=2 << 20,
        )
        await consumer.start()
        partition = TopicPartition(self.input, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        left = self.records
        while left:
            for messages in (await consumer.getmany(timeout_ms=500, max_records=PER_READ)).values():
                left -= len(messages)
        await consumer.stop()

    def transaction(self, client: KafkaClient) -> KafkaTransaction:
        """A new transaction of one task."""
        options = TransactionOptions(outbox=OutboxOptions(batch_bytes=1 << 19))
        task = TaskId("bench", self.output, 0, 0)
        return KafkaTransaction(client, task, {("in", 0): self.input}, self.group, options)

    async def write_streamd(self, client: KafkaClient, topic: str) -> None:
        """`records` rows in transactions of PER_COMMIT."""
        transaction = self.transaction(client)
        await transaction.open()
        for done in range(0, self.records, PER_COMMIT):
            transaction.begin()
            for at in range(0, PER_COMMIT, PER_READ):
                transaction.append_rows(topic, self.rows[at : at + PER_READ], only_partition)
                await asyncio.sleep(0)
            await transaction.flush()
            await transaction.put_positions({("in", 0): done + PER_COMMIT}, {})
            await transaction.commit()
        await transaction.close()

    async def write_aiokafka(self) -> None:
        """The same with a transactional producer, one future a batch."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap,
            transactional_id=self.group,
            max_batch_size=1 << 19,
            max_request_size=8 << 20,
        )
        await producer.start()
        for done in range(0, self.records, PER_COMMIT):
            await producer.begin_transaction()
            sent = []
            batch = producer.create_batch()
            for key, value, timestamp, _ in self.rows:
                if batch.append(key=key, value=value, timestamp=timestamp) is None:
                    batch.close()
                    sent.append(await producer.send_batch(batch, self.output, partition=0))
                    batch = producer.create_batch()
                    batch.append(key=key, value=value, timestamp=timestamp)
            batch.close()
            sent.append(await producer.send_batch(batch, self.output, partition=0))
            await asyncio.gather(*sent)
            await producer.send_offsets_to_transaction({TopicPartition(self.input, 0): done + PER_COMMIT}, self.group)
            await producer.commit_transaction()
        await producer.stop()

    async def latency(self, client: KafkaClient) -> float:
        """Median ms from the first append to the commit's acknowledgement, one record each."""
        transaction = self.transaction(client)
        await transaction.open()
        took = []
        for number in range(200):
            await asyncio.sleep(0.01)
            began = time.perf_counter()
            transaction.begin()
            transaction.append(self.output, 0, *self.rows[number])
            await transaction.flush()
            await transaction.put_positions({("in", 0): number}, {})
            await transaction.commit()
            took.append((time.perf_counter() - began) * 1000)
        await transaction.close()
        return statistics.median(took)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", default="127.0.0.1:39092")
    parser.add_argument("--records", type=int, default=400_000, help=f"a multiple of {PER_COMMIT}")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    records = max(arguments.records // PER_COMMIT, 1) * PER_COMMIT
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Bench(arguments.bootstrap, records).run(arguments.rounds))


if __name__ == "__main__":
    main()

"""A constant stream of records into Kafka, the pipeline that works on it, and the judge of what comes out."""

from __future__ import annotations

import asyncio
import textwrap
import time
import uuid
from pathlib import Path

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from faults.oracle import KEYS, Verdict, document, partition_of
from services.kafka import Topics
from soaking.stream_judge import StreamJudge

PARTITIONS = 6
SLICE = 0.1  # seconds between two slices of records
CATCH_UP = 2.0  # how much faster than the rate, after the broker was away
# A broker that crashes forgets idempotent producers whose newest record is older than `producer.id.expiration.ms`, and
# takes what such a producer sends again for new: the input itself would come twice.
TIMESTAMP = int(time.time() * 1000)
APP = "soak"

PIPELINE = """
    name: {name}
    kafka:
      bootstrap: "{bootstrap}"
      options: {{session.timeout.ms: 6000, heartbeat.interval.ms: 1000}}
    source: {{kafka: {{topic: {input}, partitioned_by: key}}}}
    stages:
      - filter: number >= 0
      - set: {{double: number * 2}}
    {more}sink: {{kafka: {{topic: {output}}}}}
"""
AGGREGATE = (
    "  - aggregate: {by: key, values: {number: last(number), double: last(double), "
    "seen: count(), total: sum(number)}}\n"
)


class Load:
    """Feeds `rate` records a second and judges what comes out. `state`: whether the pipeline keeps running totals.

    `bootstrap` is the broker's own address; what the nodes are told is given to `open`.
    """

    def __init__(self, bootstrap: str, rate: int, state: bool) -> None:
        self.bootstrap = bootstrap
        self.rate = rate
        self.fed = 0
        self.name = f"soak-{uuid.uuid4().hex[:8]}"
        self.state = state
        self.judged = StreamJudge(PARTITIONS, running=state)
        self._topics = Topics(bootstrap)

    async def open(self, nodes_bootstrap: str) -> str:
        """Make the topics; returns the pipeline's text."""
        self.input = await self._topics.make(PARTITIONS, "soak-in")
        self.output = await self._topics.make(PARTITIONS, "soak-out")
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, enable_idempotence=True, request_timeout_ms=120_000
        )
        await self._producer.start()
        return textwrap.dedent(PIPELINE).format(
            name=self.name,
            bootstrap=nodes_bootstrap,
            input=self.input,
            output=self.output,
            more=AGGREGATE if self.state else "",
        )

    async def close(self) -> None:
        await self._producer.stop()
        await self._topics.delete_all()

    async def feed(self, enough: asyncio.Event) -> None:
        """Feed until told that it is enough."""
        began = time.monotonic()
        most = int(self.rate * SLICE * CATCH_UP)
        while not enough.is_set():
            await self._write(min(int((time.monotonic() - began) * self.rate) - self.fed, most))
            await asyncio.sleep(SLICE)

    async def follow(self) -> None:
        """Judge what is committed as it comes, until cancelled."""
        await self._judge(self.judged, None)

    async def resumed(self, deadline: float) -> float:
        """Wait until records fed from now on have come out of every input partition; seconds from now."""
        began, mark = time.monotonic(), self.fed
        async with asyncio.timeout(deadline):
            while min(self.judged.newest.values()) < mark:  # noqa: ASYNC110 — there is no event
                await asyncio.sleep(0.01)
        return time.monotonic() - began

    async def complete(self, deadline: float) -> None:
        """Wait until as many records came out as were fed; raises TimeoutError that says how many did."""
        try:
            async with asyncio.timeout(deadline):
                while self.judged.came < self.fed:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise TimeoutError(f"{self.judged.came} of {self.fed} records came within {deadline:g} s") from None

    async def verdicts(self) -> tuple[Verdict, Verdict]:
        """Of what was followed, and of the whole output read once more. Nothing may run any more."""
        positions, ends = await self._positions(), await self._ends(self.input, "read_uncommitted")
        again = StreamJudge(PARTITIONS, running=self.state)
        await self._judge(again, await self._ends(self.output, "read_committed"))
        return self.judged.verdict(self.fed, positions, ends), again.verdict(self.fed, positions, ends)

    async def open_transactions(self) -> int:
        """Output partitions whose last stable offset is not their end."""
        stable = await self._ends(self.output, "read_committed")
        ends = await self._ends(self.output, "read_uncommitted")
        return sum(stable[partition] != end for partition, end in ends.items())

    async def _write(self, count: int) -> None:
        if count <= 0:
            return
        batches = {partition: self._producer.create_batch() for partition in range(PARTITIONS)}
        for n in range(self.fed, self.fed + count):
            batch = batches[partition_of(n, PARTITIONS)]
            key, value = str(n % KEYS).encode(), orjson.dumps(document(n))
            if batch.append(key=key, value=value, timestamp=TIMESTAMP) is None:
                raise ValueError(f"{count} records do not fit into one batch for each partition: lower the rate")
        sent = []
        for partition, batch in batches.items():
            batch.close()
            if batch.record_count():
                sent.append(await self._producer.send_batch(batch, self.input, partition=partition))
        for future in sent:
            await future
        self.fed += count

    async def _judge(self, judge: StreamJudge, ends: dict[int, int] | None) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=200,
        )
        await consumer.start()
        try:
            partitions = [TopicPartition(self.output, number) for number in range(PARTITIONS)]
            consumer.assign(partitions)
            while True:
                for at, records in (await consumer.getmany(timeout_ms=500)).items():
                    judge.saw(at.partition, (orjson.loads(record.value) for record in records))
                if ends is not None and all([await consumer.position(at) >= ends[at.partition] for at in partitions]):
                    return
        finally:
            await consumer.stop()

    async def _positions(self) -> dict[int, int]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            offsets = await admin.list_consumer_group_offsets(f"streamd.{APP}.{self.name}")
        finally:
            await admin.close()
        return {at.partition: found.offset for at, found in offsets.items() if at.topic == self.input}

    async def _ends(self, topic: str, isolation: str) -> dict[int, int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, isolation_level=isolation)
        await consumer.start()
        try:
            ends = await consumer.end_offsets([TopicPartition(topic, number) for number in range(PARTITIONS)])
        finally:
            await consumer.stop()
        return {at.partition: end for at, end in ends.items()}


def write_pipeline(folder: Path, text: str) -> None:
    """Put the pipeline where a node finds it."""
    (folder / "pipelines").mkdir(parents=True, exist_ok=True)
    (folder / "pipelines" / "soak.yaml").write_text(text)

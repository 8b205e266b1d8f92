"""What a broker may refuse or forget, batches, topics, producers, positions: it passes, or it is said."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import orjson
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from faults.brokers import QUICK, assert_exact, flowing, lasts, set_topic
from faults.systems import IN_PARTITIONS, OUT_PARTITIONS, TIMESTAMP, KafkaSystem
from services.kafka import KafkaBroker, read_topic

pytestmark = pytest.mark.kafka


@pytest.fixture
async def system(kafka, tmp_path):
    made = KafkaSystem(tmp_path, kafka.bootstrap, **QUICK)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def admin(kafka):
    opened = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await opened.start()
    yield opened
    await opened.close()


async def test_a_topic_takes_smaller_batches_from_now_on(system, run_daemon, tally):
    """max.message.bytes is lowered in the middle: a batch is refused, and what was in it comes in smaller ones."""
    daemon = await run_daemon(workers=1)
    for limit in (100_000, 2000, 400):
        await set_topic(system, system.output, max_message_bytes=limit)
        await system.feed(10_000)
        await system.complete()
        tally.injected(
            "kafka", "batch too large", daemon.log.read_text().count(f"batches of at most {limit} bytes") > 0
        )
    assert "takes batches of at most" in daemon.log.read_text()
    await assert_exact(system, daemon, tally)
    assert not daemon.logged("Pipeline failed")


async def remade(admin, topic, partitions, missed=lambda: True):
    """Delete a topic, and make another one of its name, once it was missed."""
    await admin.delete_topics([topic])
    async with asyncio.timeout(30):
        while not missed():  # noqa: ASYNC110 — there is no event
            await asyncio.sleep(0.05)
        while topic in await admin.list_topics():  # noqa: ASYNC110 — there is no event
            await asyncio.sleep(0.05)
        while (answer := await admin.create_topics([NewTopic(topic, partitions, -1, {}, {})])).topic_errors[0][1]:
            assert answer.topic_errors[0][1] == 36, answer  # the old one is not all gone yet
            await asyncio.sleep(0.05)


async def by_key(system):
    """{key: its numbers in the output, in order}."""
    found = defaultdict(list)
    for record in await read_topic(system.bootstrap, system.output):
        document = orjson.loads(record.value)
        found[document["key"]].append(document["number"])
    return found


async def test_an_output_is_deleted_and_made_anew(system, run_daemon, tally, admin):
    """What went into the old topic is gone by its owner's hand; the new one has all that came later, once, in order."""
    daemon = await run_daemon(workers=1)
    async with flowing(system):
        await remade(admin, system.output, OUT_PARTITIONS)
        tally.injected("kafka", "output made anew")
        await system.resumed()
    last = {n % 60: n // 60 for n in range(system.fed)}
    async with asyncio.timeout(60):
        while {key: numbers[-1] for key, numbers in (await by_key(system)).items()} != last:
            daemon.check()
            await asyncio.sleep(0.2)
    assert await daemon.drain() == 0
    for numbers in (await by_key(system)).values():
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert not daemon.logged("Pipeline failed")


async def test_an_input_is_deleted_and_made_anew(system, run_daemon, tally, admin):
    """Positions in the old topic mean nothing in the new one, even where it has records: it is read from its start."""
    daemon = await run_daemon(workers=1)
    await system.feed(3000)
    await system.complete()
    missed = f"{system.input}[0]: "
    await remade(admin, system.input, IN_PARTITIONS, lambda: missed in daemon.log.read_text())
    tally.injected("kafka", "input made anew")
    await system.feed(6000)
    await system.complete()
    assert await daemon.drain() == 0
    verdict = await system.verdict()
    assert (verdict.lost, verdict.duplicated, verdict.disordered, verdict.came) == (0, 0, 0, 9000)


async def test_retention_passes_the_position(system, run_daemon, tally, admin):
    """Records are deleted before they were read: the pipeline stops and says so, and goes on only where told to."""
    daemon = await run_daemon(workers=1)
    async with flowing(system):
        pass
    await system.complete()
    assert await daemon.drain() == 0
    before = await system._ends()
    await system.feed(3000)
    ends = await system._ends()
    lost = {TopicPartition(system.input, p): RecordsToDelete(before[p] + 500) for p in range(IN_PARTITIONS)}
    await admin.delete_records(lost)
    tally.injected("kafka", "position lost")
    daemon = await run_daemon(workers=1)
    await system.until(lambda: daemon.logged("Pipeline failed"), "the pipeline stops")
    [failed] = daemon.logged("Pipeline failed")
    assert "is not in the topic any more" in failed["message"]
    assert await daemon.drain() == 1
    assert await system._positions() == before
    [pipeline] = (system.folder / "pipelines").glob("*.yaml")
    text = pipeline.read_text().replace(f"topic: {system.input}", f"topic: {system.input}, on_position_lost: earliest")
    pipeline.write_text(text)
    daemon = await run_daemon(workers=1)
    expected = system.fed - 500 * IN_PARTITIONS
    await system.until(lambda: system.came >= expected, "what is left comes out")
    assert await daemon.drain() == 0
    verdict = await system.verdict()
    assert (verdict.lost, verdict.duplicated, verdict.disordered) == (500 * IN_PARTITIONS, 0, 0)
    assert await system._positions() == ends


class TransactionalInput(KafkaSystem):
    """Its input comes in transactions, each between two that were aborted."""

    async def _set_up(self):
        text = await super()._set_up()
        self._writer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, transactional_id=f"feed-{self.pipeline}")
        await self._writer.start()
        return text

    async def _tear_down(self):
        await self._writer.stop()
        await super()._tear_down()

    async def _write(self, values):
        for committed in (False, True, False):
            await self._writer.begin_transaction()
            for partition, pairs in enumerate(values):
                for key, value in pairs[: None if committed else 5]:
                    await self._writer.send(self.input, value, key, partition=partition, timestamp_ms=TIMESTAMP)
            await self._writer.flush()
            await (self._writer.commit_transaction() if committed else self._writer.abort_transaction())


async def test_an_input_with_aborted_data_and_markers_at_its_end(kafka, tmp_path, run_daemon, tally):
    """None of the aborted data comes out, the end is reached all the same, and a restart begins nothing anew."""
    system = TransactionalInput(tmp_path, kafka.bootstrap, **QUICK)
    await system.open()
    try:
        for _ in range(2):
            daemon = await run_daemon(workers=1)
            async with flowing(system):
                await system.resumed()
            await system.complete()
            assert await daemon.drain() == 0
        verdict = await system.verdict()
        tally.injected("kafka", "aborted input", system.fed // 200 * 2)
        tally.judged("kafka", verdict)
        assert (verdict.lost, verdict.duplicated, verdict.disordered, verdict.wrong) == (0, 0, 0, 0)
        assert verdict.came == verdict.fed
        # Behind the last record are only aborted ones and markers: at most 5, and 2 markers.
        assert all(end - (position or 0) <= 7 for position, end in verdict.unread.values()), verdict.unread
    finally:
        await system.close()


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory):
    """A broker that forgets transactional ids and producers after two seconds without a sign of them."""
    short = {
        "transactional.id.expiration.ms": 2000,
        "transaction.remove.expired.transaction.cleanup.interval.ms": 200,
        "producer.id.expiration.ms": 2000,
        "producer.id.expiration.check.interval.ms": 200,
    }
    made = KafkaBroker(tmp_path_factory.mktemp("forgetful"), properties=short)
    try:
        made.start()
        yield made
    finally:
        made.discard()


@pytest.mark.campaign
async def test_producers_that_the_broker_has_forgotten(forgetful, tmp_path, run_daemon, tally):
    """A task that had nothing to do for longer than its transactional id is kept: it opens anew, and loses nothing."""
    system = KafkaSystem(tmp_path, forgetful.bootstrap, stateful=True, **QUICK)
    await system.open()
    try:
        daemon = await run_daemon(workers=1)
        for _ in range(3):
            async with flowing(system):
                await system.resumed()
            await system.complete()
            await lasts(4)
            tally.injected("kafka", "transactional id expired", IN_PARTITIONS)
        async with flowing(system):
            await system.resumed()
        assert "INVALID_PRODUCER_ID_MAPPING" in daemon.log.read_text(), "or else this is about nothing"
        await assert_exact(system, daemon, tally)
        assert not daemon.logged("Pipeline failed")
    finally:
        await system.close()

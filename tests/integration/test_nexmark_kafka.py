"""The whole job on real input: NEXMark events through a real broker, answered by YAML, equal to the known answers."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from services.command import service_file, streamd
from services.kafka import KafkaBroker, Topics, read_topic
from services.nexmark import QUERIES, ROWS, difference, rows, unpack
from services.process import REPOSITORY

PIPELINES = REPOSITORY / "config" / "pipelines" / "nexmark"
PARTITIONS = 4


@pytest.fixture(scope="session")
def nexmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("nexmark"))


@pytest.fixture(scope="module")
def events_topic(kafka: KafkaBroker, nexmark: Path):
    """The events in a topic of four partitions, spread round-robin, each with its own (historic) time."""
    topics = Topics(kafka.bootstrap)
    yield asyncio.run(load(topics, (nexmark / "events.ndjson").read_bytes().splitlines()))
    asyncio.run(topics.delete_all())


async def load(topics: Topics, lines: list[bytes]) -> str:
    topic = await topics.make(partitions=PARTITIONS, prefix="nexmark", retention_ms=-1)
    producer = AIOKafkaProducer(bootstrap_servers=topics.bootstrap, linger_ms=5, max_batch_size=512 * 1024)
    await producer.start()
    try:
        for number, line in enumerate(lines):
            [event] = json.loads(line).values()
            await producer.send(topic, line, partition=number % PARTITIONS, timestamp_ms=event["date_time"])
        await producer.flush()
    finally:
        await producer.stop()
    return topic


@pytest.mark.kafka
@pytest.mark.parametrize("query", QUERIES)
async def test_answers_through_kafka(query, kafka, events_topic, make_topic, nexmark, tmp_path):
    out = await make_topic(partitions=PARTITIONS, prefix=query, retention_ms=-1)
    app = f"nexmark-{uuid.uuid4().hex[:8]}"
    ended = await asyncio.to_thread(
        streamd,
        *("run", PIPELINES / "kafka" / f"{query}.yaml", "--config", service_file(tmp_path, app), "--until-idle"),
        env={"KAFKA_BOOTSTRAP": kafka.bootstrap, "EVENTS": events_topic, "OUT": out},
    )
    assert ended.code == 0, ended.all
    records = await read_topic(kafka.bootstrap, out)
    answer = rows((nexmark / f"{query}.ndjson").read_bytes().splitlines())
    assert answer.total() == ROWS[query]
    assert difference(rows(record.value for record in records), answer) == ""


@pytest.mark.parametrize("query", QUERIES)
def test_answers_on_embedded(query, nexmark, tmp_path):
    out = tmp_path / "out.ndjson"
    ended = streamd(
        *("run", PIPELINES / f"{query}.yaml", "--config", service_file(tmp_path, "nexmark"), "--until-idle"),
        env={"EVENTS": str(nexmark / "events.ndjson"), "OUT": str(out)},
    )
    assert ended.code == 0, ended.all
    answer = rows((nexmark / f"{query}.ndjson").read_bytes().splitlines())
    assert difference(rows(out.read_bytes().splitlines()), answer) == ""


async def test_a_second_run_reads_nothing_again(kafka, events_topic, make_topic, tmp_path):
    """Positions are committed with the output: what was answered once is not answered twice."""
    out = await make_topic(partitions=PARTITIONS, retention_ms=-1)
    service = service_file(tmp_path, f"nexmark-{uuid.uuid4().hex[:8]}")
    env = {"KAFKA_BOOTSTRAP": kafka.bootstrap, "EVENTS": events_topic, "OUT": out}
    for _ in range(2):
        ended = await asyncio.to_thread(
            streamd, "run", PIPELINES / "kafka" / "q2.yaml", "--config", service, "--until-idle", env=env
        )
        assert ended.code == 0, ended.all
    assert len(await read_topic(kafka.bootstrap, out)) == ROWS["q2"]


def test_both_transports_answer_with_the_same_stages():
    for query in QUERIES:
        embedded, kafka = (PIPELINES / f"{query}.yaml").read_text(), (PIPELINES / "kafka" / f"{query}.yaml").read_text()
        stages = embedded.split("stages:\n")[1].split("sink:\n")[0]
        assert stages == kafka.split("stages:\n")[1].split("sink:\n")[0]

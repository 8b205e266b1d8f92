"""The whole job on real input: the 24 queries of NEXMark in YAML, equal to the answers of Apache Flink.

From a file through the embedded log, and through a real broker from topics of one and of four partitions; with four,
and once more on embedded, workers are killed meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import time
import uuid
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from services.command import PROGRAM, service_file, streamd
from services.kafka import KafkaBroker, Topics, read_topic
from services.nexmark import QUERIES, difference, rows, unpack
from services.process import REPOSITORY

PIPELINES = REPOSITORY / "config" / "pipelines" / "nexmark"
DEADLINE = 150.0
KILLS = 3


@pytest.fixture(scope="session")
def nexmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("nexmark"))


@pytest.fixture(scope="module")
def events(kafka: KafkaBroker, nexmark: Path):
    """{partitions: a topic with the events spread over them round-robin, each with its own (historic) time}."""
    topics = Topics(kafka.bootstrap)
    lines = (nexmark / "events.ndjson").read_bytes().splitlines()
    yield {partitions: asyncio.run(load(topics, lines, partitions)) for partitions in (1, 4)}
    asyncio.run(topics.delete_all())


async def load(topics: Topics, lines: list[bytes], partitions: int) -> str:
    topic = await topics.make(partitions=partitions, prefix="nexmark", retention_ms=-1)
    producer = AIOKafkaProducer(bootstrap_servers=topics.bootstrap, linger_ms=5, max_batch_size=512 * 1024)
    await producer.start()
    try:
        for number, line in enumerate(lines):
            [event] = json.loads(line).values()
            await producer.send(topic, line, partition=number % partitions, timestamp_ms=event["date_time"])
        await producer.flush()
    finally:
        await producer.stop()
    return topic


def answer(nexmark: Path, query: str):
    return rows(query, (nexmark / f"{query}.ndjson").read_bytes().splitlines())


def run_and_kill(query: str, folder: Path, service: Path, env: dict[str, str], seed: int) -> int:
    """Run a query to its end and kill workers at random moments meanwhile. Returns how many were killed."""
    chance, killed = random.Random(seed), 0
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STREAMD_")}
    command = [PROGRAM, "run", PIPELINES / f"{query}.yaml", "--config", service, "--until-idle"]
    log = folder / "log"
    with log.open("wb") as output:
        node = subprocess.Popen(command, cwd=folder, env={**inherited, **env}, stdout=output, stderr=output)
        began = time.monotonic()
        while node.poll() is None and time.monotonic() < began + DEADLINE:
            time.sleep(chance.uniform(0.05, 0.4))
            with contextlib.suppress(OSError):
                workers = [pid for pid in children(node.pid) if killed < KILLS]
                if workers:
                    os.kill(workers[0], signal.SIGKILL)
                    killed += 1
        if node.poll() is None:
            node.kill()
    assert node.wait() == 0, log.read_text()[-8000:]
    return killed


def children(pid: int) -> list[int]:
    """The worker processes of a node."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found if "streamd.runtime.worker" in Path(f"/proc/{child}/cmdline").read_text()]


@pytest.mark.parametrize("query", QUERIES)
def test_answers_on_embedded(query, nexmark, tmp_path):
    """As the head of each pipeline's file says, with paths from the working directory."""
    service = service_file(tmp_path, "nexmark")
    (tmp_path / "events.ndjson").symlink_to(nexmark / "events.ndjson")
    (tmp_path / "side_input.csv").symlink_to(nexmark / "side_input.csv")
    ended = streamd(
        *("run", PIPELINES / f"{query}.yaml", "--config", service, "--until-idle"),
        env={"EVENTS": "events.ndjson", "SIDE": "side_input.csv", "OUT": "out.ndjson"},
        folder=tmp_path,
    )
    assert ended.code == 0, ended.all
    assert difference(rows(query, (tmp_path / "out.ndjson").read_bytes().splitlines()), answer(nexmark, query)) == ""


@pytest.mark.parametrize("query", QUERIES)
def test_answers_on_embedded_with_kills(query, nexmark, tmp_path):
    env = {
        "EVENTS": str(nexmark / "events.ndjson"),
        "SIDE": str(nexmark / "side_input.csv"),
        "OUT": str(tmp_path / "out.ndjson"),
    }
    run_and_kill(query, tmp_path, service_file(tmp_path, "nexmark"), env, seed=QUERIES.index(query))
    assert difference(rows(query, (tmp_path / "out.ndjson").read_bytes().splitlines()), answer(nexmark, query)) == ""


@pytest.mark.kafka
@pytest.mark.parametrize("partitions", [1, 4])
@pytest.mark.parametrize("query", QUERIES)
async def test_answers_through_kafka(query, partitions, kafka, events, make_topic, nexmark, tmp_path):
    """With four partitions through exchanges and with workers killed; by the environment alone."""
    out = await make_topic(partitions=partitions, prefix=query, retention_ms=-1)
    service = service_file(tmp_path, f"nexmark-{uuid.uuid4().hex[:8]}")
    env = {
        "KAFKA_BOOTSTRAP": kafka.bootstrap,
        "EVENTS": f"kafka:{events[partitions]}?end=latest",
        "SIDE": str(nexmark / "side_input.csv"),
        "OUT": f"kafka:{out}",
    }
    if partitions == 1:
        ended = await asyncio.to_thread(
            streamd, *("run", PIPELINES / f"{query}.yaml", "--config", service, "--until-idle"), env=env
        )
        assert ended.code == 0, ended.all
    else:
        await asyncio.to_thread(run_and_kill, query, tmp_path, service, env, QUERIES.index(query))
    records = await read_topic(kafka.bootstrap, out)
    assert difference(rows(query, (record.value for record in records)), answer(nexmark, query)) == ""


async def test_a_second_run_reads_nothing_again(kafka, events, make_topic, nexmark, tmp_path):
    """Positions are committed with the output: what was answered once is not answered twice."""
    out = await make_topic(partitions=4, retention_ms=-1)
    service = service_file(tmp_path, f"nexmark-{uuid.uuid4().hex[:8]}")
    env = {"KAFKA_BOOTSTRAP": kafka.bootstrap, "EVENTS": f"kafka:{events[4]}", "OUT": f"kafka:{out}"}
    for _ in range(2):
        ended = await asyncio.to_thread(
            streamd, "run", PIPELINES / "q2.yaml", "--config", service, "--until-idle", env=env
        )
        assert ended.code == 0, ended.all
    records = await read_topic(kafka.bootstrap, out)
    assert difference(rows("q2", (record.value for record in records)), answer(nexmark, "q2")) == ""

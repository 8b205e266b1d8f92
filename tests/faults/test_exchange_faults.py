"""Workers killed with -9 while records move by key through an exchange: nothing lost, nothing twice, order kept."""

from __future__ import annotations

import asyncio
import os
import random
import signal

import orjson
import pytest

from faults.campaign import kill_often
from faults.conftest import SHORT_SESSION
from faults.systems import EmbeddedSystem, KafkaSystem
from integration.kafka.test_kafka_exchange import PIPELINE, events, feed, windows
from services.kafka import read_topic


def exchanging(text: str, partitions: int) -> str:
    """The pipeline's text, with an exchange before what counts by key."""
    head, _, tail = text.partition("sink:")
    return f"{head.rstrip()}\n  - key_by: {{by: key, partitions: {partitions}}}\nsink:{tail}"


class KafkaExchange(KafkaSystem):
    partitions = 4

    async def _set_up(self):
        return exchanging(await super()._set_up(), self.partitions)


class EmbeddedExchange(EmbeddedSystem):
    partitions = 4

    async def _set_up(self):
        return exchanging(await super()._set_up(), self.partitions)

    async def _positions(self):
        rows = await asyncio.to_thread(self._ask, "SELECT partition, position FROM position WHERE source='source'")
        return {partition: int(position) for partition, position in rows}


@pytest.fixture(params=["kafka", "embedded"])
async def exchange(request, tmp_path):
    if request.param == "kafka":
        bootstrap = request.getfixturevalue("kafka").bootstrap
        made = KafkaExchange(tmp_path, bootstrap, stateful=True, **SHORT_SESSION)
    else:
        made = EmbeddedExchange(tmp_path, stateful=True)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


async def test_eight_kills_on_both_sides_of_an_exchange(exchange, run_daemon):
    daemon = await run_daemon(workers=2)
    campaign = await kill_often(exchange, daemon, kills=8, records=60_000, seed=8)
    await exchange.complete()
    replaced = await daemon.replaced()
    assert await daemon.drain() == 0
    verdict = await exchange.verdict()
    assert verdict.exact, verdict
    assert verdict.fed == 60_000
    assert campaign.kills == replaced == 8
    assert await exchange.open_transactions() == 0


async def test_windows_of_a_bounded_input_are_exact_and_end_under_kills(kafka, make_topic, tmp_path, run_daemon):
    """Also those who are killed when others have said that they are over."""
    chance = random.Random(4)
    source, out = await make_topic(4), await make_topic(2)
    documents = events(chance, 40_000)
    await feed(kafka.bootstrap, source, documents, 4)
    (tmp_path / "pipelines").mkdir()
    text = PIPELINE.format(
        servers=kafka.bootstrap, source=source, out=out, settings="end: latest, ", idle="", by="user"
    )
    (tmp_path / "pipelines" / "p.yaml").write_text(text)
    # Slow enough to be killed before it is through, on a machine without other work as well.
    daemon = await run_daemon(workers=2, app=f"ends-{source}", env={"STREAMD_FAULT": "before_commit:sleep=0.3"})
    kills = 0

    async def kill():
        nonlocal kills
        while kills < 6:
            await asyncio.sleep(chance.random() * 0.4)
            for pid in (await daemon.at_work())[:1]:
                os.kill(pid, signal.SIGKILL)
                kills += 1

    killing = asyncio.create_task(kill())
    assert await daemon.ended(120) == 0
    killing.cancel()
    assert kills
    results = [orjson.loads(record.value) for record in await read_topic(kafka.bootstrap, out)]
    found = {(one["user"], one["window_start"]): (one["n"], one["total"]) for one in results}
    assert len(found) == len(results)
    assert found == windows(documents)

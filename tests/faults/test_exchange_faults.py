"""Workers killed with -9 while records move by key through an exchange: nothing lost, nothing twice, order kept."""

from __future__ import annotations

import asyncio

import pytest

from faults.campaign import kill_often
from faults.conftest import SHORT_SESSION
from faults.systems import EmbeddedSystem, KafkaSystem


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

"""What the tests of broker faults share: input that flows, the judgement, and a pipeline behind a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from faults.campaign import flow
from faults.daemon import Daemon
from faults.oracle import Verdict
from faults.proxy import Proxy
from faults.systems import KafkaSystem
from faults.tally import Tally
from services.kafka import KafkaBroker

# A request that is not answered is given up after a second: faults pass in seconds, and not in tens of them.
QUICK = {"request.timeout.ms": 1000, "session.timeout.ms": 6000, "heartbeat.interval.ms": 200}


class ProxiedSystem(KafkaSystem):
    """Its pipeline reaches the broker through `proxy` only; those who feed and look go there directly."""

    def __init__(self, folder: Path, broker: KafkaBroker, seed: int = 0, *, stateful: bool = False) -> None:
        super().__init__(folder, broker.bootstrap, stateful=stateful, **QUICK)
        host, port = broker.behind_proxy.split(":")
        self.proxy = Proxy(host, int(port), seed)
        self._proxy_port = broker.proxy_port

    async def _set_up(self) -> str:
        await self.proxy.start(self._proxy_port)
        return (await super()._set_up()).replace(self.bootstrap, f"127.0.0.1:{self._proxy_port}")

    async def _tear_down(self) -> None:
        await super()._tear_down()
        await self.proxy.stop()

    def count(self, tally: Tally) -> Counter[str]:
        """Put what the proxy has done since the last time into the tally; what it was."""
        done, self.proxy.injected = self.proxy.injected, Counter()
        for what, count in done.items():
            tally.injected("kafka", what, count)
        return done


async def lasts(seconds: float) -> None:
    """A fault goes on for so long: the time is part of the fault, and no wait for anything."""
    await asyncio.sleep(seconds)


@contextlib.asynccontextmanager
async def flowing(system: KafkaSystem, pause: float = 0.1, deadline: float = 60.0) -> AsyncIterator[None]:
    """Input flows, and output came already."""
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(flow(system, enough, random.Random(5), pause=pause))
        try:
            await system.until(lambda: min(system.newest.values()) >= 0, "the first output", deadline)
            yield
        finally:
            enough.set()


async def assert_exact(system: KafkaSystem, daemon: Daemon, tally: Tally, *, drain: bool = True) -> Verdict:
    """Everything comes out, the node ends in order, and nothing was lost, doubled or left open."""
    await system.complete()
    if drain:
        assert await daemon.drain() == 0, daemon.log.read_text()[-3000:]
    verdict = await system.verdict()
    tally.judged("kafka", verdict)
    assert verdict.exact, verdict
    assert await system.open_transactions() == 0
    return verdict


async def set_topic(system: KafkaSystem, topic: str, **config: object) -> None:
    """Change settings of a topic, as `max_message_bytes=2000`."""
    settings = {name.replace("_", "."): str(value) for name, value in config.items()}
    admin = AIOKafkaAdminClient(bootstrap_servers=system.bootstrap)
    await admin.start()
    try:
        answers = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, settings)])
    finally:
        await admin.close()
    refused = [entry for answer in answers for entry in answer.resources if entry[0]]
    assert not refused, refused

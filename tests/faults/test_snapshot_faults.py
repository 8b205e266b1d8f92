"""Workers killed with -9 while local snapshots follow the state: what they count stays exact."""

from __future__ import annotations

import pytest

from faults.campaign import kill_often
from faults.conftest import SHORT_SESSION
from faults.systems import KafkaSystem

pytestmark = pytest.mark.kafka


async def test_kills_with_local_snapshots(kafka, tmp_path, run_daemon, tally):
    settings = {"state": {"snapshots": True, "memory": "1MB"}}
    system = KafkaSystem(tmp_path, kafka.bootstrap, stateful=True, settings=settings, **SHORT_SESSION)
    await system.open()
    try:
        daemon = await run_daemon(workers=2)
        await kill_often(system, daemon, kills=6, records=40_000, seed=6)
        await system.complete()
        replaced = await daemon.replaced()
        assert await daemon.drain() == 0
        verdict = await system.verdict()
    finally:
        await system.close()
    tally.injected("kafka", "kill -9, with snapshots", replaced)
    tally.judged("kafka", verdict)
    assert verdict.exact, verdict
    assert list((tmp_path / "state").rglob("snapshots/*/CURRENT")), "there were snapshots"

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


async def test_kills_while_tasks_that_end_set_their_last_mark(kafka, tmp_path, run_daemon, tally):
    settings = {"state": {"snapshots": True}}
    system = KafkaSystem(tmp_path, kafka.bootstrap, stateful=True, settings=settings, **SHORT_SESSION)
    await system.open()
    try:
        for killed in (True, False, True, False):
            daemon = await run_daemon(workers=2, env={"STREAMD_FAULT": "in_last_mark:kill9"} if killed else {})
            before = daemon.faults()["in_last_mark", "kill9"]
            await system.feed(5_000)
            await system.complete()
            await daemon.drain()
            injected = daemon.faults()["in_last_mark", "kill9"]
            assert (injected > before) == killed
        tally.injected("kafka", "kill -9 at the last mark", injected)
        verdict = await system.verdict()
        restored = [found for found in daemon.told("State restored") if found["local"]]
    finally:
        await system.close()
    tally.judged("kafka", verdict)
    assert verdict.exact, verdict
    assert restored, "local copies were used"

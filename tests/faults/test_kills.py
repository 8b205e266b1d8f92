"""Workers killed with -9 at random moments of one run: nothing lost, nothing twice, order per key kept."""

from __future__ import annotations

import statistics

import pytest

from faults.campaign import kill_often
from faults.conftest import SHORT_SESSION
from faults.systems import KafkaSystem


async def killed_at_random(system, run_daemon, tally, *, kills, records, seed):
    daemon = await run_daemon(workers=2)
    campaign = await kill_often(system, daemon, kills=kills, records=records, seed=seed)
    await system.complete()
    replaced = await daemon.replaced()
    assert await daemon.drain() == 0
    verdict, dropped = await system.verdict(), await system.dropped()
    print(
        f"\n{system.name}: {campaign.kills} kills over {verdict.fed} records: {verdict.lost} lost, "
        f"{verdict.duplicated} duplicated, {verdict.disordered} out of order; {dropped} records were worked on and "
        f"dropped; output resumed after {statistics.median(campaign.stalls):.2f} s (median), "
        f"{max(campaign.stalls):.2f} s (longest)"
    )
    tally.injected(system.name, "kill -9", replaced)
    tally.judged(system.name, verdict)
    assert verdict.exact, verdict
    assert verdict.fed == records
    assert campaign.kills == replaced == kills
    assert dropped > 0  # or else the kills have hit nothing
    assert await system.open_transactions() == 0


async def test_twelve_kills_over_120_000_records(system, run_daemon, tally):
    await killed_at_random(system, run_daemon, tally, kills=12, records=120_000, seed=12)


@pytest.mark.campaign
@pytest.mark.timeout(600)
async def test_fifty_kills_over_250_000_records(counting, run_daemon, tally):
    await killed_at_random(counting, run_daemon, tally, kills=50, records=250_000, seed=50)


@pytest.mark.campaign
async def test_at_least_once_loses_nothing(kafka, tmp_path, run_daemon, tally):
    """Workers killed at random moments with `delivery: at_least_once`: nothing lost; what came twice is counted."""
    system = KafkaSystem(tmp_path, kafka.bootstrap, settings={"delivery": "at_least_once"}, **SHORT_SESSION)
    await system.open()
    try:
        # The moment at which a kill makes records come twice is made longer, so that some hit it.
        daemon = await run_daemon(workers=2, env={"STREAMD_FAULT": "after_flush:sleep=0.1"})
        campaign = await kill_often(system, daemon, kills=20, records=100_000, seed=20)
        await system.settled()
        killed = await daemon.replaced()
        assert await daemon.drain() == 0
        verdict = await system.verdict()
    finally:
        await system.close()
    tally.injected("kafka", "kill -9", killed)
    tally.judged("kafka", verdict, at_least_once=True)
    assert campaign.kills == killed == 20
    assert verdict.nothing_lost, verdict
    assert verdict.duplicated > 0, "the kills have hit nothing"

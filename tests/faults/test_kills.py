"""Workers killed with -9 at random moments of one run: nothing lost, nothing twice, order per key kept."""

from __future__ import annotations

import statistics

import pytest

from faults.campaign import kill_often


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
@pytest.mark.timeout(900)
async def test_fifty_kills_over_500_000_records(system, run_daemon, tally):
    await killed_at_random(system, run_daemon, tally, kills=50, records=500_000, seed=50)

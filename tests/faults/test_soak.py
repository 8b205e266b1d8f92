"""A soak of half a minute: what it does for hours works, from the load to the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from soaking.report import page
from soaking.run import Options, soak


@pytest.mark.kafka
@pytest.mark.campaign
async def test_a_short_soak_is_exact_and_samples_every_process(tmp_path: Path, tally) -> None:
    """Two nodes under load stay exact while all kinds of faults come one after another."""
    outcome = await soak(
        tmp_path, Options(seconds=30.0, every=6.0, rate=600, seed=4, state=True, warm_up=3.0, shortest=6.0, sampled=1.0)
    )
    assert outcome.exact, (outcome.verdict, outcome.again, outcome.codes)
    assert outcome.records > 10_000
    assert len(outcome.faults) >= 3
    for fault in outcome.faults:
        tally.injected("kafka", fault.kind, 1)
    tally.judged("kafka", outcome.verdict)
    roles = {who.role for who in outcome.lives}
    assert {"supervisor", "worker 0", "worker 1", "spare", "fork server"} <= roles
    elder = next(life for who, life in outcome.lives.items() if (who.node, who.role) == ("first", "supervisor"))
    assert {"rss", "pss", "files", "threads", "blocks", "tasks", "futures"} <= elder.series.keys()
    text = page(outcome, 2)
    assert "**verdict**" in text
    assert "first node, supervisor" in text

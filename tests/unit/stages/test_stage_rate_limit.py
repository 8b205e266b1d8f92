"""The stage `rate_limit`."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from streamd.component.context import PipelineContext
from streamd.record import Record
from streamd.stages.rate_limit import RateLimit, RateLimitConfig


class ManualClock:
    def __init__(self):
        self.now = 100.0

    def now_ms(self):
        return int(self.now * 1000)

    def monotonic(self):
        return self.now


@pytest.fixture
def limited(tmp_path):
    async def make(settings, tasks=1):
        clock = ManualClock()
        context = PipelineContext("app", "p", tmp_path, tmp_path, clock=clock)
        limit = RateLimit(RateLimitConfig.model_validate(settings), context)
        await limit.prepare()
        await limit.open(SimpleNamespace(tasks=tasks))
        return limit, clock

    return make


def records(count):
    return [Record({"n": n}) for n in range(count)]


async def test_so_many_in_a_time(limited):
    limit, clock = await limited({"records": 100})
    batch = records(10)
    assert await limit.process(batch) == batch
    assert limit.ready_at == pytest.approx(100.1)
    clock.now = 100.1
    await limit.process(records(30))
    assert limit.ready_at == pytest.approx(100.4)


async def test_time_that_was_not_used_is_not_saved_up(limited):
    limit, clock = await limited({"records": 100})
    await limit.process(records(10))
    clock.now = 200.0
    await limit.process(records(10))
    assert limit.ready_at == pytest.approx(200.1)


async def test_the_rate_is_shared_by_the_tasks(limited):
    limit, _ = await limited({"records": "6000/1m"}, tasks=4)
    await limit.process(records(10))
    assert limit.ready_at == pytest.approx(100.4)


@pytest.mark.parametrize(("settings", "size"), [({"records": 5000}, 500), ({"records": 3}, 1), ({"records": "1/h"}, 1)])
async def test_batches_are_small_so_that_the_rate_is_even(limited, settings, size):
    limit, _ = await limited(settings)
    assert limit.max_batch == size


@pytest.mark.parametrize(
    ("text", "rate"), [("1000/s", 1000.0), ("600/1m", 10.0), (" 5 / 10s ", 0.5), ("0.5/s", 0.5), ("3600/h", 1.0)]
)
def test_a_rate_as_text(text, rate):
    config = RateLimitConfig.model_validate({"records": text})
    assert config.records / config.per == pytest.approx(rate)


@pytest.mark.parametrize("rate", ["0", "-1/s", "10/fortnight", "fast", "10/0s", ".inf", ".nan", "[1]"])
def test_what_is_no_rate_is_refused(refused, rate):
    problems = refused(f"stages:\n- rate_limit: {rate}\n")
    assert {problem.place.line for problem in problems} == {5}


PIPELINE = """
name: p
source: {log: {topic: in}}
stages:
- rate_limit: RATE
sink: {log: {topic: out}}
commit_interval: 20ms
"""


async def test_the_rate_is_kept_and_nothing_is_lost(app):
    await app.seed([{"n": n} for n in range(60)])
    began, cpu = time.monotonic(), time.process_time()
    await app.run(PIPELINE.replace("RATE", "100/s"))
    took, cpu = time.monotonic() - began, time.process_time() - cpu
    assert [v["n"] for v in await app.values()] == list(range(60))
    # The last of six batches need not be waited for.
    assert took >= 0.5
    # It waits, it does not spin: reading 60 records costs next to nothing.
    assert cpu < 0.5 * took
    assert 0.3 < app.total("streamd_rate_limit_wait_seconds_total", stage="rate_limit") < took


async def test_what_is_through_is_committed_while_the_next_records_wait(app):
    await app.seed([{"n": n} for n in range(3)])
    await app.seed([], "out")
    run = asyncio.create_task(app.run(PIPELINE.replace("RATE", "1/h")))
    try:
        async with asyncio.timeout(20):
            while not await app.records("out"):  # noqa: ASYNC110 - another reader of the log, which tells nobody
                await asyncio.sleep(0.01)
        assert [v["n"] for v in await app.values()] == [0]
        assert not run.done()
    finally:
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    assert [v["n"] for v in await app.values()] == [0]
    # Where it stopped it goes on: nothing was read and dropped.
    await app.run(PIPELINE.replace("RATE", "1000/s"))
    assert [v["n"] for v in await app.values()] == [0, 1, 2]

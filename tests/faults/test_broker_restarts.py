"""A broker that restarts, crashes or stands still, for longer than a transaction may last: still exactly once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import pytest

from faults.brokers import QUICK, assert_exact, flowing, lasts
from faults.systems import KafkaSystem
from services.kafka import KafkaBroker

pytestmark = pytest.mark.kafka

SHORT_TRANSACTION = 1500  # ms; the broker aborts what is open for longer
LONG_TRANSACTION = 60_000


@pytest.fixture(scope="module")
def broker(tmp_path_factory) -> Iterator[KafkaBroker]:
    """A broker that the tests here stop and pause."""
    made = KafkaBroker(tmp_path_factory.mktemp("own-broker"), properties={"group.max.session.timeout.ms": 600_000})
    try:
        made.start()
        yield made
    finally:
        made.discard()


@pytest.fixture
async def make_system(broker, tmp_path):
    made = []

    async def make(transaction_ms, **more):
        options = {**QUICK, "producer.transaction.timeout.ms": transaction_ms}
        made.append(KafkaSystem(tmp_path, broker.bootstrap, stateful=True, **{**options, **more}))
        await made[0].open()
        return made[0]

    yield make
    for system in made:
        await system.close()


@pytest.mark.parametrize("crash", [pytest.param(False, marks=pytest.mark.campaign, id="in order"), True])
async def test_a_restart_shorter_than_a_transaction(broker, make_system, run_daemon, tally, crash):
    system = await make_system(LONG_TRANSACTION)
    daemon = await run_daemon(workers=2)
    async with flowing(system):
        await asyncio.to_thread(broker.restart, crash=crash)
        tally.injected("kafka", "broker crash" if crash else "broker restart")
        await system.resumed()
    await assert_exact(system, daemon, tally)
    assert not daemon.logged("Pipeline failed")


@pytest.mark.parametrize("crash", [False, True], ids=["in order", "crash"])
@pytest.mark.campaign
async def test_a_restart_longer_than_a_transaction(broker, make_system, run_daemon, tally, crash):
    """The broker is away for three times the transaction timeout, and aborts what it finds open when it is back."""
    system = await make_system(SHORT_TRANSACTION)
    daemon = await run_daemon(workers=2)
    async with flowing(system):
        await asyncio.to_thread(broker.kill if crash else broker.stop)
        await lasts(3 * SHORT_TRANSACTION / 1000)
        await asyncio.to_thread(broker.start)
        tally.injected("kafka", "broker crash" if crash else "broker restart")
        await system.resumed()
    await assert_exact(system, daemon, tally)
    assert not daemon.logged("Pipeline failed")


@pytest.mark.parametrize("times", [1, pytest.param(4, marks=pytest.mark.campaign)])
async def test_a_broker_that_stands_still_for_longer_than_a_transaction(broker, make_system, run_daemon, tally, times):
    """It wakes with the timer of its transactions run out, and requests of before in its sockets."""
    system = await make_system(SHORT_TRANSACTION)
    daemon = await run_daemon(workers=2)
    async with flowing(system):
        for _ in range(times):
            await asyncio.to_thread(broker.pause)
            await lasts(2 * SHORT_TRANSACTION / 1000)
            broker.resume()
            tally.injected("kafka", "broker stands still")
            await system.resumed()
    await assert_exact(system, daemon, tally)
    assert not daemon.logged("Pipeline failed")


@pytest.mark.campaign
async def test_a_broker_that_crashes_again_and_again(broker, make_system, run_daemon, tally):
    """Also while the tasks still open after the crash before."""
    system = await make_system(LONG_TRANSACTION)
    daemon = await run_daemon(workers=2)
    async with flowing(system):
        for number in range(4):
            await asyncio.to_thread(broker.restart, crash=True)
            tally.injected("kafka", "broker crash")
            if number % 2:
                await system.resumed()
    await assert_exact(system, daemon, tally)
    assert not daemon.logged("Pipeline failed")


async def test_a_drain_that_is_cut_short_leaves_a_transaction_only_until_the_next_start(
    broker, make_system, run_daemon, tally
):
    """SIGTERM while a worker stands still within a transaction, SIGKILL at the end of patience: open until a start."""
    system = await make_system(LONG_TRANSACTION)
    daemon = await run_daemon(workers=1, env={"STREAMD_FAULT": "before_commit:stop:0.1", "STREAMD_FAULT_SEED": "1"})
    async with flowing(system):
        await system.until(daemon.faults, "a worker stands still just before its commit")
        daemon.signal(signal.SIGTERM)
        daemon.signal(signal.SIGKILL)
        assert await daemon.ended() == -signal.SIGKILL
        assert await system.open_transactions() > 0, "or else this is about nothing"
        tally.injected("kafka", "SIGKILL in a drain")
        again = await run_daemon(workers=1)
        await system.resumed(deadline=LONG_TRANSACTION / 2000)
    await assert_exact(system, again, tally)

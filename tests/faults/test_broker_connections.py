"""Whatever happens between streamd and a broker, requests and answers lost, errors, dead connections: exactly once."""

from __future__ import annotations

import pytest

from faults.brokers import ProxiedSystem, assert_exact, flowing, lasts
from faults.proxy import DEAFEN, HOLD, LOSE_ANSWER, LOSE_REQUEST, Storm

pytestmark = pytest.mark.kafka

# What a task asks in each transaction; what it asks only when it opens; what the member of the group asks.
COMMITTING = ("produce", "add_partitions", "add_offsets", "offsets", "end_txn", "fetch")
OPENING = ("init_producer_id", "offset_fetch")
REBALANCE_IN_PROGRESS = 27

# The errors that a broker may give, by request: loading, coordinator away and moved, a transaction not ended yet,
# leader moved and fenced, replicas missing, storage errors, and some that say that something is really wrong.
_COORDINATOR = (14, 15, 16)
ERRORS = {
    "produce": (5, 6, 7, 13, 19, 20, 56, 3, 45, -1),
    "add_partitions": (*_COORDINATOR, 3, 51, 49, 55),
    "add_offsets": (*_COORDINATOR, 51, 7),
    "offsets": (*_COORDINATOR, 3, 7, 13, 51, 48),
    "end_txn": (*_COORDINATOR, 51, 13, -1, 48),
    "fetch": (3, 5, 6, 9, 56, 74, 75, 77, 78, -1),
    "init_producer_id": (*_COORDINATOR, 51, 7),
    "offset_fetch": (*_COORDINATOR, 88, 51),
    "find_coordinator": (15, 14),
}


@pytest.fixture
async def system(kafka, tmp_path):
    made = ProxiedSystem(tmp_path, kafka, seed=7, stateful=True)
    await made.open()
    yield made
    await made.close()


async def met(system, what):
    """Every rule was used, and output has resumed after it."""
    await system.until(lambda: system.proxy.done, f"the faults are met: {what}", 30)
    await system.resumed()


async def spoil(system, requests, rules, times):
    """Meet each request of a transaction with each rule some times, one after another; those of opening as well."""
    for request in requests:
        for rule in rules if not isinstance(rules, dict) else rules[request]:
            for _ in range(times):
                system.proxy.spoil(request, rule)
                if request in (*OPENING, "find_coordinator"):
                    system.proxy.spoil("end_txn", LOSE_REQUEST)
            await met(system, f"{request} {rule}")


async def test_requests_and_answers_are_lost(system, run_daemon, tally):
    """Each request of a task lost, and each answer lost: done again or given up, as is right for it."""
    daemon = await run_daemon(workers=1)
    async with flowing(system):
        await spoil(system, COMMITTING + OPENING, (LOSE_REQUEST, LOSE_ANSWER), 2)
    assert system.count(tally).total() >= 32
    await assert_exact(system, daemon, tally)
    assert not daemon.logged("Pipeline failed")


async def test_brokers_answer_with_errors(system, run_daemon, tally):
    """Every error that passes, in place of an answer that said yes: no position is forgotten, nothing done twice."""
    daemon = await run_daemon(workers=1)
    async with flowing(system):
        for request, codes in ERRORS.items():
            system.proxy.spoil(request, *codes)
            for _ in codes if request in (*OPENING, "find_coordinator") else ():
                system.proxy.spoil("end_txn", LOSE_REQUEST)
            await met(system, request)
    assert system.count(tally).total() >= sum(map(len, ERRORS.values()))
    await assert_exact(system, daemon, tally)
    assert not daemon.logged("Pipeline failed")


async def test_connections_are_cut_and_go_dead(system, run_daemon, tally):
    """Cut, half open, never answering, slow: for less and for more than a request may take."""
    daemon = await run_daemon(workers=1)
    proxy = system.proxy
    async with flowing(system):
        for share in (1.0, 0.5, 0.3, 0.5, 1.0):
            await system.until(lambda share=share: proxy.cut(share), "connections to cut")
            await system.resumed()
        for share in (0.5, 1.0):
            await system.until(lambda share=share: proxy.deafen(share), "connections to make half open")
            await system.resumed()
        for request in ("end_txn", "produce", "fetch", "offsets"):
            proxy.spoil(request, DEAFEN)
            await met(system, request)
        for seconds in (0.4, 3.0):
            proxy.freeze()
            await lasts(seconds)
            proxy.thaw()
            await system.resumed()
        await proxy.refuse()
        fed = system.fed
        await system.until(lambda: system.fed > fed + 2000, "input flows on while nobody listens")
        await proxy.start(proxy.port)
        proxy.injected["all refused"] += 1
        await system.resumed()
        for name, value in (("delay", 0.15), ("trickle", 4000)):
            setattr(proxy, name, value)
            proxy.injected[f"all {name}"] += 1
            await system.resumed()
            setattr(proxy, name, type(value)(0))
    assert system.count(tally).total() >= 20
    await assert_exact(system, daemon, tally)
    assert not daemon.logged("Pipeline failed")


@pytest.mark.campaign
async def test_requests_that_arrive_after_all(system, run_daemon, tally):
    """A request that everybody took for lost reaches the broker when the task has long been opened anew: no effect."""
    daemon = await run_daemon(workers=1)
    async with flowing(system):
        for request in ("end_txn", "offsets", "produce", "add_partitions", "add_offsets"):
            for _ in range(2):
                system.proxy.spoil(request, HOLD)
                await met(system, request)
                # What the client repeats under its old epoch is spent only after the next one was opened.
                system.proxy.spoil("end_txn", LOSE_REQUEST)
                await met(system, "a new epoch")
                await system.proxy.deliver_held()
                await system.resumed()
    assert system.count(tally).total() >= 20
    await assert_exact(system, daemon, tally)
    assert not daemon.logged("Pipeline failed")


async def test_the_member_of_the_group_loses_requests_and_answers(system, run_daemon, tally):
    """Joins, syncs and heartbeats lost or refused: rebalances come, and are exact."""
    daemon = await run_daemon(workers=1)
    async with flowing(system):
        for request, rules in (
            ("heartbeat", (LOSE_REQUEST, LOSE_ANSWER, 14, 15, 16, 7, -1)),
            ("join_group", (LOSE_REQUEST, LOSE_ANSWER, 14, 15, 16, 7, -1)),
            ("sync_group", (LOSE_REQUEST, LOSE_ANSWER, 14, 16, REBALANCE_IN_PROGRESS, 7, -1)),
        ):
            for rule in rules:
                system.proxy.spoil(request, rule)
                if request != "heartbeat":
                    system.proxy.spoil("heartbeat", REBALANCE_IN_PROGRESS)
                await met(system, f"{request} {rule}")
    assert system.count(tally).total() >= 20
    await assert_exact(system, daemon, tally)
    assert not daemon.logged("Pipeline failed")


@pytest.mark.campaign
async def test_a_storm(system, run_daemon, tally):
    """Hundreds of faults by chance at once, from a seed."""
    daemon = await run_daemon(workers=2)
    proxy = system.proxy
    proxy.storm = Storm(0.03, ERRORS, (LOSE_REQUEST, LOSE_ANSWER, LOSE_ANSWER, DEAFEN))
    async with flowing(system):
        while proxy.injected.total() < 250:
            begun = proxy.injected.total()
            await system.until(lambda begun=begun: proxy.injected.total() >= begun + 20, "the next faults")
            proxy.cut(0.3)
            await system.resumed()
            daemon.check()
        proxy.storm = None
        await system.resumed()
    done = system.count(tally)
    assert done.total() >= 250
    await assert_exact(system, daemon, tally)
    assert not daemon.logged("Pipeline failed")

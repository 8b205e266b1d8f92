"""Planted bugs are found: each step of the protocol is taken away in turn, and the oracle says that it is not exact.

Each scenario runs also with the program as it is, and then has to be exact: or else it would find anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from faults.campaign import flow
from faults.conftest import SHORT_SESSION
from faults.nodes import Nodes
from faults.oracle import document, partition_of
from faults.systems import IN_PARTITIONS, EmbeddedSystem, FileSystem, KafkaSystem
from services.kafka import read_topic

pytestmark = pytest.mark.campaign

MUTANTS = Path(__file__).with_name("mutants")
AS_IT_IS = "as it is"
KINDS = ("lost", "duplicated", "disordered", "scattered", "wrong", "miscounted", "unread", "stale")


def planted(mutant):
    """The environment of a node that has the bug."""
    if mutant == AS_IT_IS:
        return {}
    path = [str(MUTANTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"STREAMD_MUTANT": mutant, "PYTHONPATH": os.pathsep.join(path)}


def failed(daemon):
    return bool(daemon.logged("Pipeline failed"))


async def settled(system, daemon, mutant):
    """Wait until everything came; with a mutant, until nothing moves any more. False when it was given up."""
    until = asyncio.get_running_loop().time() + patience(mutant)
    before, calm = None, 0
    while calm < 15 and system.came < system.fed and not failed(daemon):
        if asyncio.get_running_loop().time() > until:
            return False
        if mutant != AS_IT_IS and system.came:
            now = system.came, await system._positions(), await system.open_transactions()
            calm = calm + 1 if now == before and not now[2] else 0
            before = now
        await asyncio.sleep(0.2)
    return True


def patience(mutant):
    """Seconds for output to go on. A mutant is not waited for any longer than it takes to be sure."""
    return 60.0 if mutant == AS_IT_IS else 12.0


async def found(system, daemon, mutant):
    """What is wrong after a run: words of `Verdict`, `stalled`, `failed`; nothing when it was exact."""
    wrong = set() if await settled(system, daemon, mutant) else {"stalled"}
    if failed(daemon):
        wrong.add("failed")
    if not wrong:
        await daemon.drain()
    daemon.kill()
    verdict = await system.verdict()
    print(f"\n{wrong} {verdict}")
    return wrong | {kind for kind in KINDS if getattr(verdict, kind)}


def check(wrong, mutant, expected):
    """`expected`: the kinds of damage of which at least one must show."""
    if mutant == AS_IT_IS:
        assert not wrong
    else:
        assert wrong & expected, f"{mutant} survived: {wrong}"


async def killed_at(system, run_daemon, mutant, point, *, kills=3, first=60.0):
    """Workers die at a point while input flows, one after the other; what is wrong in the end.

    `first`: seconds until the first output.
    """
    now = system.folder / "now"
    deadline = first
    daemon = await run_daemon(workers=2, env={**planted(mutant), "STREAMD_FAULT": f"{point}:kill9:@{now}"})
    enough = asyncio.Event()
    feeding = asyncio.create_task(flow(system, enough, random.Random(2), pause=0.05, ahead=4_000))
    with contextlib.suppress(TimeoutError) if mutant != AS_IT_IS else contextlib.nullcontext():
        for number in range(kills):
            wanted = system.begun
            condition = lambda wanted=wanted: min(system.newest.values()) >= wanted or failed(daemon)  # noqa: E731
            await system.until(condition, "some output", deadline)
            now.touch()
            await system.until(lambda: not now.exists() or failed(daemon), f"the death of worker {number}", deadline)
            deadline = patience(mutant)
    enough.set()
    await feeding
    wrong = await found(system, daemon, mutant)
    if mutant == AS_IT_IS:
        assert daemon.faults()[point, "kill9"] == kills
    return wrong


@contextlib.asynccontextmanager
async def running(system):
    await system.open()
    try:
        yield system
    finally:
        await system.close()


@pytest.mark.parametrize("mutant", [AS_IT_IS, "offsets_outside", "no_flush"])
async def test_positions_and_outputs_are_committed_together_on_kafka(kafka, tmp_path, run_daemon, mutant):
    async with running(KafkaSystem(tmp_path, kafka.bootstrap, **SHORT_SESSION)) as system:
        # Without a flush nothing ever comes out.
        first = 12.0 if mutant == "no_flush" else 60.0
        wrong = await killed_at(system, run_daemon, mutant, "before_commit", first=first)
    check(wrong, mutant, {"lost"})


@pytest.mark.parametrize("mutant", [AS_IT_IS, "positions_at_once"])
async def test_positions_and_outputs_are_committed_together_on_the_embedded_log(tmp_path, run_daemon, mutant):
    async with running(EmbeddedSystem(tmp_path)) as system:
        wrong = await killed_at(system, run_daemon, mutant, "before_commit")
    check(wrong, mutant, {"lost"})


STATE = {
    AS_IT_IS: set(),
    "positions_behind": {"duplicated"},
    "positions_too_far": {"lost", "unread"},
    "state_forgotten": {"miscounted"},
    # A task does not start on state that does not belong to its positions.
    "changelog_after_commit": {"failed"},
}


@pytest.mark.parametrize("mutant", STATE)
@pytest.mark.parametrize("system", ["kafka", "embedded"])
async def test_positions_and_state_are_those_of_the_outputs(request, system, tmp_path, run_daemon, mutant):
    if system == "kafka":
        made = KafkaSystem(tmp_path, request.getfixturevalue("kafka").bootstrap, stateful=True, **SHORT_SESSION)
    else:
        made = EmbeddedSystem(tmp_path, stateful=True)
    async with running(made) as system:
        wrong = await killed_at(system, run_daemon, mutant, "after_commit", kills=2)
    check(wrong, mutant, STATE[mutant])


@pytest.mark.parametrize("mutant", [AS_IT_IS, "no_fencing"])
async def test_what_a_killed_worker_left_open_is_settled_at_once(kafka, tmp_path, run_daemon, mutant):
    """Without fencing readers stand still until the broker gives the transaction up, here after two minutes."""
    options = {**SHORT_SESSION, "transaction.timeout.ms": 120_000}
    async with running(KafkaSystem(tmp_path, kafka.bootstrap, **options)) as system:
        wrong = await killed_at(system, run_daemon, mutant, "after_flush", kills=2)
    check(wrong, mutant, {"stalled"})


@pytest.mark.parametrize("mutant", [AS_IT_IS, "failed_produce_ignored"])
async def test_a_batch_that_is_refused_is_not_committed(kafka, tmp_path, run_daemon, mutant):
    system = KafkaSystem(tmp_path, kafka.bootstrap, output_settings={"max.message.bytes": 600}, **SHORT_SESSION)
    async with running(system):
        await system.feed(2_000)
        daemon = await run_daemon(workers=1, env=planted(mutant))
        wrong = await found(system, daemon, mutant)
    check(wrong, mutant, {"lost"})


@pytest.mark.parametrize("mutant", [AS_IT_IS, "aborted_records_read"])
async def test_what_the_source_aborted_is_not_read(kafka, tmp_path, run_daemon, mutant):
    async with running(KafkaSystem(tmp_path, kafka.bootstrap, **SHORT_SESSION)) as system:
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=f"{system.input}-upstream")
        await producer.start()
        for _ in range(3):
            await producer.begin_transaction()
            for partition in range(IN_PARTITIONS):
                value = b'{"key": %d, "number": 0}' % partition
                await producer.send_and_wait(system.input, value, b"%d" % partition, partition=partition)
            await producer.abort_transaction()
            await system.feed(600)
        await producer.stop()
        wrong = await found(system, await run_daemon(workers=1, env=planted(mutant)), mutant)
    check(wrong, mutant, {"duplicated"})


@pytest.mark.parametrize("mutant", [AS_IT_IS, "no_require_stable"])
async def test_positions_pending_under_another_transactional_id_are_waited_for(kafka, tmp_path, run_daemon, mutant):
    """As after a change of the pipeline's parts: the predecessor has another id, and fencing does not reach it."""
    async with running(KafkaSystem(tmp_path, kafka.bootstrap, **SHORT_SESSION)) as system:
        await system.feed(600)
        before = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=f"{system.input}-before")
        await before.start()
        await before.begin_transaction()
        for n in range(600):
            value = b'{"key": %(key)d, "number": %(number)d, "double": %(double)d}'
            value %= {name.encode(): of for name, of in {**document(n), "double": 2 * document(n)["number"]}.items()}
            await before.send(system.output, value, b"%d" % document(n)["key"])
        await before.flush()
        counts = [
            sum(partition_of(n, IN_PARTITIONS) == partition for n in range(600)) for partition in range(IN_PARTITIONS)
        ]
        offsets = {TopicPartition(system.input, p): OffsetAndMetadata(count, "") for p, count in enumerate(counts)}
        await before.send_offsets_to_transaction(offsets, system.group)
        daemon = await run_daemon(workers=1, env=planted(mutant))
        async with asyncio.timeout(60):
            while len(await Nodes(system).epochs()) < IN_PARTITIONS:  # noqa: ASYNC110 — there is no event
                await asyncio.sleep(0.1)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):  # long enough for one that does not wait
                while len(await read_topic(kafka.bootstrap, system.output, committed=False)) <= 600:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        await before.commit_transaction()
        await before.stop()
        await system.feed(600)
        wrong = await found(system, daemon, mutant)
    check(wrong, mutant, {"duplicated"})


@pytest.mark.parametrize("mutant", [AS_IT_IS, "no_generation"])
async def test_a_member_that_is_none_any_more_commits_nothing(kafka, make_topic, mutant):
    """Beside fencing: who lost its membership while nobody has opened the task yet is refused by its generation."""
    topic = await make_topic()
    program = Path(__file__).with_name("stale_member.py")
    environment = {**os.environ, **planted(mutant)}
    done = await asyncio.create_subprocess_exec(
        sys.executable, program, kafka.bootstrap, topic, f"{topic}-group", env=environment, stdout=subprocess.PIPE
    )
    out, _ = await done.communicate()
    assert (done.returncode, out.decode().strip()) == (0, "refused" if mutant == AS_IT_IS else "committed")


@pytest.mark.parametrize("mutant", [AS_IT_IS, "no_cut_off"])
async def test_a_file_is_cut_off_behind_the_checkpoint(tmp_path, run_daemon, mutant):
    async with running(FileSystem(tmp_path)) as system:
        wrong = await killed_at(system, run_daemon, mutant, "before_commit")
    check(wrong, mutant, {"duplicated"})

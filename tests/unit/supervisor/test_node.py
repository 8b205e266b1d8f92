"""The supervisor over real worker processes: what it survives, and how it ends."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from itertools import repeat

import pytest

from streamd.errors import FatalError, UnavailableError
from streamd.observability import catalog
from streamd.observability.health import ready


async def test_bounded_input_runs_to_its_end(node):
    """Every task reads its partition to the end; then the node ends by itself, with success."""
    node.pipeline(partitions=3, records=50)
    node.start()
    assert await node.ended() == 0
    assert [node.output(partition=partition) for partition in range(3)] == [list(range(50))] * 3
    status = node.supervisor.status()
    assert status.pipelines[0].state == "drained"
    assert node.supervisor.metrics.totals(catalog.SOURCE_RECORDS) == 150


async def test_workers_are_never_more_than_tasks(node):
    node.pipeline(partitions=1, records=None)
    supervisor = node.start(workers=8)
    await node.until(lambda: len(node.output()) > 0)
    assert [worker.worker for worker in supervisor.status().workers] == [0]


async def test_a_killed_worker_is_replaced_at_once_and_goes_on_where_it_was(node):
    """Kill -9 at any moment loses and repeats nothing, and the replacement has the same tasks."""
    node.pipeline(partitions=2, records=6000)
    node.start()
    choice = random.Random(7)
    for _ in range(5):
        # The next kill only once both workers have got on since the last one.
        progress = [len(node.output(partition=p)) + choice.randrange(1, 60) for p in (0, 1)]
        await node.until(lambda goal=progress: all(len(node.output(partition=p)) >= goal[p] for p in (0, 1)))
        os.kill(choice.choice(node.pids()), signal.SIGKILL)
    assert await node.ended() == 0
    assert [node.output(partition=p) for p in (0, 1)] == [list(range(6000))] * 2
    assert node.supervisor.metrics.totals(catalog.WORKER_RESTARTS) == 5


async def test_a_stopped_worker_is_killed_and_replaced(node):
    """SIGSTOP: the process lives and says nothing."""
    node.pipeline(partitions=1, records=None)
    node.start(silence_timeout=2.0)
    await node.until(lambda: len(node.output()) > 10)
    before = node.pids()
    os.kill(before[0], signal.SIGSTOP)
    await node.until(lambda: node.pids() not in ([], before))
    reached = len(node.output())
    await node.until(lambda: len(node.output()) > reached)
    assert node.output() == list(range(len(node.output())))


@pytest.mark.parametrize("how", ["block", "stall"])
async def test_a_worker_without_progress_is_killed_and_replaced(node, how):
    """A blocked loop is noticed by its silence, a task that waits for ever by its lag."""
    node.pipeline(partitions=1, records=30, after=10, then=f"once {how}")
    node.start(stall_timeout=2.0, silence_timeout=4.0)
    assert await node.ended() == 0
    assert node.output() == list(range(30))
    metrics = node.supervisor.metrics
    assert metrics.totals(catalog.WORKER_RESTARTS) == 1
    assert metrics.totals(catalog.WORKER_STALLS) == (how == "stall")


async def test_a_worker_that_keeps_crashing_is_restarted_with_back_off(node):
    """It is neither given up nor restarted in a tight loop, and status says so."""
    node.pipeline(partitions=1, records=30, after=0, then="exit")
    supervisor = node.start(spare=False)
    await node.until(lambda: supervisor.status().workers and supervisor.status().workers[0].restarts >= 4)
    states = set()

    def backing_off() -> bool:
        states.update(worker.state for worker in supervisor.status().workers)
        return "backing_off" in states

    await node.until(backing_off)
    assert not ready(supervisor.status()).ok


async def test_a_failed_task_is_tried_again_in_its_worker(node):
    node.pipeline(partitions=1, records=30, after=10, then="once transient")
    node.start()
    assert await node.ended() == 0
    assert node.output() == list(range(30))
    assert node.supervisor.metrics.totals(catalog.TASK_RESTARTS) == 1
    assert node.supervisor.metrics.totals(catalog.WORKER_RESTARTS) == 0
    error = node.supervisor.status().pipelines[0].error
    assert (error.error, error.message) == ("TransientError", "This may pass.")


@pytest.mark.parametrize("how", ["fatal", "unexpected"])
async def test_a_failing_pipeline_does_not_touch_the_others(node, how):
    """It is stopped and says why; the other one goes on, in the same workers."""
    node.pipeline("bad", partitions=2, records=50, after=20, then=how)
    node.pipeline("good", partitions=2, records=None)
    supervisor = node.start()
    await node.until(lambda: supervisor.status().pipeline("bad").state == "failed")
    bad, pids = supervisor.status().pipeline("bad"), node.pids()
    assert bad.error.error == {"fatal": "FatalError", "unexpected": "KeyError"}[how]
    assert "nobody expects this" not in bad.error.message
    reached = len(node.output("good"))
    await node.until(lambda: len(node.output("good")) > reached + 20)
    assert node.pids() == pids
    assert not ready(supervisor.status()).ok
    supervisor.drain()
    assert await node.ended() == 1


async def test_a_pipeline_that_workers_cannot_load_fails_alone(node):
    node.pipeline("bad", text="wrong")
    node.pipeline("good", partitions=1, records=None)
    supervisor = node.start()
    await node.until(lambda: supervisor.status().pipeline("bad").state == "failed")
    assert supervisor.status().pipeline("bad").error.message == "The text is wrong."
    await node.until(lambda: len(node.output("good")) > 0)


async def test_drain_commits_and_ends_with_success(node):
    """Tasks stop at their own pace, workers exit by themselves, nothing is repeated at the next start."""
    node.pipeline(partitions=2, records=None)
    supervisor = node.start()
    await node.until(lambda: all(len(node.output(partition=p)) > 5 for p in (0, 1)))
    supervisor.drain()
    assert supervisor.status().stopping
    assert await node.ended() == 0
    assert supervisor.status().workers == ()
    assert supervisor.status().pipelines[0].state == "stopped"


async def test_drain_is_bounded(node):
    """A task that does not listen is killed with its worker at the deadline, and the exit code says so."""
    node.pipeline(partitions=1, records=30, after=5, then="deaf")
    supervisor = node.start(drain_timeout=2.0, stall_timeout=60.0)
    await node.until(node.misbehaves)
    supervisor.drain()
    assert await node.ended() == 1


async def test_a_short_time_to_drain_in_is_given_to_the_tasks(node):
    node.pipeline(partitions=1, records=None)
    supervisor = node.start(drain_timeout=1.0)
    await node.until(lambda: len(node.output()) > 5)
    deadlines = []
    revoke = supervisor._revoke
    supervisor._revoke = lambda task, deadline, now: (deadlines.append(deadline), revoke(task, deadline, now))
    supervisor.drain()
    assert await node.ended() == 0
    assert 0.5 < deadlines[0] <= 0.75


async def test_kill_ends_at_once(node):
    node.pipeline(partitions=1, records=30, after=5, then="deaf")
    supervisor = node.start(stall_timeout=60.0)
    await node.until(node.misbehaves)
    supervisor.drain()
    supervisor.kill(signal.SIGTERM)
    assert await node.ended() == 128 + signal.SIGTERM


async def test_until_idle_ends_when_everything_is_read(node):
    """A source without an end counts as done when it is read to its present end, twice."""
    node.pipeline(partitions=2, records=40, tail=True)
    node.start(until_idle=True)
    assert await node.ended() == 0
    assert [node.output(partition=p) for p in (0, 1)] == [list(range(40))] * 2


async def test_until_idle_reports_a_failed_pipeline(node):
    """The others are finished all the same."""
    node.pipeline("bad", partitions=1, records=50, after=20, then="fatal")
    node.pipeline("good", partitions=1, records=300, tail=True)
    node.start(until_idle=True)
    assert await node.ended() == 1
    assert node.output("good") == list(range(300))


async def test_exit_on_failure_drains_the_others(node):
    node.pipeline("bad", partitions=1, records=50, after=20, then="fatal")
    node.pipeline("good", partitions=1, records=None)
    node.start(exit_on_failure=True)
    assert await node.ended() == 1


async def test_an_unreachable_server_is_waited_for(node):
    """Not ready meanwhile, with its sentence; then it just goes on."""
    gate = asyncio.Event()

    def errors():
        while not gate.is_set():
            yield UnavailableError("Broker 10.0.0.1:9092 does not answer.")

    node.pipeline(partitions=1, records=30, errors=errors())
    supervisor = node.start()
    await node.until(lambda: supervisor.status().pipelines[0].unreachable != ())
    status = supervisor.status()
    assert status.pipelines[0].state == "backing_off"
    assert [reason.code for reason in ready(status).reasons] == ["unreachable", "not_joined"]
    gate.set()
    assert await node.ended() == 0


async def test_until_idle_does_not_wait_for_ever_for_a_server(node):
    node.pipeline(partitions=1, errors=repeat(UnavailableError("Broker 10.0.0.1:9092 does not answer.")))
    node.start(until_idle=True, unreachable_timeout=0.5)
    assert await node.ended() == 1
    assert "does not answer" in node.supervisor.status().pipelines[0].error.message


async def test_a_pipeline_that_cannot_be_prepared_fails_alone(node):
    node.pipeline("bad", errors=repeat(FatalError("The topic is missing.")))
    node.pipeline("good", partitions=1, records=None)
    supervisor = node.start()
    await node.until(lambda: len(node.output("good")) > 0)
    assert supervisor.status().pipeline("bad").state == "failed"


async def test_a_changed_pipeline_is_drained_and_started_anew(node):
    """Reload is the same path as start: the old version's tasks end before the new one's begin."""
    node.pipeline(partitions=2, records=None)
    supervisor = node.start()
    await node.until(lambda: len(node.output()) > 5)
    supervisor.add(node.pipeline(partitions=3, records=None, version=2))
    await node.until(lambda: len(node.output(partition=2)) > 5)
    reached = len(node.output())
    await node.until(lambda: len(node.output()) > reached)
    assert node.output() == list(range(len(node.output())))


async def test_workers_end_with_their_supervisor(node):
    """A killed supervisor leaves no worker behind: the kernel and the closed channel see to it."""
    node.pipeline(partitions=2, records=None)
    supervisor = node.start()
    await node.until(lambda: len(node.output()) > 5)
    pids = node.pids()
    supervisor.kill(signal.SIGINT)
    await node.ended()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

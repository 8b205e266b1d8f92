"""What happens to worker processes and pipelines must not be seen in the output: embedded log → embedded log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from faults.running_node import RunningNode, worker_pids

COPY = """
name: copy
source: {log: {topic: in}}
stages:
  - set: {double: number * 2}
sink: {log: {topic: out, partitions: 3}}
"""


@pytest.fixture
async def node(tmp_path):
    made = RunningNode(tmp_path)
    try:
        yield made
    finally:
        await made.close()


def in_order(partitions):
    """key → its numbers, in the order of the output; a key has one partition only."""
    numbers = defaultdict(list)
    for documents in partitions:
        keys = {document["key"] for document in documents}
        assert not keys & numbers.keys()
        for document in documents:
            numbers[document["key"]].append(document["number"])
            assert document["double"] == 2 * document["number"]
    return dict(numbers)


class Feed:
    """Numbers 0, 1, … for nine keys, appended a few at a time until told to stop. A key is in one partition only."""

    def __init__(self, node, partitions):
        self._node, self._partitions = node, partitions
        self.numbers = defaultdict(list)
        self.total = 0

    async def run(self, enough):
        while not enough.is_set():
            records = []
            for _ in range(200):
                key = self.total % 9
                self.numbers[key].append(self.total)
                records.append((key % self._partitions, {"key": key, "number": self.total}))
                self.total += 1
            await self._node.append(records)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await enough.wait()


async def feed_during(node, partitions, act):
    """Let input flow while `act` runs; returns what was fed."""
    feed, enough = Feed(node, partitions), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(feed.run(enough))
        await act()
        enough.set()
    return feed


async def drained(node, feed):
    """Wait until everything is through, then end the node."""
    await node.until(lambda: _all_there(node, feed))
    os.kill(os.getpid(), signal.SIGTERM)
    return await node.ended()


async def _all_there(node, feed):
    return await node.count("out") >= feed.total


async def test_kill_9_twenty_times_at_random(node):
    """Nothing lost, nothing twice, order per key kept. Also while the last one's replacement has not started yet."""
    await node.open(partitions=3)
    node.start({"copy.yaml": COPY}, workers=2)
    choice = random.Random(20)
    outages = []

    async def kill_often():
        await node.until(lambda: _moves(node))
        for _ in range(20):
            await asyncio.wait([node._run], timeout=choice.random() * 0.4)
            pids = worker_pids()
            os.kill(choice.choice(pids), signal.SIGKILL)
            began, reached = time.monotonic(), await node.count("out")
            await node.until(lambda reached=reached: _beyond(node, reached))
            outages.append(time.monotonic() - began)

    feed = await feed_during(node, 3, kill_often)
    summary = await drained(node, feed)
    assert summary.exit_code == 0
    assert in_order(await node.contents("out")) == feed.numbers
    # A second kill within the replacement's start costs a start of the interpreter; the others do not.
    assert sorted(outages)[10] < 2.0


async def _moves(node):
    return await node.count("out") > 0


async def _beyond(node, reached):
    return await node.count("out") > reached


@pytest.mark.parametrize("workers", [1, 2])
async def test_all_workers_killed_at_once(node, workers):
    await node.open(partitions=2)
    node.start({"copy.yaml": COPY}, workers=workers)

    async def kill_all():
        for _ in range(3):
            reached = await node.count("out")
            await node.until(lambda reached=reached: _beyond(node, reached))
            for pid in worker_pids():
                os.kill(pid, signal.SIGKILL)

    feed = await feed_during(node, 2, kill_all)
    assert (await drained(node, feed)).exit_code == 0
    assert in_order(await node.contents("out")) == feed.numbers


async def test_a_stopped_worker_is_replaced_and_harmless_when_it_wakes(node):
    """SIGSTOP: it is killed for its silence, the same tasks go on elsewhere."""
    await node.open(partitions=2)
    node.start({"copy.yaml": COPY}, workers=1, stall_timeout=5)

    async def stop_one():
        await node.until(lambda: _moves(node))
        stopped = worker_pids()[0]
        os.kill(stopped, signal.SIGSTOP)
        await node.until(lambda: stopped not in worker_pids())
        reached = await node.count("out")
        await node.until(lambda: _beyond(node, reached))

    feed = await feed_during(node, 2, stop_one)
    assert (await drained(node, feed)).exit_code == 0
    assert in_order(await node.contents("out")) == feed.numbers


async def test_a_failing_pipeline_does_not_touch_the_others(node):
    """One stops at a record that it cannot process, and says where; the other one's output is complete."""
    await node.open(partitions=1)
    bad = COPY.replace("name: copy", "name: bad").replace("number * 2", "1 / (number - 500)").replace("out", "bad-out")
    node.start({"bad.yaml": bad, "copy.yaml": COPY}, workers=1)

    async def see_it_fail():
        await node.until(lambda: node.status and node.status.pipeline("bad").state == "failed")

    feed = await feed_during(node, 1, see_it_fail)
    assert (await drained(node, feed)).exit_code == 1
    assert in_order(await node.contents("out")) == feed.numbers
    failed = node.status.pipeline("bad")
    assert "division by zero" in failed.error.message
    assert "bad.yaml" in failed.error.message


async def test_until_idle_reads_everything_and_ends(node):
    await node.open(partitions=2)
    await node.append([(n % 2, {"key": n % 2, "number": n}) for n in range(5000)])
    node.start({"copy.yaml": COPY}, until_idle=True)
    summary = await node.ended()
    assert (summary.exit_code, summary.records_processed, summary.errors) == (0, 5000, 0)
    assert await node.count("out") == 5000


DAEMON = """
import sys
from pathlib import Path
from streamd.config.service import ServiceConfig
from streamd.supervisor.run import run_daemon
service = ServiceConfig.model_validate(
    {"state_dir": Path(sys.argv[1]) / "state", "http": {"enabled": False}, "workers": 2}
)
raise SystemExit(run_daemon([Path(sys.argv[1]) / "copy.yaml"], service, env={}).exit_code)
"""


async def test_sigterm_drains_and_a_killed_daemon_leaves_no_worker(node):
    """First a daemon that is killed with -9 under load, then one that gets SIGTERM: both go on where the last ended."""
    await node.open(partitions=2)
    (node.folder / "copy.yaml").write_text(COPY)

    async def run_twice():
        for number in (signal.SIGKILL, signal.SIGTERM):
            reached = await node.count("out")
            command = [sys.executable, "-c", DAEMON, str(node.folder)]
            daemon = subprocess.Popen(command)  # noqa: ASYNC220 — a test can wait a millisecond
            try:
                await _until(lambda reached=reached: _beyond(node, reached))
                workers = _children(daemon.pid)
                assert len(workers) >= 2
                daemon.send_signal(number)
                await _until(lambda daemon=daemon: _ended(daemon))
            finally:
                daemon.kill()
                daemon.wait()
            assert daemon.returncode == (-9 if number == signal.SIGKILL else 0)
            await _until(lambda workers=workers: _gone(workers))

    feed = await feed_during(node, 2, run_twice)
    node.start({"copy.yaml": COPY})
    assert (await drained(node, feed)).exit_code == 0
    assert in_order(await node.contents("out")) == feed.numbers


async def _until(condition):
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 — what is waited for happens in other processes
            await asyncio.sleep(0.01)


async def _ended(process):
    return process.poll() is not None


async def _gone(pids):
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def _children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

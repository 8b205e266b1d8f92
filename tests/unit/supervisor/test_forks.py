"""Workers by a fork server: the supervisor's own children, told from others, and there when the server is not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from streamd.config.service import ServiceConfig
from streamd.runtime.control import Hello, Start
from streamd.supervisor.children import UNKNOWN_CODE, WORKER_COMMAND, Starter
from streamd.supervisor.forks import ForkServer

# A supervisor that says its worker's pid, and ends without telling anybody.
SHORT_LIVED = """
import asyncio, os, socket
from streamd.supervisor.forks import ForkServer
async def main():
    server = ForkServer()
    server.start()
    ours, theirs = socket.socketpair()
    print(await server.fork(theirs), server._process.pid, flush=True)
    input()
    os._exit(0)
asyncio.run(main())
"""


class Workers:
    """Starts workers and keeps what they said and how they ended."""

    def __init__(self):
        self.starter = Starter()
        self.said = asyncio.Queue()
        self.ended = asyncio.Queue()
        self.children = []

    async def start(self):
        child = await self.starter.start(lambda child, news: self.said.put_nowait(news), self.ended.put_nowait)
        self.children.append(child)
        return child

    @property
    def server(self):
        return self.starter._server._process.pid


@pytest.fixture
async def workers():
    made = Workers()
    yield made
    for child in made.children:
        child.kill("The test ends.")
        await child.wait()
    made.starter.close()


def of_process(pid, field):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return line.split()[1]
    raise KeyError(field)


async def until(condition, deadline=20.0):
    async with asyncio.timeout(deadline):
        while not condition():  # noqa: ASYNC110 — there is no event
            await asyncio.sleep(0.005)


def open_files(pid):
    """What a process has open, as the kernel names it."""
    return [str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()]


def gone(pid):
    try:
        return of_process(pid, "State") in "ZX"
    except OSError:
        return True


async def test_a_forked_worker_is_our_child_and_says_hello(workers):
    child = await workers.start()
    async with asyncio.timeout(20):
        hello = await workers.said.get()
    assert isinstance(hello, Hello)
    assert hello.pid == child.pid
    assert of_process(child.pid, "PPid") == str(os.getpid())
    arguments = Path(f"/proc/{child.pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    assert arguments[1:3] == [b"-m", b"streamd.runtime.worker"]


async def test_the_server_has_one_thread_and_keeps_nothing_of_its_workers(workers):
    await workers.start()
    files = open_files(workers.server)
    for _ in range(5):
        await workers.start()
    assert open_files(workers.server) == files
    assert of_process(workers.server, "Threads") == "1"
    assert len({child.pid for child in workers.children}) == 6


async def test_a_worker_keeps_nothing_open_that_is_not_its_own(workers):
    """What the server has, it must not hold: its end of another worker's channel would hide that one's death."""
    first, second = await workers.start(), await workers.start()
    for _ in range(2):
        async with asyncio.timeout(20):
            await workers.said.get()
    shared = set(open_files(first.pid)) & set(open_files(second.pid))
    inherited = {str(Path(f"/proc/self/fd/{number}").readlink()) for number in (0, 1, 2)}
    assert {name for name in shared if name.startswith(("socket:", "pipe:"))} <= inherited


async def test_two_supervisors_of_one_process_fork_at_the_same_time(workers):
    """One that has its worker leaves the other, whose server still imports, the worker that it waits for."""
    await workers.start()
    others = Workers()
    try:
        slow = asyncio.ensure_future(others.start())
        await asyncio.sleep(0)
        await workers.start()
        child = await slow
        assert Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[1] == str(os.getpid())
        child.kill("The test ends.")
        assert await asyncio.wait_for(child.wait(), 10) == -signal.SIGKILL
    finally:
        others.starter.close()


async def test_a_child_that_others_reaped_has_ended_all_the_same(workers):
    child = await workers.start()
    reap = child._reap

    def reap_twice():
        reap()
        return reap()

    child._reap = reap_twice
    child.kill("The test ends.")
    assert await asyncio.wait_for(child.wait(), 10) == UNKNOWN_CODE


async def test_exit_codes_and_signals_are_told(workers):
    child = await workers.start()
    child.send(Start(pickle.dumps(ServiceConfig()), {}))
    os.kill(child.pid, signal.SIGKILL)
    assert await asyncio.wait_for(child.wait(), 20) == -signal.SIGKILL
    assert await asyncio.wait_for(workers.ended.get(), 20) is child


async def test_a_killed_server_leaves_its_workers_alone_and_is_replaced_without_waiting_for_one(workers, monkeypatch):
    monkeypatch.setattr("streamd.supervisor.forks.RAN_LONG", 0.0)
    child = await workers.start()
    before = workers.server
    os.kill(before, signal.SIGKILL)
    await until(lambda: workers.starter._server.running and workers.server != before)
    assert not gone(child.pid)
    next_one = workers.server
    await workers.start()
    assert workers.server == next_one


async def test_servers_that_end_at_once_are_started_less_and_less_often(workers, monkeypatch):
    monkeypatch.setattr("streamd.supervisor.forks.FORK_SERVER_COMMAND", (sys.executable, "-c", "raise SystemExit"))
    monkeypatch.setattr("streamd.supervisor.forks.FIRST_WAIT", 0.01)
    with capture_logs() as logs:
        workers.starter._server.start()
        await until(lambda: len(logs) >= 3)
    assert [line["delay_seconds"] for line in logs[:3]] == [0.01, 0.02, 0.04]
    workers.starter.close()
    assert workers.starter._server._next is None, "a closed one has no next"


async def test_without_a_server_workers_start_by_themselves(workers, monkeypatch):
    monkeypatch.setattr("streamd.supervisor.forks.FORK_SERVER_COMMAND", (sys.executable, "-c", "raise SystemExit"))
    child = await workers.start()
    async with asyncio.timeout(30):
        assert (await workers.said.get()).pid == child.pid


async def test_a_stopped_server_is_given_up(workers, monkeypatch):
    await workers.start()
    os.kill(workers.server, signal.SIGSTOP)
    monkeypatch.setattr("streamd.supervisor.forks.ANSWER_WITHIN", 0.2)
    child = await workers.start()
    assert not gone(child.pid)
    assert not workers.starter._server.running


async def test_who_waits_for_a_stopped_server_is_told_when_no_more_are_started(workers):
    await workers.start()
    os.kill(workers.server, signal.SIGSTOP)
    waiting = asyncio.create_task(workers.start())
    await until(lambda: workers.starter._server._asked)
    workers.starter.close()
    for start in (waiting, workers.start()):
        with pytest.raises(OSError, match=r"ended|No more"):
            await start


async def test_another_command_needs_no_server():
    starter = Starter([sys.executable, "-c", "pass"])
    ended = asyncio.Event()
    child = await starter.start(lambda child, news: None, lambda child: ended.set())
    assert await asyncio.wait_for(child.wait(), 20) == 0
    assert starter._server is None
    assert Starter(WORKER_COMMAND)._server is not None


async def test_a_closed_server_answers_nobody(workers):
    server = ForkServer()
    with pytest.raises(OSError, match="does not run"):
        await server.fork(None)
    server.close()


async def test_the_server_and_its_workers_end_with_the_supervisor():
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", SHORT_LIVED], stdin=pipe, stdout=pipe)  # noqa: ASYNC220
    try:
        worker, server = map(int, (await asyncio.to_thread(process.stdout.readline)).split())
        assert not gone(worker)
        process.stdin.write(b"\n")
        process.stdin.close()
        await asyncio.to_thread(process.wait)
        await until(lambda: gone(worker) and gone(server))
    finally:
        with contextlib.suppress(OSError):
            process.stdout.close()
        process.kill()
        process.wait()

"""The nodes of a run: real daemons, started, asked, struck and brought back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from streamd.errors import StreamdError
from streamd.verify.daemon import Ended, Spec
from streamd.verify.progress import Place, Probe

ASK_TIMEOUT = 2.0  # seconds
STOPPED_WITHIN = 60.0  # seconds for a node to end in order
GIVEN_UP_WITHIN = 5.0  # seconds, where nobody waits for what it does
DEATHS = 5  # of each worker, without progress: then they die by themselves, and would for ever
_LOOK = 0.02
_CHECK = 0.5
# This machine is asked directly, whatever proxies the environment names.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NodeFailedError(StreamdError):
    """A node, or the pipeline on it, has failed for good: nothing that a restart would mend."""


@dataclass(eq=False)
class Node:
    """One node, over all its lives. `env`: its environment. `rebalances`: of all lives, as last heard."""

    name: str
    folder: Path
    spec: Spec
    env: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    rebalances: int = 0
    _life_rebalances: int = 0
    _lives: int = field(default=0)

    def start(self, *, until_idle: bool = False) -> None:
        """Start it; its log of an earlier life is gone on with."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lives += 1
        self._life_rebalances = 0
        ended = self.folder / f"ended-{self._lives}.json"
        self.spec = replace(self.spec, port=_free_port(), until_idle=until_idle, ended=str(ended))
        spec_file = self.folder / "spec.json"
        spec_file.write_bytes(msgspec.json.encode(self.spec))
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C is for the verification, which then ends its nodes.
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "streamd.verify.daemon", str(spec_file)],
                stdin=subprocess.PIPE, stdout=log, stderr=log, env=dict(self.env), start_new_session=True,
            )  # fmt: skip

    @property
    def log(self) -> Path:
        """What the node wrote to standard error."""
        return self.folder / "streamd.log"

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self.process is not None and self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.process is not None and self.running:
            self.process.send_signal(number)

    async def wait(self, timeout: float) -> Ended | None:
        """How it ended; None when it was killed. Raises TimeoutError."""
        assert self.process is not None
        async with asyncio.timeout(timeout):
            while self.running:  # noqa: ASYNC110 — a process of its own has no event here
                await asyncio.sleep(_LOOK)
        file = Path(self.spec.ended)
        return msgspec.json.decode(file.read_bytes(), type=Ended) if file.exists() else None

    async def stop(self, timeout: float) -> Ended | None:
        """SIGTERM: everything in flight is committed. Raises TimeoutError."""
        self.send(signal.SIGTERM)
        return await self.wait(timeout)

    def kill(self) -> None:
        """SIGKILL, and its end; its workers end with it."""
        if self.process is not None:
            self.send(signal.SIGKILL)
            self.process.wait()
            if self.process.stdin is not None:
                self.process.stdin.close()

    async def workers_with_tasks(self) -> list[int]:
        """Pids of its workers that have tasks; none while it does not answer."""
        answer = await self._ask("/api/v1/workers")
        return [] if answer is None else [w["pid"] for w in answer["workers"] if w["tasks"] and _alive(w["pid"])]

    async def checkpoints(self) -> int:
        """How many checkpoints it has made in this life, as far as it has heard; 0 while it does not answer."""
        text = await asyncio.to_thread(self._get, "/metrics")
        return _sum(text or "", "streamd_checkpoints_total")

    async def worker_deaths(self) -> int:
        """How many workers have died in this life, as far as it has heard; 0 while it does not answer."""
        text = await asyncio.to_thread(self._get, "/metrics")
        return _sum(text or "", "streamd_worker_restarts_total")

    async def check(self) -> None:
        """Note how often its group was rebalanced. Raises NodeFailedError when its pipeline has failed for good."""
        answer = await self._ask("/api/v1/pipelines")
        for pipeline in () if answer is None else answer["pipelines"]:
            if pipeline["state"] == "failed":
                error = pipeline["error"] or {}
                raise NodeFailedError(str(error.get("message") or "the pipeline failed, and no reason is known"))
        if answer is not None:
            await self._count_rebalances()

    async def _count_rebalances(self) -> None:
        text = await asyncio.to_thread(self._get, "/metrics")
        count = _sum(text or "", "streamd_group_rebalances_total")
        if count > self._life_rebalances:
            self.rebalances += count - self._life_rebalances
            self._life_rebalances = count

    async def _ask(self, path: str) -> Any:
        text = await asyncio.to_thread(self._get, path)
        return None if text is None else json.loads(text)

    def _get(self, path: str) -> str | None:
        try:
            with _OPENER.open(f"http://127.0.0.1:{self.spec.port}{path}", timeout=ASK_TIMEOUT) as answer:
                return str(answer.read(), "utf-8")
        except OSError:
            return None

    def how_workers_died(self) -> str:
        """How the last of them ended, "" where the log does not say."""
        for line in reversed(self.last_lines(200).splitlines()):
            with contextlib.suppress(ValueError):
                match json.loads(line):
                    case {"code": int(code), "pid": int()}:
                        return f"with exit code {code}" if code >= 0 else f"by {_signal(-code)}"
        return ""

    def last_lines(self, count: int = 15) -> str:
        """The end of its log, for messages."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])
        except OSError:
            return ""


async def end(nodes: Sequence[Node], within: float = STOPPED_WITHIN) -> None:
    """End nodes in order: they commit, and leave their groups. What still runs after `within` seconds is killed."""
    for node in nodes:
        node.send(signal.SIGTERM)
    try:
        async with asyncio.timeout(within):
            while any(node.running for node in nodes):  # noqa: ASYNC110 — processes of their own have no event here
                await asyncio.sleep(_LOOK)
    except TimeoutError:
        pass
    finally:
        for node in nodes:
            node.kill()


class DeathWatch:
    """Notices when the workers of a node die again and again, by themselves, and nothing goes on between."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._deaths = self._at_progress = 0

    def progressed(self) -> None:
        """Something was committed."""
        self._at_progress = self._deaths

    async def look(self) -> None:
        """Raises NodeFailedError when they have died too often."""
        self._deaths = max(self._deaths, await self._node.worker_deaths())
        died = self._deaths - self._at_progress
        if died >= DEATHS * self._node.spec.workers:
            how = self._node.how_workers_died()
            raise NodeFailedError(
                f"its workers die by themselves: {died} times without any progress{f', the last {how}' if how else ''}"
            )


async def run_until_idle(node: Node, timeout: float) -> Ended:
    """Run a node until everything that is there is read and committed. Raises NodeFailedError, TimeoutError."""
    node.start(until_idle=True)
    watch, known = DeathWatch(node), 0
    try:
        async with asyncio.timeout(timeout):
            while node.running:
                await asyncio.sleep(_CHECK / 5)
                await watch.look()
                if (made := await node.checkpoints()) > known:
                    known = made
                    watch.progressed()
        ended = await node.wait(1.0)
    finally:
        await end([node], GIVEN_UP_WITHIN)
    if ended is None or ended.code != 0 or ended.error:
        reason = ended.error if ended is not None and ended.error else f"the node ended:\n{node.last_lines()}"
        raise NodeFailedError(reason)
    return ended


async def run_until_committed(node: Node, probe: Probe, ends: Mapping[Place, int], timeout: float) -> None:
    """Run a node until a probe sees that all is committed, then end it in order. Raises as `run_until_idle`."""
    node.start()
    try:
        async with asyncio.timeout(timeout):
            checked = time.monotonic()
            watch = DeathWatch(node)
            committed: Mapping[Place, int] = {}
            while any(committed.get(place, 0) < end for place, end in ends.items()):
                if not node.running:
                    ended = await node.wait(1.0)
                    raise NodeFailedError((ended.error if ended else "") or f"the node ended:\n{node.last_lines()}")
                if time.monotonic() - checked > _CHECK:
                    checked = time.monotonic()
                    await node.check()
                    await watch.look()
                await asyncio.sleep(_LOOK)
                before, committed = committed, await probe.committed()
                if committed != before:
                    watch.progressed()
        await node.stop(timeout)
    finally:
        await end([node], GIVEN_UP_WITHIN)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _sum(exposition: str, metric: str) -> int:
    return sum(int(float(line.split()[-1])) for line in exposition.splitlines() if line.startswith(metric))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _alive(pid: int) -> bool:
    """Whether the process runs: a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def strike(pid: int, number: signal.Signals = signal.SIGKILL) -> bool:
    """Send a signal; False when the process is not there any more."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True

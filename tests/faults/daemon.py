"""`streamd run` as a process of its own, with its workers in view."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from services.command import PROGRAM
from services.process import ServiceError, ServiceProcess, free_ports, tail
from streamd.runtime.faults import POINTS


class Daemon:
    """A node that runs the pipelines of a folder. It and its workers die with the test session.

    `settings` are lines of streamd.yaml; `env` is laid over the environment, of which no STREAMD_ variable is kept.
    """

    def __init__(
        self, folder: Path, *, workers: int = 2, env: Mapping[str, str] | None = None, **settings: object
    ) -> None:
        self.folder = folder
        self.workers = workers
        self._env = dict(env or {})
        [self._port] = free_ports(1)
        self._settings = {
            "app": "faults",
            "state_dir": folder / "state",
            "workers": workers,
            "http": f"{{port: {self._port}}}",
            "log": "{format: json}",
            # Failures come thick and fast here; a row of them must not make a test long.
            "restart": "{initial: 50ms, max: 300ms}",
            **settings,
        }
        self._process: ServiceProcess | None = None
        self.log = folder / "streamd.log"
        self.fault_log = folder / "faults.log"

    async def start(self) -> None:
        """Start it. A log of an earlier one is gone on with."""
        config = self.folder / "streamd.yaml"
        config.write_text("".join(f"{name}: {value}\n" for name, value in self._settings.items()))
        command = [str(PROGRAM), "run", str(self.folder / "pipelines"), "--config", str(config)]
        cleared = {name: "" for name in os.environ if name.startswith("STREAMD_")}
        env = {**cleared, "STREAMD_FAULT_LOG": str(self.fault_log), **self._env}
        self._process = await asyncio.to_thread(ServiceProcess, command, self.log, env)

    @property
    def pid(self) -> int:
        return self._running().pid

    def check(self) -> None:
        """Raises ServiceError when it has ended by itself."""
        if not self._running().running:
            raise ServiceError(f"streamd ended with {self._running().wait(0)}:\n{tail(self.log)}")

    def children(self) -> list[int]:
        """Its worker processes, oldest first; also the spare one."""
        try:
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        except OSError:
            return []

    async def places(self) -> list[dict[str, Any]]:
        """What the node says of its workers, without the spare one; nothing while it does not answer."""
        url = f"http://127.0.0.1:{self._port}/api/v1/workers"

        def ask() -> list[dict[str, Any]]:
            with urllib.request.urlopen(url, timeout=5) as answer:
                found: list[dict[str, Any]] = json.load(answer)["workers"]
                return found

        try:
            return await asyncio.to_thread(ask)
        except OSError:
            return []

    async def at_work(self) -> list[int]:
        """The pids of the workers that have tasks."""
        return [place["pid"] for place in await self.places() if place["tasks"] and alive(place["pid"])]

    async def replaced(self) -> int:
        """How many workers have been replaced so far."""
        return sum(place["restarts"] for place in await self.places())

    def signal(self, number: signal.Signals) -> None:
        self._running().signal(number)

    async def ended(self, deadline: float = 60.0) -> int:
        """Its exit code, once it has ended and no worker is left."""
        workers = self.children()
        code = await asyncio.to_thread(self._running().wait, deadline)
        async with asyncio.timeout(10):
            while any(alive(pid) for pid in workers):  # noqa: ASYNC110 — there is no event
                await asyncio.sleep(0.01)
        return code

    async def drain(self) -> int:
        """SIGTERM; its exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    def kill(self) -> None:
        """SIGKILL, as the last resort of a test as well."""
        if self._process is not None:
            self._process.signal(signal.SIGCONT)
            self._process.kill()

    def told(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log about an event, also of an earlier node of this folder."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def faults(self) -> Counter[tuple[str, str]]:
        """{(point, action): how often it really happened}, over all processes and all nodes of this folder."""
        lines = self.fault_log.read_text().splitlines() if self.fault_log.exists() else []
        found = (line.split() for line in lines)
        return Counter((point, action.partition("=")[0]) for _, point, action in found if point in POINTS)

    def logged(self, event: str) -> list[dict[str, Any]]:
        """All log lines with that message."""
        return [line for line in self._lines() if line.get("event") == event]

    def _lines(self) -> Iterator[dict[str, Any]]:
        if self.log.exists():
            for line in self.log.read_text(errors="replace").splitlines():
                if line.startswith("{") and line.endswith("}"):
                    yield json.loads(line)

    def _running(self) -> ServiceProcess:
        if self._process is None:
            raise ServiceError("streamd was never started")
        return self._process


def alive(pid: int) -> bool:
    """Whether the process runs: a zombie does not."""
    return state_of(pid) not in "ZX"


def state_of(pid: int) -> str:
    """The letter that the kernel has for a process's state: `T` is stopped; `X` for one that is not there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"

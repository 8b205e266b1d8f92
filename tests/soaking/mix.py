"""The faults of a soak: two nodes and their broker, and what is done to them, one kind after another, by a seed.

The first node's supervisor and its first worker are never killed: their series are as long as the run, and show what
every fault leaves behind. Everything else may be.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from faults.daemon import Daemon, alive
from faults.proxy import Proxy
from services.kafka import KafkaBroker
from soaking.load import APP, Load, write_pipeline

ELDER, YOUNGER, GUEST = "first", "second", "third"
SESSION = 6.0  # seconds; as the pipeline says
GUEST_STAYS = 12.0
RESUME_WITHIN = 90.0


class Node(Daemon):
    """A node that says where it answers."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def told(self, what: str) -> str:
        """What its API says of `pipelines` or `workers`; nothing when it does not answer."""

        def ask() -> str:
            with urllib.request.urlopen(f"{self.url}/api/v1/{what}", timeout=5) as answer:
                found: str = answer.read().decode()
                return found

        try:
            return await asyncio.to_thread(ask)
        except OSError:
            return ""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `at`: seconds from the start; `stall`: from its end until output came from every partition."""

    at: float
    kind: str
    whom: str
    stall: float


class Mix:
    """Does faults to the nodes of `cluster`. `done`: those that were."""

    def __init__(
        self, folder: Path, load: Load, broker: KafkaBroker | None, proxy: Proxy, text: str, seed: int, only: str = ""
    ) -> None:
        """Without a `broker` of its own it is never restarted. `only`: how the names of the wanted kinds begin."""
        self.nodes: dict[str, Node] = {}
        self.done: list[Fault] = []
        self._folder, self._load, self._broker, self._proxy, self._text = folder, load, broker, proxy, text
        self._only = only
        self._chance = random.Random(seed)
        self._kinds = self._deck()
        self._began = time.monotonic()

    @property
    def kinds(self) -> dict[str, Callable[[], Awaitable[str]]]:
        """{kind of fault: what does it, and says whom it hit}."""
        broker = {"broker restart": self._restart, "broker kill -9": self._crash} if self._broker else {}
        return {
            "worker kill -9": self._kill_worker,
            "worker SIGSTOP, SIGCONT": self._pause_worker,
            "node kill -9, start": self._kill_node,
            "node SIGSTOP beyond its session, SIGCONT": self._pause_node,
            "connections cut": self._cut,
            "network black hole": self._black_hole,
            "third node joins and leaves": self._guest,
            **broker,
        }

    async def start(self) -> None:
        """Start the two nodes."""
        for name in (ELDER, YOUNGER):
            await self._start_node(name)

    async def strike(self) -> None:
        """The next fault, and the wait until output has resumed. Raises TimeoutError when it does not."""
        kind = next(self._kinds)
        at = time.monotonic() - self._began
        whom = await self.kinds[kind]()
        stall = await self._load.resumed(RESUME_WITHIN)
        self.done.append(Fault(at, kind, whom, stall))
        for node in self.nodes.values():
            node.check()

    async def drain(self) -> dict[str, int]:
        """End all nodes in order; their exit codes."""
        return {name: await node.drain() for name, node in self.nodes.items()}

    def kill(self) -> None:
        for node in self.nodes.values():
            node.kill()

    def _deck(self) -> Iterator[str]:
        """Each kind once in each round, in another order each time."""
        while True:
            round_ = sorted(kind for kind in self.kinds if kind.startswith(self._only))
            self._chance.shuffle(round_)
            yield from round_

    async def _start_node(self, name: str) -> Node:
        node = self.nodes.get(name)
        if node is None:
            folder = self._folder / name
            write_pipeline(folder, self._text)
            node = Node(folder, workers=2, app=APP)
        await node.start()
        self.nodes[name] = node
        return node

    async def _victim(self) -> tuple[str, int]:
        """A worker that may be hit, and has tasks: any but the first of the first node."""
        async with asyncio.timeout(60):
            while True:
                found = [
                    (name, place["pid"])
                    for name, node in self.nodes.items()
                    for place in await node.places()
                    if place["tasks"] and (name, place["worker"]) != (ELDER, 0) and alive(place["pid"])
                ]
                if found:
                    return self._chance.choice(found)
                await asyncio.sleep(0.05)

    async def _kill_worker(self) -> str:
        name, pid = await self._victim()
        _signal([pid], signal.SIGKILL)
        return f"a worker of the {name} node"

    async def _pause_worker(self) -> str:
        name, pid = await self._victim()
        _signal([pid], signal.SIGSTOP)
        await asyncio.sleep(3.0)
        _signal([pid], signal.SIGCONT)
        return f"a worker of the {name} node"

    async def _kill_node(self) -> str:
        self.nodes[YOUNGER].kill()
        await asyncio.sleep(self._chance.random() * 4)
        await self._start_node(YOUNGER)
        return f"the {YOUNGER} node"

    async def _pause_node(self) -> str:
        name = self._chance.choice([ELDER, YOUNGER])
        node = self.nodes[name]
        whole = [node.pid, *node.children()]
        _signal(whole, signal.SIGSTOP)
        await asyncio.sleep(SESSION + 2.0)
        _signal(whole, signal.SIGCONT)
        return f"the {name} node"

    async def _cut(self) -> str:
        count = self._proxy.cut(0.5 + self._chance.random() / 2)
        return f"{count} connections"

    async def _black_hole(self) -> str:
        self._proxy.freeze()
        await asyncio.sleep(2.0 + 2 * self._chance.random())
        self._proxy.thaw()
        return "all connections"

    async def _guest(self) -> str:
        node = await self._start_node(GUEST)
        async with asyncio.timeout(60):
            while not await node.at_work():
                node.check()
                await asyncio.sleep(0.1)
        await asyncio.sleep(GUEST_STAYS)
        await node.drain()
        del self.nodes[GUEST]
        return "partitions move twice"

    async def _restart(self) -> str:
        assert self._broker is not None
        await asyncio.to_thread(self._broker.restart)
        return "the broker"

    async def _crash(self) -> str:
        assert self._broker is not None
        await asyncio.to_thread(self._broker.restart, crash=True)
        return "the broker"


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # it may have been replaced just now
            os.kill(pid, number)

"""Several nodes of one app over one broker: started, stopped and looked at together."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
import urllib.request
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from faults.campaign import flow
from faults.daemon import Daemon
from faults.oracle import KEYS, Verdict, partition_of
from faults.systems import APP, IN_PARTITIONS, KafkaSystem
from streamd.transport.kafka.client import KafkaClient
from streamd.transport.kafka.inspect_protocol import DescribeTransactions

# Seconds without a heartbeat until a node is taken for dead.
SESSION = 4.0
OPTIONS = {"session.timeout.ms": int(SESSION * 1000), "metadata.max.age.ms": 1000}

COUNTED = """
  - aggregate: {by: key, values: {number: last(number), double: last(double), seen: count(), total: sum(number)}}
"""


class CountedSystem(KafkaSystem):
    """As every system, with state: each record comes out with how many its key had, and the sum of their numbers.

    `gaps`: by input partition, the longest time in seconds without output since `watch`.
    """

    def __init__(self, folder: Path, bootstrap: str, **options: object) -> None:
        super().__init__(folder, bootstrap, **options)
        self.gaps = dict.fromkeys(range(IN_PARTITIONS), 0.0)

    def watch(self) -> None:
        """Forget the gaps so far."""
        self.gaps = dict.fromkeys(self.gaps, 0.0)

    async def _set_up(self) -> str:
        text = await super()._set_up()
        head, _, tail = text.partition("sink:")
        return f"{head.rstrip()}{COUNTED}sink:{tail}"

    def _saw(self, values: Iterable[bytes]) -> None:
        values = list(values)
        now = time.monotonic()
        for value in values:
            partition = partition_of(json.loads(value)["key"], IN_PARTITIONS)
            if self.newest_at[partition]:
                self.gaps[partition] = max(self.gaps[partition], now - self.newest_at[partition])
                self.newest_at[partition] = now
        super()._saw(values)

    async def miscounted(self) -> int:
        """Records whose state is not that of all records of their key up to them."""
        return sum(
            found["seen"] != found["number"] + 1 or found["total"] != found["number"] * (found["number"] + 1) // 2
            for partition in await self._outputs()
            for found in partition
        )


class Node(Daemon):
    """One node, with a folder of its own and the system's pipelines."""

    def __init__(self, folder: Path, pipelines: Path, **options: Any) -> None:
        folder.mkdir(exist_ok=True)
        if not (folder / "pipelines").exists():
            (folder / "pipelines").symlink_to(pipelines)
        super().__init__(folder, **{"workers": 1, **options})
        self.stopped = False

    async def ask(self, path: str) -> str:
        """The answer of its HTTP server; empty while there is none."""

        def get() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=2) as answer:
                return str(answer.read().decode())

        try:
            return await asyncio.to_thread(get)
        except OSError:
            return ""

    async def tasks(self, pipeline: str) -> dict[int, str]:
        """{partition: state} of the tasks that it has; empty when it does not answer."""
        found = json.loads(await self.ask(f"/api/v1/pipelines/{pipeline}") or '{"task_list": []}')
        return {task["partition"]: task["state"] for task in found["task_list"]}

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over all its series that have the labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = (await self.ask("/metrics")).splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.partition("{")[0].partition(" ")[0] == name and all(label in line for label in wanted)
        )

    def everybody(self) -> list[int]:
        """The pids of the supervisor and of all its workers, the supervisor first."""
        return [self.pid, *self.children()]

    def freeze(self) -> None:
        """SIGSTOP for the supervisor and then for its workers."""
        for pid in self.everybody():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT for the workers and then for the supervisor: they go on before they can hear anything."""
        for pid in reversed(self.everybody()):
            os.kill(pid, signal.SIGCONT)

    def refusals(self) -> list[str]:
        """What brokers refused because somebody else had taken over, as logged."""
        events = ("Task goes on after a rebalance", "Task will be tried again")
        codes = ("INVALID_PRODUCER_EPOCH", "PRODUCER_FENCED", "ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID")
        messages = [line.get("message", "") for event in events for line in self.logged(event)]
        return [message for message in messages if any(code in message for code in codes)]


class Nodes:
    """The nodes of one app. `alive`: those that are to run."""

    def __init__(self, system: CountedSystem) -> None:
        self.system = system
        self.alive: list[Node] = []
        self.every: list[Node] = []

    async def join(self, **options: Any) -> Node:
        """One more node, started."""
        node = Node(self.system.folder / f"node-{len(self.every)}", self.system.folder / "pipelines", **options)
        self.every.append(node)
        self.alive.append(node)
        await node.start()
        return node

    async def leave(self, node: Node) -> None:
        """SIGTERM; it has to end with success, unless it had not even begun to listen to signals."""
        self.alive.remove(node)
        code, said = await node.drain(), node.log.read_text()
        assert code == 0 or (code == -signal.SIGTERM and not said), said[-3000:]

    async def kill(self, node: Node) -> None:
        """SIGKILL of the supervisor; its workers go with it."""
        self.alive.remove(node)
        node.signal(signal.SIGKILL)
        assert await node.ended() == -signal.SIGKILL

    async def restart(self, node: Node) -> None:
        """SIGTERM, and start it again on its folder."""
        await self.leave(node)
        self.alive.append(node)
        await node.start()

    async def settled(self, deadline: float = 60.0) -> dict[Node, set[int]]:
        """Wait until every partition runs on exactly one node, shared out evenly; who has which."""
        least = IN_PARTITIONS // len(self.alive)
        async with asyncio.timeout(deadline):
            while True:
                for node in self.alive:
                    node.check()
                found = {node: await node.tasks(self.system.pipeline) for node in self.alive}
                states = [state for tasks in found.values() for state in tasks.values()]
                if states == ["running"] * IN_PARTITIONS and all(len(tasks) >= least for tasks in found.values()):
                    owned = {node: set(tasks) for node, tasks in found.items()}
                    if set.union(*owned.values()) == set(range(IN_PARTITIONS)):
                        return owned
                await asyncio.sleep(0.05)

    async def counts(self, node: Node, name: str, value: float, **labels: str) -> None:
        """Wait until a counter, which is brought up to date once a second, has come to `value`, and not beyond."""
        found = 0.0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                while (found := await node.metric(name, **labels)) < value:  # noqa: ASYNC110 — there is no event
                    await asyncio.sleep(0.05)
        assert found == value, f"{name}{labels} is {found}, and should be {value}"

    async def epochs(self) -> dict[int, tuple[int, int]]:
        """{partition: (producer id, epoch)} of the tasks' transactional ids, as the broker has them."""
        names = {f"streamd.{APP}.{self.system.pipeline}.0.{number}": number for number in range(IN_PARTITIONS)}
        client = KafkaClient({"bootstrap_servers": self.system.bootstrap})
        try:
            await client.start()
            answer = await client.send(await client.any_node(5), DescribeTransactions(list(names), {}), "test", 5)
        finally:
            await client.close()
        return {names[one[1]]: (one[5], one[6]) for one in answer.transactions if not one[0]}

    async def exact(self) -> Verdict:
        """Everything comes out, every node ends in order, and nothing was lost, doubled, disordered or miscounted."""
        await self.system.complete()
        for node in tuple(self.alive):
            await self.leave(node)
        verdict = await self.system.verdict()
        assert verdict.exact, verdict
        assert await self.system.miscounted() == 0
        assert await self.system.open_transactions() == 0
        return verdict

    def discard(self) -> None:
        """Kill what is left."""
        for node in self.every:
            with contextlib.suppress(OSError):
                node.thaw()
            node.kill()


@contextlib.asynccontextmanager
async def flowing(system: KafkaSystem, seed: int = 5, pause: float = 0.15) -> AsyncIterator[None]:
    """Input flows, and output came already from every partition."""
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(flow(system, enough, random.Random(seed), pause=pause))
        try:
            await system.until(lambda: min(system.newest.values()) >= KEYS, "the first output")
            yield
        finally:
            enough.set()

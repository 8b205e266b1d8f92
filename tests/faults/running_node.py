"""A whole node over the embedded log, in the test's own loop, with real worker processes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from streamd.component.registry import Registry
from streamd.config.load import load_pipelines
from streamd.config.service import ServiceConfig
from streamd.observability.merge import MergedMetrics
from streamd.observability.status import NodeStatus
from streamd.supervisor.node import Supervisor
from streamd.supervisor.run import RunSummary, make_supervisor, run_supervisor
from streamd.transport.embedded.log import EmbeddedLog, log_path
from streamd.transport.embedded.transaction import EmbeddedTransaction


class RunningNode:
    """Pipelines, their log, and the node that runs them. `status` is at most a second old."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.service = ServiceConfig.model_validate({"state_dir": folder / "state", "http": {"enabled": False}})
        self.status: NodeStatus | None = None
        self.metrics: MergedMetrics | None = None
        self._path = log_path(folder / "state" / "streamd", "streamd")
        self._path.parent.mkdir(parents=True)
        self._log: EmbeddedLog | None = None
        self._input: EmbeddedTransaction | None = None
        self._supervisor: Supervisor | None = None
        self._run: asyncio.Task[RunSummary] | None = None

    async def open(self, partitions: int) -> None:
        """Make the topic `in`."""
        self._log = EmbeddedLog.acquire(self._path)
        await self._log.create_topic("in", partitions)
        self._input = EmbeddedTransaction(self._path, "the test's input")
        await self._input.open()

    async def append(self, records: list[tuple[int, dict[str, Any]]]) -> None:
        """Append (partition, document) pairs to `in`, in one transaction."""
        assert self._input is not None
        self._input.begin()
        for partition, document in records:
            key = str(document["key"]).encode()
            self._input.append("in", partition, key, orjson.dumps(document), 1_700_000_000_000, ())
        await self._input.flush()
        await self._input.put_positions({}, {})
        await self._input.commit()

    async def contents(self, topic: str) -> list[list[dict[str, Any]]]:
        """The documents in each partition of a topic, in order."""
        assert self._log is not None
        partitions: list[list[dict[str, Any]]] = []
        for stream in await self._log.streams(topic):
            documents: list[dict[str, Any]] = []
            at = 0
            while records := await self._log.fetch(stream.id, at, 10_000, 1 << 24):
                documents.extend(orjson.loads(record.value) for record in records)
                at = records[-1].offset + 1
            partitions.append(documents)
        return partitions

    async def count(self, topic: str) -> int:
        """How many records a topic has; 0 for one that is not there yet."""
        assert self._log is not None
        return sum(stream.end for stream in await self._log.streams(topic))

    def start(self, pipelines: dict[str, str], *, until_idle: bool = False, **settings: Any) -> None:
        """Run pipelines: file name → YAML text. `settings` are the service's."""
        folder = self.folder / "pipelines"
        folder.mkdir(exist_ok=True)
        for name, text in pipelines.items():
            (folder / name).write_text(text)
        service = ServiceConfig.model_validate({**self.service.model_dump(), **settings})
        configs = load_pipelines([folder], Registry.default(), {}, service)
        self._supervisor = make_supervisor(configs, service, until_idle=until_idle, env={}, on_progress=self._progress)
        self._run = asyncio.create_task(run_supervisor(self._supervisor, service))

    async def until(self, condition: Callable[[], Any], deadline: float = 60.0) -> None:
        """Wait until a plain or async condition holds. A node that ends before is an error."""
        assert self._run is not None
        async with asyncio.timeout(deadline):
            while True:
                held = condition()
                if await held if asyncio.iscoroutine(held) else held:
                    return
                assert not self._run.done(), self._run.result()
                await asyncio.wait((self._run,), timeout=0.01)

    def says(self, text: str) -> bool:
        """Whether the status of its pipelines has the text, as what cannot be reached or as the last error."""
        pipelines = self.status.pipelines if self.status is not None else ()
        return any(
            text in said for one in pipelines for said in (*one.unreachable, one.error.message if one.error else "")
        )

    def drain(self) -> None:
        """End this node in order. A signal would end all nodes of the test."""
        assert self._supervisor is not None
        self._supervisor.drain()

    async def ended(self, deadline: float = 60.0) -> RunSummary:
        assert self._run is not None
        async with asyncio.timeout(deadline):
            return await self._run

    async def close(self) -> None:
        if self._run is not None and not self._run.done():
            self._run.cancel()
            _, pending = await asyncio.wait((self._run,), timeout=60.0)
            assert not pending, f"The node does not end: {self._run.get_stack()}"
        if self._input is not None:
            await self._input.close()
        if self._log is not None:
            await self._log.release()

    def _progress(self, status: NodeStatus, metrics: MergedMetrics) -> None:
        self.status, self.metrics = status, metrics


def worker_pids() -> list[int]:
    """All worker processes of this process, the spare one as well, youngest last."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in children if "streamd.runtime.worker" in _command(int(pid))]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""

"""A supervisor over real worker processes with pretended tasks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streamd.component.context import PipelineContext
from streamd.component.model import Model
from streamd.component.spec import ComponentSpec
from streamd.config.pipeline import ComponentConfig, PipelineConfig, Place
from streamd.plan.graph import build_plan
from streamd.record import TaskId
from streamd.runtime.backoff import RestartPolicy
from streamd.runtime.control import Start
from streamd.supervisor.membership import GroupFactory
from streamd.supervisor.node import Supervisor
from streamd.supervisor.options import Options
from streamd.supervisor.pipelines import ManagedPipeline

FAKE_WORKER = (sys.executable, str(Path(__file__).parent / "fake_worker.py"))
QUICK = Options(
    workers=2,
    drain_timeout=20.0,
    stall_timeout=20.0,
    silence_timeout=10.0,
    unreachable_timeout=20.0,
    idle_confirmation=0.2,
    revoke_timeout=2.0,
    restart=RestartPolicy(initial=0.05, maximum=0.2),
)


class FakeSource:
    """A source that only says how many partitions it has; the first of `errors` is raised by each `prepare`."""

    def __init__(self, partitions: int, errors: Iterator[Exception]) -> None:
        self._partitions = partitions
        self._errors = errors

    async def prepare(self) -> None:
        error = next(self._errors, None)
        if error is not None:
            raise error

    async def partitions(self) -> int:
        return self._partitions

    async def close(self) -> None:
        pass


class FakeSink:
    async def prepare(self) -> None:
        pass

    async def close(self) -> None:
        pass


class Node:
    """A supervisor under test, and the folder that its tasks write to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options = QUICK
        self.supervisor: Supervisor | None = None
        self._changed = asyncio.Event()
        self._pipelines: list[ManagedPipeline] = []
        self._run: asyncio.Task[int] | None = None

    def pipeline(
        self,
        name: str = "numbers",
        *,
        partitions: int = 2,
        errors: Iterable[Exception] = (),
        group: GroupFactory = lambda plan, context: None,
        version: int = 1,
        text: str | None = None,
        **behaviour: Any,
    ) -> ManagedPipeline:
        """Make a pipeline; those made before `start` run from its beginning."""
        failing = iter(errors)
        text = text or json.dumps({"folder": str(self.folder), **behaviour})
        place = Place(f"{name}.yaml")
        source = ComponentSpec("source", "fake", Model, lambda config, context: FakeSource(partitions, failing))
        sink = ComponentSpec("sink", "fake", Model, lambda config, context: FakeSink())
        config = PipelineConfig(
            name=name,
            sources=(ComponentConfig("fake", "source", "fake", Model(), source, place),),
            stages=(),
            sinks=(ComponentConfig("out", "sink", "fake", Model(), sink, place, inputs=("fake",)),),
            text=text,
        )
        context = PipelineContext("test", name, self.folder, self.folder)
        pipeline = ManagedPipeline(build_plan(config), version, context, self._on_change, self.options.restart, group)
        self._pipelines.append(pipeline)
        return pipeline

    def make(self, **options: Any) -> Supervisor:
        """A supervisor over all pipelines made so far, which does not run."""
        self.options = replace(self.options, **options)
        supervisor = self.supervisor = Supervisor("test", Start(b"", {}), self.options, command=FAKE_WORKER)
        for pipeline in self._pipelines:
            supervisor.add(pipeline)
        return supervisor

    def start(self, **options: Any) -> Supervisor:
        """Run the supervisor over all pipelines made so far."""
        supervisor = self.make(**options)
        self._run = asyncio.create_task(supervisor.run())
        return supervisor

    async def ended(self) -> int:
        """Wait for the end; returns the exit code."""
        assert self._run is not None
        async with asyncio.timeout(60):
            return await self._run

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; a supervisor that ends before is an error."""
        assert self._run is not None
        async with asyncio.timeout(60):
            while not condition():
                assert not self._run.done(), self._run.result()
                await asyncio.wait((self._run,), timeout=0.01)

    def output(self, pipeline: str = "numbers", partition: int = 0) -> list[int]:
        """What the task has committed."""
        file = self.folder / str(TaskId("test", pipeline, 0, partition))
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def misbehaves(self) -> bool:
        """Whether a task has begun to do what it was told as `then`."""
        return any(self.folder.glob("*.once"))

    def pids(self) -> list[int]:
        """The worker processes, without the spare one."""
        assert self.supervisor is not None
        return [worker.pid for worker in self.supervisor.status().workers if worker.pid is not None]

    async def close(self) -> None:
        if self._run is not None and not self._run.done():
            assert self.supervisor is not None
            self.supervisor.kill(9)
            with contextlib.suppress(asyncio.CancelledError):
                await self._run

    def _on_change(self) -> None:
        if self.supervisor is not None:
            self.supervisor.wake()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    try:
        yield made
    finally:
        await made.close()

"""A real worker process around pretended tasks, for tests of the supervisor: `python fake_worker.py FD SUPERVISOR_PID`.

A pipeline's text is JSON: {"folder": where tasks keep what they commit, "records": how many there are, None for no end,
"pause": seconds between two of them, "then": what a task does after `after` records}. A task appends the numbers 0, 1,
… to `<folder>/<task>`, which is its output and its position at once, so that a repeated or a lost number is seen there.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from streamd.errors import ConfigError, FatalError, TransientError
from streamd.observability import catalog
from streamd.observability.metrics import MetricSet, Snapshot
from streamd.record import TaskId
from streamd.runtime.backoff import RestartPolicy
from streamd.runtime.control import Assign, Load, Member, SchemaChange, Start
from streamd.runtime.worker import serve


class FakeTask:
    """Counts, one number for each record, and misbehaves when told to."""

    def __init__(self, task: TaskId, behaviour: dict[str, Any], metrics: MetricSet, member: Member | None) -> None:
        self._behaviour = behaviour
        self._file = Path(behaviour["folder"]) / str(task)
        self._stop = asyncio.Event()
        self._counter = metrics.counter(catalog.SOURCE_RECORDS, pipeline=task.pipeline, source="fake")
        self.state, self.lag, self.records_in = "starting", 1, 0
        self.last_progress = time.monotonic()
        self.member = member

    @property
    def status(self) -> FakeTask:
        return self

    @property
    def idle(self) -> bool:
        return self.lag == 0

    @property
    def positions(self) -> dict[str, Any]:
        return {"member": None if self.member is None else self.member.generation}

    def stop(self) -> None:
        self._stop.set()

    def update_membership(self, membership: Member) -> None:
        self.member = membership

    async def run(self) -> None:
        self._file.touch()
        position = len(self._file.read_text().split())
        self.state = "running"
        records, after = self._behaviour.get("records"), self._behaviour.get("after", 0)
        while records is None or position < records:
            if self._stop.is_set():
                self.state = "stopped"
                return
            if position == after:
                await self._misbehave(self._behaviour.get("then"))
            with self._file.open("a") as file:
                file.write(f"{position}\n")
            position += 1
            self.records_in += 1
            self._counter.add()
            self.last_progress = time.monotonic()
            await asyncio.sleep(self._behaviour.get("pause", 0.001))
        self.lag = 0
        if self._behaviour.get("tail"):
            await self._stop.wait()
        self.state = "drained"

    async def _misbehave(self, how: str | None) -> None:
        once = self._file.with_suffix(".once")
        if how is None or (how.startswith("once ") and once.exists()):
            return
        once.touch()
        match how.removeprefix("once "):
            case "fatal":
                raise FatalError("This is how it ends.")
            case "transient":
                raise TransientError("This may pass.")
            case "unexpected":
                raise KeyError("nobody expects this")
            case "block":
                time.sleep(3600)  # noqa: ASYNC251 — the fault that the watchdog is there for
            case "stall":
                await asyncio.Event().wait()
            case "exit":
                os._exit(3)
            case "deaf":
                while True:
                    try:
                        await asyncio.sleep(3600)
                    except asyncio.CancelledError:
                        continue


class FakeHost:
    """What `runtime.host.EngineHost` is for real tasks."""

    policy = RestartPolicy(initial=0.02, maximum=0.1)

    def __init__(self, start: Start) -> None:
        self._metrics = MetricSet()
        self._behaviours: dict[str, dict[str, Any]] = {}

    def seat(self, worker: int) -> None:
        pass

    async def load(self, load: Load) -> None:
        if "wrong" in load.text:
            raise ConfigError("The text is wrong.")
        self._behaviours[load.pipeline] = json.loads(load.text)

    async def unload(self, pipeline: str) -> None:
        del self._behaviours[pipeline]

    async def retire(self, used: Collection[tuple[str, int]]) -> None:
        pass

    def make(self, assign: Assign, member: Member | None) -> FakeTask:
        return FakeTask(assign.task, self._behaviours[assign.task.pipeline], self._metrics, member)

    def membership(self, member: Member) -> Member:
        return member

    async def rival(self, assign: Assign) -> None:
        return None

    def snapshot(self) -> Snapshot:
        return self._metrics.snapshot()

    def schema_changes(self) -> list[SchemaChange]:
        return []

    async def close(self) -> None:
        pass


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), FakeHost)

"""A pipeline over the embedded log, run in the test's own loop: seed `in`, run the YAML, read what came out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson

from streamd import errors
from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.errors import FatalError
from streamd.observability.metrics import MetricSet
from streamd.plan.graph import build_plan
from streamd.record import RawRecord
from streamd.runtime.backoff import RestartPolicy
from streamd.supervisor.inline import run_inline
from streamd.supervisor.options import Options
from streamd.transport.embedded.log import EmbeddedLog, log_path
from streamd.transport.embedded.transaction import EmbeddedTransaction

HEAD = "name: p\nsource: {log: {topic: in}}\nsink: {log: {topic: out}}\n"


class InlineApp:
    """`metrics` are those of the last run."""

    def __init__(self, folder: Path, registry: Registry | None = None) -> None:
        self.folder = folder
        self.registry = registry or Registry.default()
        self.metrics = MetricSet()
        self._path = log_path(folder, "app")

    async def seed(self, values: list[Any], topic: str = "in") -> None:
        """Append values to partition 0 of a topic: bytes as they are, anything else as JSON."""
        log = EmbeddedLog.acquire(self._path)
        await log.create_topic(topic, 1)
        transaction = EmbeddedTransaction(self._path, "seed")
        await transaction.open()
        for i, value in enumerate(values):
            data = value if value is None or isinstance(value, bytes) else orjson.dumps(value)
            transaction.append(topic, 0, b"k%d" % i, data, 1_700_000_000_000 + i, (("h", b"1"),))
        await transaction.commit()
        await transaction.close()
        await log.release()

    async def run(self, yaml: str) -> None:
        """Run a pipeline until everything is read and committed. `yaml` is put behind a name, source `in`, sink `out`,
        unless it names its own."""
        await self._run(yaml, None)

    async def run_until(self, yaml: str, done: Callable[[], Awaitable[bool]]) -> None:
        """Run a pipeline that goes on when all is read, until something has come of that. Gives up after 30 s."""
        stop = asyncio.Event()
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            running = group.create_task(self._run(yaml, stop))
            while not running.done() and not await done():  # noqa: ASYNC110 (nothing tells when a topic grows)
                await asyncio.sleep(0.02)
            stop.set()

    async def _run(self, yaml: str, stop: asyncio.Event | None) -> None:
        text = yaml if "source" in yaml else HEAD + yaml
        config = load_pipeline_text(text, self.folder / "p.yaml", self.registry, {}, ServiceConfig.model_validate({}))
        context = PipelineContext("app", config.name, self.folder, self.folder, config.kafka)
        self.metrics = MetricSet()
        options = Options(idle_confirmation=0.1, restart=RestartPolicy(initial=0.01, maximum=0.02))
        result = await run_inline(
            build_plan(config), context, self.metrics, until_idle=stop is None, options=options, stop=stop
        )
        if result.fault is not None:
            kind = getattr(errors, result.fault.error, FatalError)
            raise (kind if issubclass(kind, FatalError) else FatalError)(result.fault.message)

    async def records(self, topic: str) -> list[RawRecord]:
        """Everything in partition 0 of a topic."""
        log = EmbeddedLog.acquire(self._path)
        found: list[RawRecord] = []
        for stream in (await log.streams(topic))[:1]:
            while records := await log.fetch(stream.id, len(found), 10_000, 1 << 24):
                found += records
        await log.release()
        return found

    async def values(self, topic: str = "out") -> list[Any]:
        return [orjson.loads(record.value) for record in await self.records(topic)]

    def total(self, name: str, **labels: str) -> float:
        """A counter's sum over all series with these label values."""
        return sum(
            value
            for family in self.metrics.snapshot().families
            if family.name == name
            for series, value in zip(family.labels, family.values, strict=True)
            if set(labels.values()) <= set(series)
        )

"""A pipeline at work in a test: its real tasks, under a clock and on a transport of the test's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import orjson

from streamd.codecs import Codec
from streamd.component.context import PipelineContext
from streamd.config.pipeline import ComponentConfig, PipelineConfig
from streamd.errors import ConfigError, StreamdError
from streamd.observability import catalog
from streamd.observability.metrics import MetricSet
from streamd.plan.graph import PartPlan, PipelinePlan, build_plan
from streamd.plan.loops import refuse_loops
from streamd.record import BEGINNING, TaskId
from streamd.runtime.assembly import Assembly
from streamd.runtime.backoff import RestartPolicy, fault_of
from streamd.runtime.control import Assign, Fault, Look, Member, Seen, TaskEnded
from streamd.runtime.task import Task
from streamd.runtime.tasks import TaskOwner
from streamd.state.entries import key_text
from streamd.testing.memory import MemorySink, MemorySource, MemoryTransaction, World
from streamd.testing.schema_registry import MemorySchemaRegistry
from streamd.testing.virtual_time import HandClock, VirtualLoop

# Virtual seconds, and real ones for what is real, within which everything must have come to rest.
REST_WITHIN = 2 * 86400.0
REALLY_WITHIN = 20.0
DRAIN_TIMEOUT = 60.0  # virtual seconds
MOST_KEYS = 10_000  # of a view that are looked at

APP = "test"


class RestlessError(StreamdError):
    """The pipeline does not come to rest: it waits for something that a test does not have."""


class Engine:
    """All tasks of one pipeline. Use as a context: everything is over at its end.

    `failure`: why it stopped for good, or did not start, None while it works; `unexpected`: the exception behind it,
    where that is one that nobody thought of.
    """

    def __init__(self, config: PipelineConfig, world: World, clock: HandClock, state_dir: Path) -> None:
        self.plan: PipelinePlan = build_plan(config, APP)
        self.world, self.clock = world, clock
        self.metrics = MetricSet()
        self.failure: Fault | None = None
        self.started = False
        self.unexpected: BaseException | None = None
        base_dir = config.file.parent if config.file is not None else Path.cwd()
        self._context = PipelineContext(APP, config.name, state_dir, base_dir, config.kafka, clock=clock)
        self._assembly: Assembly | None = None
        self._incarnation = 0
        # Those that people know of, without the ends of exchanges.
        self.sources: dict[str, ComponentConfig] = {one.id: one for one in (*config.sources, *config.tables)}
        self.tables = frozenset(table.id for table in config.tables)
        self.sinks: dict[str, ComponentConfig] = {
            sink.id: sink for part in self.plan.parts for sink in part.all_sinks if sink.name != "exchange"
        }
        self._owner = TaskOwner(
            self._make, self._ended, policy=RestartPolicy(unexpected_limit=1), clock=clock, chance=lambda: 0.0,
            on_unexpected=self._on_unexpected,
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        await self._owner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:  # noqa: PYI036 (passed on as they are)
        await self._owner.__aexit__(*error)
        await self._close()

    async def start(self) -> None:
        """Put the pipeline together and start its tasks. What does not work is its failure."""
        assembly = _MemoryAssembly(self.plan, self._context, self.world)
        try:
            for part in self.plan.parts:
                refuse_loops(part, self.plan.name, self._context.base_dir)
            await assembly.open()
        except Exception as error:
            fault = fault_of(error)
            if isinstance(error, ConfigError) and error.diagnostics:
                fault = Fault(fault.kind, fault.error, "\n".join(map(str, error.diagnostics)))
            self._fail(fault, error)
            return
        self._assembly, self.started = assembly, True
        for part in self.plan.parts:
            for partition in range(self._tasks(part)):
                self._incarnation += 1
                task = TaskId(APP, self.plan.name, part.index, partition)
                self._owner.assign(Assign(task, self._incarnation, 1, None))
        await self.settle()

    async def settle(self) -> None:
        """Return when everything that came is processed and committed, or the pipeline has failed."""
        while self.failure is None:
            await self._rest()
            if not self.world.struck.is_set():
                return
            self.world.struck.clear()
            await self._kill()
            await self._start_again()

    async def crash(self) -> None:
        """Kill all tasks, nothing of what is open is committed, and start them anew from their last checkpoint."""
        if self.failure is None:
            await self._kill()
            await self._start_again()

    async def restart(self) -> None:
        """End all tasks in order, and start them anew."""
        for task in self._owner.tasks:
            self._owner.revoke(task, DRAIN_TIMEOUT)
        await self._owner.empty()
        if self.failure is None:
            await self._start_again()

    async def move_time(self, to_ms: int) -> None:
        """Nothing before this time is to come any more, from any source."""
        for stream in self.world.streams.values():
            if stream.internal:
                continue
            stream.moved_to = max(to_ms, stream.moved_to or BEGINNING)
            stream.wake()
        await self.settle()

    @property
    def watermark(self) -> int | None:
        """The least of all tasks' watermarks, in ms; None where no stage follows the time, or none has come yet."""
        return min((round(value * 1000) for _, value in self._values(catalog.WATERMARK.name)), default=None)

    def counted(self, metric: catalog.Metric) -> dict[str, int]:
        """What a counter has by component, in all that is committed."""
        found: dict[str, int] = {}
        for labels, value in self._values(metric.name):
            found[labels[1]] = found.get(labels[1], 0) + int(value)
        return found

    def view(self, stage: str) -> dict[str, Any] | None:
        """{key, as text: value} of a stage's view, as of the last checkpoint; None where there is none to be seen."""
        found: dict[str, Any] = {}
        for task in self._owner.tasks:
            if stage in {one.id for one in self.plan.parts[task.part].stages}:
                answers: list[Seen] = []
                self._owner.look(Look(1, task, stage, limit=MOST_KEYS), answers.append)
                if not answers or answers[0].outcome != "ok":
                    return None
                for key, value in answers[0].entries:
                    found[key_text(orjson.loads(key))] = orjson.loads(value)
        return found

    @property
    def codecs(self) -> Mapping[str, Codec]:
        """What sources and sinks turn bytes into documents with, by id, and into keys and headers, by name.

        None are there before it all works.
        """
        return {} if self._assembly is None else self._assembly.codecs

    def _values(self, metric: str) -> list[tuple[tuple[str, ...], float]]:
        families = [family for family in self.metrics.snapshot().families if family.name == metric]
        return [pair for family in families for pair in zip(family.labels, family.values, strict=True)]

    # Inside.

    async def _rest(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        at_rest: asyncio.Future[None] = loop.create_future()
        latest, began, waited = loop.time() + REST_WITHIN, time.monotonic(), loop.really_waited

        def look(real: bool) -> bool:
            if at_rest.done():
                return True
            if real:
                if loop.really_waited - waited > REALLY_WITHIN:
                    at_rest.set_exception(_restless(f"{time.monotonic() - began:.0f} s of real time", real=True))
                return at_rest.done()
            if self.failure is not None or self.world.struck.is_set() or self.world.all_committed:
                at_rest.set_result(None)
            elif loop.time() > latest:
                at_rest.set_exception(_restless(f"{REST_WITHIN / 3600:.0f} hours of the test's time", real=False))
            return at_rest.done()

        loop.before_wait = look
        try:
            await at_rest
        finally:
            loop.before_wait = None

    async def _kill(self) -> None:
        for task in self._owner.tasks:
            self._owner.revoke(task, 0.0)
        await self._owner.empty()

    async def _start_again(self) -> None:
        await self._close()
        await self.start()

    async def _close(self) -> None:
        if self._assembly is not None:
            assembly, self._assembly = self._assembly, None
            await assembly.close()

    def _tasks(self, part: PartPlan) -> int:
        assert self._assembly is not None
        return max(self._assembly.partitions[source.id] for source in part.sources)

    def _make(self, assign: Assign, member: Member | None) -> Task:
        assert self._assembly is not None
        tasks = self._tasks(self.plan.parts[assign.task.part])
        return Task(assign.task, self._assembly, tasks, self.metrics, None, self.clock)

    def _ended(self, ended: TaskEnded) -> None:
        if ended.outcome == "failed" and ended.fault is not None:
            self._fail(ended.fault, self.unexpected)

    def _on_unexpected(self, error: BaseException, task: TaskId) -> None:
        self.unexpected = error

    def _fail(self, fault: Fault, error: BaseException | None) -> None:
        if self.failure is None:
            self.failure = fault
            self.unexpected = error if fault.kind == "unexpected" else None
            for task in self._owner.tasks:
                self._owner.revoke(task, DRAIN_TIMEOUT)


class _MemoryAssembly(Assembly):
    """An assembly whose tasks commit to memory."""

    def __init__(self, plan: PipelinePlan, context: PipelineContext, world: World) -> None:
        super().__init__(plan, context)
        self._world = world

    async def open(self) -> None:
        """As `Assembly.open`, with exchanges in memory as well."""
        await super().open()
        for part in self.plan.parts:
            for source in part.sources:
                await self._open_source(source)

    def new_end(self, component: ComponentConfig) -> Any:
        """In memory, whatever it is. Those of exchanges follow when it is known how many partitions there are."""
        if component.name == "exchange":
            return None
        return MemorySource(component.id, self._world) if component.kind == "source" else MemorySink(component.id)

    def schema_registry(self) -> MemorySchemaRegistry:
        """In memory, one for the test."""
        return self._world.schema_registry

    def transaction(self, task: TaskId, membership: Any) -> MemoryTransaction:
        """As `Assembly.transaction`."""
        return MemoryTransaction(self._world, task)

    async def _open_source(self, source: ComponentConfig) -> None:
        if source.id in self.partitions:
            return
        writer = self.plan.writer_of(source)
        if writer is not None:
            # Here, since most pipelines have none.
            from streamd.testing.exchange import MemoryExchangeSink, MemoryExchangeSource

            for before in writer.sources:
                await self._open_source(before)
            settings: Any = source.settings
            partitions = settings.partitions or max(self.partitions[before.id] for before in writer.sources)
            self.sources[source.id] = MemoryExchangeSource(source.id, partitions, self._world, self.context)
            [sink] = (s for s in writer.sinks if s.name == "exchange" and s.settings.topic == settings.topic)  # type: ignore[attr-defined]
            self.sinks[sink.id] = MemoryExchangeSink(settings, source.id, partitions, self._world)
        self.partitions[source.id] = await self.sources[source.id].partitions()


def _restless(after: str, *, real: bool) -> RestlessError:
    what = "a thread or a socket of a stage is not done" if real else "records are neither committed nor refused"
    return RestlessError(f"the pipeline does not come to rest: after {after} {what}")

"""The engine as a worker process hosts it: pipelines loaded from text, put together once, shared by their tasks."""

from __future__ import annotations

import asyncio
import importlib
import pickle
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.pipeline import PipelineConfig
from streamd.config.service import ServiceConfig
from streamd.errors import FatalError
from streamd.observability import catalog
from streamd.observability.identity import Rival
from streamd.observability.logs import configure_logging
from streamd.observability.metrics import MetricSet, Snapshot
from streamd.observability.process import LoopLag, measure_process
from streamd.plan.graph import build_plan
from streamd.record import TaskId
from streamd.runtime.assembly import Assembly
from streamd.runtime.backoff import RestartPolicy
from streamd.runtime.control import Assign, Follow, Load, Member, SchemaChange, Start
from streamd.runtime.standbys import Copy
from streamd.runtime.stores import snapshot_folder
from streamd.runtime.task import Task
from streamd.state.snapshot import Snapshot as LocalSnapshot
from streamd.state.standby import Standby

log = structlog.get_logger(__name__)


CLIENTS_CLOSE_TIMEOUT = 1.0  # seconds; what is left then ends with the loop


async def clients_closed() -> None:
    """Return when the clients that ended tasks gave back are closed: nothing may be left when the loop ends."""
    # One that was never imported has no clients.
    leases = sys.modules.get("streamd.transport.kafka.leases")
    if leases is None:
        return
    try:
        async with asyncio.timeout(CLIENTS_CLOSE_TIMEOUT):
            await leases.closed()
    except TimeoutError:
        log.debug("Clients were not closed in time", seconds=CLIENTS_CLOSE_TIMEOUT)


def pipeline_context(config: PipelineConfig, service: ServiceConfig) -> PipelineContext:
    """What the components of a pipeline are told. Makes the app's folder for state."""
    state_dir = Path(service.state_dir) / service.app
    state_dir.mkdir(parents=True, exist_ok=True)
    base_dir = config.file.parent if config.file is not None else Path.cwd()
    return PipelineContext(
        service.app,
        config.name,
        state_dir,
        base_dir,
        config.kafka,
        service.create_topics,
        config.schema_registry,
    )


def restart_policy(service: ServiceConfig) -> RestartPolicy:
    """How tasks, workers and pipelines are tried again."""
    restart = service.restart
    return RestartPolicy(initial=restart.initial, maximum=restart.max, calm=restart.reset_after)


def membership_of(member: Member) -> Any:
    """A member as Kafka's transactions take it."""
    # By name: a process without Kafka must not pay for importing a client of it.
    kafka = importlib.import_module("streamd.transport.kafka.membership")
    return kafka.Membership(member.group, member.member_id, member.generation)


async def rival_of(task: TaskId, assembly: Assembly) -> Rival | None:
    """Who else runs the task, as far as its transport can tell. Never raises."""
    part = assembly.plan.parts[task.part]
    if part.transport != "kafka":
        return None  # nobody else can: the pipeline's lock is ours
    rivals = importlib.import_module("streamd.transport.kafka.rivals")
    found: Rival | None = await rivals.rival_of(task, part.sources, assembly.context)
    return found


class EngineHost:
    """Everything of one worker process that is not about processes."""

    def __init__(self, start: Start) -> None:
        # Our own supervisor sent it, over a socket that nobody else has.
        self._service: ServiceConfig = pickle.loads(start.service)
        self._environment, self._run = start.environment, start.run
        self._registry = Registry.default()
        self._metrics = MetricSet()
        self._lag = LoopLag()
        self._measuring = self._lag.measured()
        self._measuring.__enter__()
        self._assemblies: dict[str, tuple[int, Assembly]] = {}
        # {(pipeline, version): what a newer version has replaced, and tasks may still drain with}
        self._replaced: dict[tuple[str, int], Assembly] = {}
        self.policy = restart_policy(self._service)
        configure_logging(self._service.log.level, self._service.log.format, metrics=self._metrics)

    def seat(self, worker: int) -> None:
        log = self._service.log
        configure_logging(log.level, log.format, worker=worker, metrics=self._metrics)
        measure_process(self._metrics, worker)
        self._measuring.__exit__(None, None, None)
        self._measuring = self._lag.measured(self._metrics, worker)
        self._measuring.__enter__()

    async def load(self, load: Load) -> None:
        version, assembly = self._assemblies.get(load.pipeline, (0, None))
        if assembly is not None and version == load.version:
            assembly.partitions.update(load.partitions)
            return
        file = Path(load.file) if load.file is not None else Path(f"{load.pipeline}.yaml")
        config = load_pipeline_text(load.text, file, self._registry, self._environment, self._service, load.imports)
        plan = build_plan(config, self._service.app)
        context = replace(pipeline_context(config, self._service), run=self._run)
        fresh = Assembly(plan, context, dict(load.partitions))
        await fresh.open()
        self._assemblies[load.pipeline] = load.version, fresh
        if assembly is not None:
            self._replaced[load.pipeline, version] = assembly

    async def retire(self, used: Collection[tuple[str, int]]) -> None:
        """Close replaced versions of pipelines, but for those of `used`: (pipeline, version) of live tasks."""
        for key in self._replaced.keys() - set(used):
            await self._replaced.pop(key).close()

    async def unload(self, pipeline: str) -> None:
        _, assembly = self._assemblies.pop(pipeline, (0, None))
        if assembly is not None:
            await assembly.close()

    def make(self, assign: Assign, member: Member | None) -> Task:
        version, assembly = self._assemblies.get(assign.task.pipeline, (0, None))
        if version != assign.version:
            assembly = self._replaced.get((assign.task.pipeline, assign.version))
        if assembly is None:
            raise FatalError(f"Version {assign.version} of pipeline {assign.task.pipeline} is not loaded here.")
        part = assembly.plan.parts[assign.task.part]
        tasks = max(assembly.partitions.get(source.id, assign.task.partition + 1) for source in part.sources)
        membership = membership_of(member) if member is not None else None
        return Task(assign.task, assembly, tasks, self._metrics, membership)

    async def follow(self, order: Follow, made: Callable[[Copy], None]) -> None:
        task = order.task
        version, assembly = self._assemblies.get(task.pipeline, (0, None))
        if assembly is None or version != order.version:
            raise FatalError(f"Version {order.version} of pipeline {task.pipeline} is not loaded here.")
        # By name: a process without Kafka must not pay for importing a client of it.
        kafka = importlib.import_module("streamd.transport.kafka.following")
        changelogs = kafka.FollowedChangelogs(task, assembly.context)
        place = {"pipeline": task.pipeline, "part": task.part, "partition": task.partition}
        forget = None
        try:
            await changelogs.open()
            stages = [stage.id for stage in assembly.plan.parts[task.part].stages if stage.spec.state]
            snapshot = LocalSnapshot(snapshot_folder(assembly.context, task), assembly.context.clock)
            copy = Standby(task, snapshot, {stage: changelogs.log(stage) for stage in stages})
            lag = self._metrics.gauge(catalog.STANDBY_LAG, **place)
            forget = self._metrics.before_snapshot(lambda: lag.set(copy.lag or 0))
            made(copy)
            await copy.run()
        finally:
            if forget is not None:
                forget()
            self._metrics.remove(**place)
            changelogs.close()

    def membership(self, member: Member) -> Any:
        return membership_of(member)

    async def rival(self, assign: Assign) -> Rival | None:
        _, assembly = self._assemblies.get(assign.task.pipeline, (0, None))
        return None if assembly is None else await rival_of(assign.task, assembly)

    def snapshot(self) -> Snapshot:
        return self._metrics.snapshot()

    def schema_changes(self) -> list[SchemaChange]:
        assemblies = [assembly for _, assembly in self._assemblies.values()]
        return [change for each in assemblies for drift in each.drift.values() for change in drift.news()]

    async def close(self) -> None:
        for pipeline in tuple(self._assemblies):
            await self.unload(pipeline)
        await self.retire(())
        await clients_closed()
        self._measuring.__exit__(None, None, None)

"""From configuration files to a running node and its summary: what `streamd run` does."""

from __future__ import annotations

import asyncio
import gc
import importlib
import pickle
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog
import uvloop

from streamd.clock import SYSTEM_CLOCK
from streamd.component.registry import Registry
from streamd.config.load import load_pipelines
from streamd.config.pipeline import PipelineConfig
from streamd.config.service import HttpConfig, ServiceConfig
from streamd.observability import catalog
from streamd.observability.logs import configure_logging
from streamd.observability.merge import MergedMetrics
from streamd.observability.metrics import MetricSet
from streamd.observability.status import NodeStatus, PipelineState
from streamd.plan.graph import build_plan
from streamd.runtime.control import Start
from streamd.runtime.environment import refuse_untested
from streamd.runtime.host import pipeline_context, restart_policy
from streamd.supervisor.node import Supervisor
from streamd.supervisor.options import Options
from streamd.supervisor.pipelines import ManagedPipeline
from streamd.supervisor.stability import watch_topics

log = structlog.get_logger(__name__)

OnProgress = Callable[[NodeStatus, MergedMetrics], None]
SIGNALS = (signal.SIGTERM, signal.SIGINT)
START_IS_OVER = 30.0  # seconds after which what exists is there to stay
COLLECT_INTERVAL = 60.0  # seconds between two collections of garbage, of what came later


@dataclass(frozen=True, slots=True)
class PipelineSummary:
    """What became of one pipeline. Records; `error` is the last one's message, of a failed pipeline the reason."""

    name: str
    state: PipelineState
    records_processed: int
    records_filtered: int
    errors: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run did. Records read, left out by stages, and failed for good, over all pipelines; and how it ended.

    Records that a worker had read and not committed when it was killed are counted again by its replacement.
    """

    pipelines: tuple[PipelineSummary, ...]
    seconds: float
    exit_code: int

    @property
    def records_processed(self) -> int:
        return sum(pipeline.records_processed for pipeline in self.pipelines)

    @property
    def records_filtered(self) -> int:
        return sum(pipeline.records_filtered for pipeline in self.pipelines)

    @property
    def errors(self) -> int:
        return sum(pipeline.errors for pipeline in self.pipelines)


class Endpoint(Protocol):
    """An HTTP server around a supervisor; `streamd.api.server` has the real one."""

    @property
    def advertised(self) -> str:
        """Where other nodes find it; empty when they cannot reach it."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


def run_daemon(
    paths: Sequence[Path],
    service: ServiceConfig,
    *,
    until_idle: bool = False,
    env: Mapping[str, str],
    on_progress: OnProgress | None = None,
) -> RunSummary:
    """Run the pipelines in files and folders until told to end, and return what was done.

    It ends on SIGTERM or SIGINT (in order; a second one ends it at once), when every input is bounded and read, with
    `until_idle` when everything is read for now, and with `exit_on_failure` when a pipeline fails. `on_progress` is
    called once a second, on the node's event loop. Blocks; installs signal handlers, so it must be called from the main
    thread. Raises ConfigError with all diagnostics, FatalError when the HTTP server cannot listen.
    """
    configs = load_pipelines(paths, Registry.default(), env, service)
    metrics = MetricSet()
    configure_logging(service.log.level, service.log.format, metrics=metrics)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        run = run_pipelines(configs, service, until_idle=until_idle, env=env, on_progress=on_progress, metrics=metrics)
        return runner.run(_collecting(run))


async def _collecting(run: Coroutine[Any, Any, RunSummary]) -> RunSummary:
    """Run, and collect garbage by the clock.

    Left alone, Python collects all of it only when a quarter of everything is new. That is hours here, and memory would
    rise all that time.
    """

    async def collect() -> None:
        await asyncio.sleep(START_IS_OVER)
        gc.collect()
        gc.freeze()
        while True:
            await asyncio.sleep(COLLECT_INTERVAL)
            gc.collect()

    collector = asyncio.create_task(collect())
    try:
        return await run
    finally:
        collector.cancel()


async def run_pipelines(
    configs: Sequence[PipelineConfig],
    service: ServiceConfig,
    *,
    until_idle: bool = False,
    env: Mapping[str, str],
    on_progress: OnProgress | None = None,
    metrics: MetricSet | None = None,
) -> RunSummary:
    """As `run_daemon`, on the running loop, for pipelines that are loaded already. `metrics`: the process's own."""
    made = make_supervisor(configs, service, until_idle=until_idle, env=env, on_progress=on_progress, metrics=metrics)
    return await run_supervisor(made, service)


def make_supervisor(
    configs: Sequence[PipelineConfig],
    service: ServiceConfig,
    *,
    until_idle: bool = False,
    env: Mapping[str, str],
    on_progress: OnProgress | None = None,
    metrics: MetricSet | None = None,
) -> Supervisor:
    """A supervisor with its pipelines, on the running loop; nothing is started yet. Raises ConfigError."""
    refuse_untested()
    options = options_of(service, until_idle)
    start = Start(pickle.dumps(service), dict(env), uuid.uuid4().hex[:16])
    supervisor = Supervisor(service.app, start, options, metrics=metrics, on_progress=on_progress)
    for version, config in enumerate(configs, 1):
        context = pipeline_context(config, service)
        plan = build_plan(config, service.app)
        supervisor.add(ManagedPipeline(plan, version, context, supervisor.wake, options.restart))
    return supervisor


async def run_supervisor(supervisor: Supervisor, service: ServiceConfig) -> RunSummary:
    """Run it with its HTTP server, and with signals handled, until it ends."""
    began = SYSTEM_CLOCK.monotonic()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_signals(supervisor))
        if service.http.enabled:
            server = _http_server(supervisor, service.http)
            await server.start()
            stack.push_async_callback(server.stop)
            supervisor.advertise(server.advertised)
        await stack.enter_async_context(_topics_watched(supervisor))
        exit_code = await supervisor.run()
    return _summary(supervisor, SYSTEM_CLOCK.monotonic() - began, exit_code)


def options_of(service: ServiceConfig, until_idle: bool) -> Options:
    """The service's settings as the control plane takes them."""
    return Options(
        workers=None if service.workers == "auto" else service.workers,
        drain_timeout=service.drain_timeout,
        stall_timeout=service.stall_timeout,
        # A loop that is blocked for a third of the time that a stall may last is found earlier, by its silence; but a
        # busy machine or a long user function is no reason to kill, so never below 5 s.
        silence_timeout=max(5.0, service.stall_timeout / 3),
        until_idle=until_idle,
        exit_on_failure=service.exit_on_failure,
        restart=restart_policy(service),
    )


def _http_server(supervisor: Supervisor, http: HttpConfig) -> Endpoint:
    # By name: the API lies above the supervisor, which it asks, and which knows nothing of it but how to start it.
    options = importlib.import_module("streamd.api.options").ApiOptions.of(http)
    server: Endpoint = importlib.import_module("streamd.api.server").ApiServer(supervisor, options)
    return server


@asynccontextmanager
async def _topics_watched(supervisor: Supervisor) -> AsyncIterator[None]:
    """What open transactions hold back in the topics that are written is measured meanwhile."""
    watching = asyncio.create_task(
        watch_topics(
            supervisor.app, lambda: [one.plan for one in supervisor.pipelines.values()], supervisor.own_metrics
        )
    )
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


@asynccontextmanager
async def _signals(supervisor: Supervisor) -> AsyncIterator[None]:
    """The first signal drains, the second ends at once."""
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if supervisor.stopping:
            supervisor.kill(number)
        else:
            log.info("Signal received", signal=signal.Signals(number).name)
            supervisor.drain()

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


def _summary(supervisor: Supervisor, seconds: float, exit_code: int) -> RunSummary:
    metrics = supervisor.metrics

    def count(metric: catalog.Metric, pipeline: str) -> int:
        return int(metrics.totals(metric, pipeline=pipeline))

    def read(pipeline: str) -> int:
        """Records of the pipeline's own sources: what an exchange moves was counted before."""
        managed = supervisor.pipelines.get(pipeline)
        inner = [s.id for s in managed.plan.config.sources if s.name == "exchange"] if managed is not None else []
        moved = sum(int(metrics.totals(catalog.SOURCE_RECORDS, pipeline=pipeline, source=name)) for name in inner)
        return count(catalog.SOURCE_RECORDS, pipeline) - moved

    pipelines = tuple(
        PipelineSummary(
            name=pipeline.name,
            state=pipeline.state,
            records_processed=read(pipeline.name),
            records_filtered=count(catalog.STAGE_FILTERED, pipeline.name),
            errors=count(catalog.FAILED_RECORDS, pipeline.name),
            error=pipeline.error.message if pipeline.error else None,
        )
        for pipeline in supervisor.status().pipelines
    )
    return RunSummary(pipelines, seconds, exit_code)

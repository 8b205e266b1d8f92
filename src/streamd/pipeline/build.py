"""Pipelines built in Python: the same plan, tasks and checkpoints as from YAML, in the caller's event loop.

    pipeline = Pipeline("orders", source=Orders(), sink=Printer()).filter(lambda order: order["amount"] > 50)
    metrics = await pipeline.run()

Sources, sinks and stages are own classes, or built-in ones by name: `Pipeline("p", "stdin", {"file": {"path": "o"}})`,
`.add_stage("set", {"eur": "round(amount * 1.1, 2)"})`. Own ones take and give values (usually dicts), not bytes.

Delivery: exactly once between built-in sources and sinks that promise it. An own source cannot be read again, so that
whatever fails behind it ends the run. An own sink gets each record once, unless something fails that is tried again (a
broker out of reach) or the process dies: then again what came since the last checkpoint.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from streamd.component.model import Model
from streamd.component.registry import Registry
from streamd.component.spec import ComponentSpec, Kind
from streamd.config.pipeline import ComponentConfig, ErrorPolicy, PipelineConfig, Place
from streamd.config.service import ServiceConfig
from streamd.errors import FatalError
from streamd.observability import catalog
from streamd.observability.metrics import MetricSet
from streamd.pipeline.own import (
    DataSink,
    DataSource,
    Function,
    OwnSink,
    OwnSource,
    OwnStage,
    PipelineStage,
    WrittenSink,
    add_fields,
    change_each,
    from_stage,
    into_sink,
    keep_where,
)  # fmt: skip
from streamd.pipeline.settings import SettingsError, checked_component, checked_kafka, checked_name
from streamd.plan.graph import build_plan
from streamd.runtime.host import pipeline_context
from streamd.supervisor.inline import run_inline
from streamd.supervisor.options import Options

# Seconds that everything must have been idle for a run to be over: within one process news travels fast.
IDLE_CONFIRMATION = 0.1

Named = str | Mapping[str, Mapping[str, Any]]


# eq: as mappings are compared, also with dicts.
@dataclass(frozen=True, slots=True, eq=False)
class PipelineMetrics(Mapping[str, float]):
    """What a run did. `throughput` in records per second. Also a mapping: `metrics["errors"]`, `dict(metrics)`."""

    records_processed: int
    records_filtered: int
    errors: int
    duration_seconds: float
    throughput: float

    def __getitem__(self, name: str) -> float:
        if name not in self.__dataclass_fields__:
            raise KeyError(name)
        value: float = getattr(self, name)
        return value

    def __iter__(self) -> Iterator[str]:
        return (field.name for field in fields(self))

    def __len__(self) -> int:
        return len(fields(self))


@dataclass(frozen=True, slots=True)
class InCode(Place):
    """The place of what is written in no file."""

    def __str__(self) -> str:
        return self.file


class Pipeline:
    """A linear pipeline: a source, stages in the order they are added, a sink.

    `source`, `sink`: an own one, the name of a built-in one, or `{name: settings}` as in YAML.

    `on_error`: what becomes of a record that fails. `fail` (the run raises), `skip` (left out and counted),
    `dead_letter` (kept, with what was wrong, in the sink `dead_letter`), or an `ErrorPolicy`, which may also say
    `retry` for stages; its own `dead_letter` is set by the pipeline. Default: `dead_letter` when that sink is given,
    else `fail`.

    `batch_size`: so many records are read ahead of the sink, at most. `state_dir`: where built-in components keep
    positions and logs. `kafka`: how to reach the cluster, as the `kafka:` section of a file says it.

    Raises ValueError for names and settings that a file could not have either.
    """

    def __init__(
        self,
        name: str,
        source: DataSource | Named,
        sink: DataSink | Named,
        *,
        on_error: str | ErrorPolicy | None = None,
        dead_letter: DataSink | Named | None = None,
        batch_size: int = 500,
        state_dir: str | Path = ".streamd",
        kafka: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = checked_name(name)
        self._place = InCode(f"pipeline {name!r}")
        self._registry = Registry.default()
        self._policy = _policy(on_error, dead_letter is not None)
        self._source = self._component("source", source)
        self._stages: list[ComponentConfig] = []
        self._written: ComponentConfig | None = None
        if isinstance(sink, DataSink) and dead_letter is not None:
            self._written = self._stage("sink", "write", into_sink(sink))
            spec = ComponentSpec(
                "sink", "write", Nothing, lambda _, context: WrittenSink(sink, self._note), documents=True
            )
            self._sink = ComponentConfig("written", "sink", "write", Nothing(), spec, self._place)
        else:
            self._sink = self._component("sink", sink)
        self._dead_letters: tuple[ComponentConfig, ...] = ()
        if dead_letter is not None:
            self._dead_letters = (replace(self._component("sink", dead_letter, forgiving=False), id="dead_letter"),)
        self._trouble: Exception | None = None
        self._metrics = MetricSet()
        self._batch_size, self._state_dir = batch_size, Path(state_dir)
        self._kafka = None if kafka is None else checked_kafka(kafka)

    def filter(self, keep: Function) -> Pipeline:
        """Keep the records for which `keep(record)`, plain or async, is true."""
        return self._own(keep_where(keep), "filter")

    def transform(self, change: Function) -> Pipeline:
        """Replace each record by `change(record)`, plain or async."""
        return self._own(change_each(change), "transform")

    def enrich(self, look_up: Function) -> Pipeline:
        """Add the fields that `look_up(record)`, plain or async, gives as a mapping; None adds nothing."""
        return self._own(add_fields(look_up), "enrich")

    def add_stage(self, stage: PipelineStage | str, settings: Any = None) -> Pipeline:
        """Add a stage: an own one, or a built-in one by name with the settings that YAML would give it."""
        if isinstance(stage, str):
            self._add(self._named("stage", stage, settings))
            return self
        return self._own(from_stage(stage), type(stage).__name__)

    async def run(self, *, until_idle: bool = True) -> PipelineMetrics:
        """Run until the source has ended, and with `until_idle` (default) also when an endless one is read for now.

        Raises FatalError when a record fails that `on_error` does not forgive, or a component cannot work; its cause is
        the exception of the own code, where that failed, and nothing is logged beside it. A cancel ends in order: what
        was read is finished and committed first. Can be run again.
        """
        metrics = self._metrics = MetricSet()
        self._trouble = None
        began = time.perf_counter()
        config = self._config()
        service = ServiceConfig.model_validate({"state_dir": self._state_dir})
        stop = asyncio.Event()
        options = Options(idle_confirmation=IDLE_CONFIRMATION)
        context = pipeline_context(config, service)
        running = asyncio.ensure_future(
            run_inline(
                build_plan(config, service.app), context, metrics, until_idle=until_idle, options=options, stop=stop
            )
        )
        try:
            result = await asyncio.shield(running)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.shield(running)
            raise
        if result.fault is not None:
            raise FatalError(result.fault.message) from self._cause(result.error)
        return _figures(metrics, time.perf_counter() - began)

    # How it is put together.

    def _config(self) -> PipelineConfig:
        written = () if self._written is None else (self._written,)
        chain = [self._source, *self._stages, *written, self._sink]
        linked = [_reading(one, before.id) for before, one in pairwise(chain)]
        return PipelineConfig(
            name=self.name,
            sources=(self._source,),
            stages=tuple(linked[:-1]),
            sinks=(linked[-1],),
            dead_letters=self._dead_letters,
            on_error=self._policy,
            max_batch_records=self._batch_size,
            kafka=self._kafka,
            place=self._place,
        )

    def _component(self, kind: Kind, given: Any, *, forgiving: bool = True) -> ComponentConfig:
        """`forgiving`: an own sink may leave records out, where the pipeline's policy says so."""
        if isinstance(given, DataSource):
            spec = ComponentSpec(
                "source", "read", Nothing, lambda _, context: OwnSource(given, self._note), decoded=True,
                replayable=False, bounded=lambda config: True,
            )  # fmt: skip
        elif isinstance(given, DataSink):
            spec = ComponentSpec(
                "sink", "write", Nothing, lambda _, context: self._own_sink(given, forgiving), documents=True
            )
        elif isinstance(given, str):
            return self._named(kind, given, None)
        elif isinstance(given, Mapping) and len(given) == 1:
            [(name, settings)] = given.items()
            return self._named(kind, name, settings)
        else:
            expected = "DataSource" if kind == "source" else "DataSink"
            raise TypeError(f"{kind}: expected a {expected}, a name, or {{name: settings}}, got {type(given).__name__}")
        return ComponentConfig(kind, kind, spec.name, Nothing(), spec, self._place)

    def _named(self, kind: Kind, name: str, settings: Any) -> ComponentConfig:
        spec = self._registry.get(kind, name)
        if spec is None:
            near = self._registry.suggest(kind, name)
            raise SettingsError(f"there is no {kind} {name!r}" + (f"; did you mean {near!r}?" if near else ""))
        checked = checked_component(spec, settings)
        return ComponentConfig(kind if kind != "stage" else name, kind, name, checked, spec, self._place)

    def _own(self, process: Callable[[Any], Awaitable[list[Any]]], name: str) -> Pipeline:
        self._add(self._stage(name, name, process))
        return self

    def _stage(self, id_: str, name: str, process: Callable[[Any], Awaitable[list[Any]]]) -> ComponentConfig:
        keep = self._policy.action in ("retry", "dead_letter")
        spec = ComponentSpec(
            "stage", name, Nothing, lambda _, context: OwnStage(process, self._note, keep=keep), fused=False
        )
        return ComponentConfig(id_, "stage", name, Nothing(), spec, self._place)

    def _cause(self, unexpected: BaseException | None) -> BaseException | None:
        return self._trouble or unexpected

    def _note(self, error: Exception) -> None:
        """Remember what own code raised, as the cause of what becomes of it."""
        self._trouble = error

    def _own_sink(self, own: DataSink, forgiving: bool) -> OwnSink:
        labels: dict[str, Any] = {"pipeline": self.name, "component": "sink"}

        def refused(error: Exception) -> None:
            self._note(error)
            name = type(error).__name__
            self._metrics.counter(catalog.FAILED_RECORDS, **labels, phase="load", error=name).add()
            skips = "skip" in (self._policy.action, self._policy.then if self._policy.action == "retry" else None)
            if not (skips and forgiving):
                raise FatalError(f"The sink {type(own).__name__} failed: {name}: {error}.") from error
            self._metrics.counter(catalog.SKIPPED_RECORDS, **labels, error=name).add()

        return OwnSink(own, refused)

    def _add(self, stage: ComponentConfig) -> None:
        taken = {one.id for one in self._stages} | {"source", "sink", "written", "dead_letter"}
        number, name = 2, stage.id
        while name in taken:
            name, number = f"{stage.id}-{number}", number + 1
        self._stages.append(ComponentConfig(name, "stage", stage.name, stage.settings, stage.spec, stage.place))


class Nothing(Model):
    """The settings of a component that is its own object."""

    format: str = "object"


def _policy(on_error: str | ErrorPolicy | None, dead_letter: bool) -> ErrorPolicy:
    """The policy, whose dead letters go to the sink `dead_letter`. Raises SettingsError when the two do not fit."""
    given = ("dead_letter" if dead_letter else "fail") if on_error is None else on_error
    policy = given if isinstance(given, ErrorPolicy) else ErrorPolicy(action=given)  # type: ignore[arg-type]
    finals = ("fail", "skip", "dead_letter")
    if policy.action not in (*finals, "retry") or policy.then not in finals:
        raise SettingsError(
            f"on_error: expected fail, skip, retry, dead_letter or an ErrorPolicy of these, got {on_error!r}"
        )
    wanted = "dead_letter" in (policy.action, policy.then if policy.action == "retry" else None)
    if wanted and not dead_letter:
        raise SettingsError("on_error: dead_letter needs a sink: give it as dead_letter=SINK")
    if dead_letter and not wanted:
        raise SettingsError(f"dead_letter: on_error says {policy.action!r}, so that nothing would go to this sink")
    return replace(policy, dead_letter="dead_letter" if wanted else None)


def _reading(component: ComponentConfig, before: str) -> ComponentConfig:
    return ComponentConfig(
        component.id, component.kind, component.name, component.settings, component.spec, component.place, (before,)
    )


def _figures(metrics: MetricSet, seconds: float) -> PipelineMetrics:
    totals = {family.name: int(sum(family.values)) for family in metrics.snapshot().families}
    read = totals.get(catalog.SOURCE_RECORDS.name, 0)
    return PipelineMetrics(
        records_processed=read,
        records_filtered=totals.get(catalog.STAGE_FILTERED.name, 0),
        errors=totals.get(catalog.FAILED_RECORDS.name, 0),
        duration_seconds=seconds,
        throughput=read / seconds if seconds > 0 else 0.0,
    )

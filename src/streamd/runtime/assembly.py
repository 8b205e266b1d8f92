"""A pipeline put together in one process: its components made, its stages prepared, its chains compiled; shared by its
tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import structlog

from streamd.codecs import Codec, CodecContext
from streamd.codecs.beside import codecs_beside, owner_of
from streamd.codecs.format import format_of
from streamd.codecs.schema_registry import SchemaRegistry
from streamd.component.context import PipelineContext
from streamd.component.sink import Sink
from streamd.component.source import Source
from streamd.component.transaction import Committed, Transaction
from streamd.config.diagnostics import Diagnostic
from streamd.config.pipeline import ComponentConfig
from streamd.errors import ConfigError, FatalError
from streamd.plan.beside import BesideValues
from streamd.plan.body import FuseError
from streamd.plan.chain import Chain
from streamd.plan.fuse import fuse
from streamd.plan.graph import PartPlan, PipelinePlan
from streamd.record import Position, Row, TaskId
from streamd.runtime.drift import SourceDrift
from streamd.runtime.failure import Failure, late_row
from streamd.runtime.retries import Retries
from streamd.runtime.tables import Tables
from streamd.transport.embedded.log import log_path
from streamd.transport.embedded.transaction import EmbeddedTransaction

if TYPE_CHECKING:
    from streamd.transport.registry.client import SchemaRegistryClient

log = structlog.get_logger(__name__)

# A Kafka transaction has at least 10 s before the broker aborts it; a checkpoint that takes longer than a third of
# that is better given up and done again.
MIN_TRANSACTION_TIMEOUT = 10.0


class Assembly:
    """All that the tasks of one pipeline share in this process.

    `partitions`: {source id: how many it has}, as the supervisor found them; a source without an entry is taken to have
    the task's partition.
    """

    def __init__(self, plan: PipelinePlan, context: PipelineContext, partitions: dict[str, int] | None = None) -> None:
        self.tables = Tables(plan.config, context, self.new_end)
        self.plan, self.context = plan, replace(context, table=self.tables.table)
        self.partitions: dict[str, int] = partitions or {}
        self.sources: dict[str, Source] = {}
        self.sinks: dict[str, Sink] = {}
        self.chains: dict[tuple[int, str], Chain] = {}
        # {source or sink id: its codec}, of those that have bytes; with those of keys and headers
        self.codecs: dict[str, Codec] = {}
        # Over all attempts at a task in this process.
        self.retries: dict[TaskId, Retries] = {}
        # {source: what is done about `schema_drift`}, of those that say it
        self.drift: dict[str, SourceDrift] = {}
        self._clients: list[Any] = []

    async def open(self) -> None:
        """Make the components, let codecs and stages load what they need, compile the chains. Raises ConfigError,
        FatalError, UnavailableError.
        """
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise

    async def _open(self) -> None:
        registry = self.schema_registry()
        of_tables = codecs_of(self.plan.config.tables, self.context.base_dir, registry)
        self.codecs |= of_tables
        for codec in of_tables.values():
            await codec.prepare()
        self.tables.compile(of_tables)
        for part in self.plan.parts:
            codecs = codecs_of((*part.sources, *part.all_sinks), self.context.base_dir, registry)
            self.codecs |= codecs
            for codec in codecs.values():
                await codec.prepare()
            self.drift |= {
                c.id: SourceDrift(self.plan.config.name, c, codecs.get(c.id), self.context.base_dir, self.context.clock)
                for c in part.sources
                if c.schema_drift is not None
            }
            self.sources |= {c.id: self.new_end(c) for c in part.sources}
            self.sinks |= {c.id: self.new_end(c) for c in part.all_sinks}
            stages = {c.id: self.new_stage(c) for c in part.stages if c.spec.fused or c.spec.keyed}
            for stage in stages.values():
                await stage.prepare()
            self.chains |= compile_chains(part, stages, codecs)

    def schema_registry(self) -> SchemaRegistry | None:
        """The pipeline's schema registry; None where none is configured."""
        registry = registry_of(self.context)
        self._clients += [] if registry is None else [registry]
        return registry

    def new_end(self, component: ComponentConfig) -> Any:
        """An instance of a source or a sink, which all tasks share."""
        return component.spec.factory(component.settings, self.context)

    def new_stage(self, stage: ComponentConfig) -> Any:
        """An instance of a stage; fused stages are shared by all tasks, the others belong to one.

        The chains are written by instances of their own.
        """
        return stage.spec.factory(stage.settings, self.context)

    async def learnt(self, part: PartPlan) -> bool:
        """Whether codecs know now what they lacked for some records of a batch, of which nothing has gone on: it is to
        be run again. Raises UnavailableError.
        """
        ends = {component.id for component in (*part.sources, *part.all_sinks)}
        codecs = [codec for name, codec in self.codecs.items() if owner_of(name) in ends]
        again = any([await codec.learn() for codec in codecs])
        if again:
            for codec in codecs:
                codec.left_out()  # of a run that does not count
        return again

    def late_row(self, failure: Failure, sink: str) -> Row:
        """The row that gives a late record to its sink. Raises RecordError."""
        part = next(part for part in self.plan.parts if sink in {one.id for one in part.all_sinks})
        ends = {component.id: component for component in part.components}
        key = BesideValues(part, self.codecs).key_bytes(ends[sink], ends[failure.entry], failure.record.key)
        return late_row(failure.record, key, self.codecs.get(failure.entry), self.codecs.get(sink))

    @property
    def checkpoint_timeout(self) -> float:
        """Seconds that a checkpoint may take."""
        return max(MIN_TRANSACTION_TIMEOUT, 10 * self.plan.config.commit_interval)

    def transaction(self, task: TaskId, membership: Any) -> Transaction:
        """A new transaction object for an attempt at a task. Nothing is sent before its `open`."""
        part = self.plan.parts[task.part]
        if part.transport == "embedded":
            return EmbeddedTransaction(log_path(self.context.state_dir, self.context.app), task, self.context.clock)
        # Imported late: a pipeline without Kafka must not pay for its client.
        from streamd.transport.kafka.opening import transaction

        config = self.plan.config
        return transaction(task, part.sources, self.context, membership, config.delivery, config.commit_interval)

    def checked(self, task: TaskId, committed: Committed) -> Committed:
        """What a task finds committed, if it fits its sources. Raises FatalError for positions of another kind of one.

        Positions of sources that the part does not have are only warned of: one may be renamed, which starts it anew.
        """
        part = self.plan.parts[task.part]
        unknown = sorted({source for source, _ in committed.positions} - {source.id for source in part.sources})
        if unknown:
            log.warning(
                "Positions are stored for sources that the pipeline does not have; a renamed source starts anew",
                task=str(task), sources=unknown,
            )  # fmt: skip
        for source in part.sources:
            positions = (position for (name, _), position in committed.positions.items() if name == source.id)
            _check_kind(self.sources[source.id], source.id, task, positions)
        return committed

    async def close(self) -> None:
        """Release everything. What failed to open may be opened again."""
        await self.tables.close()
        closing = (*self.sources.values(), *self.sinks.values(), *self.codecs.values(), *self._clients)
        for held in (self.sources, self.sinks, self.codecs, self._clients):
            held.clear()
        for one in closing:
            if one is not None:
                await one.close()


def registry_of(context: PipelineContext) -> SchemaRegistryClient | None:
    """A client of the pipeline's schema registry; None where none is configured."""
    if context.schema_registry is None:
        return None
    # Imported late: a pipeline without one must not pay for its client.
    from streamd.transport.registry import client

    return client.SchemaRegistryClient(context.schema_registry)


def codecs_of(
    components: Iterable[ComponentConfig], base_dir: Path, registry: SchemaRegistry | None = None
) -> dict[str, Codec]:
    """{id: codec} of sources and sinks, those that give or take documents aside; with those of their keys and headers,
    under names of `codecs.beside`. Raises ConfigError.
    """
    codecs: dict[str, Codec] = {}
    for component in components:
        spec, settings = component.spec, component.settings
        documents = spec.decoded or spec.documents
        if documents or getattr(settings, "decoded", False) or getattr(settings, "documents", False):
            continue
        topic = getattr(settings, "topic", None) or component.id
        kind: Any = component.kind
        about = CodecContext(component.id, kind, topic, base_dir=base_dir, registry=registry)
        try:
            codecs[component.id] = format_of(settings).codec(about)
            codecs.update(codecs_beside(component.id, settings, about))
        except ConfigError as error:
            problem = Diagnostic("unusable-component", f"{component.kind} `{component.id}`: {error}", component.place)
            raise ConfigError(problem.message, (problem,)) from None
    return codecs


def _check_kind(source: Source, name: str, task: TaskId, positions: Iterable[Position]) -> None:
    # A source that says nothing of its positions checks them itself.
    kind = getattr(source, "position_type", None)
    if kind is not None and any(type(position) is not kind for position in positions):
        raise FatalError(
            f"Positions of another kind of source are stored for pipeline {task.pipeline}, source {name}: give the "
            "source another id, or remove its state."
        )


def compile_chains(
    part: PartPlan, stages: dict[str, Any], codecs: Mapping[str, Codec] = MappingProxyType({})
) -> dict[tuple[int, str], Chain]:
    """Every chain of a part, compiled. Raises ConfigError with all that cannot work, each with its place."""
    passing = frozenset(stage.id for stage in part.stages if stage.spec.gives(stage.settings) == "as read")
    while True:
        chains = _compile(part, stages, codecs, passing)
        unlike = frozenset[str]().union(*(chain.unlike for chain in chains.values()))
        if not unlike:
            return chains
        # What such a stage gives is documents then, which the chains behind it are to be written for.
        passing -= unlike


def _compile(
    part: PartPlan, stages: dict[str, Any], codecs: Mapping[str, Codec], passing: frozenset[str]
) -> dict[tuple[int, str], Chain]:
    chains: dict[tuple[int, str], Chain] = {}
    problems: list[Diagnostic] = []
    for chain in part.chains:
        try:
            chains[part.index, chain.entry.id] = fuse(part, chain, stages, codecs, passing)
        except FuseError as error:
            problems.append(_diagnostic(error, tuple(part.components)))
    if problems:
        raise ConfigError("The pipeline cannot be compiled.", tuple(problems))
    return chains


def _diagnostic(error: FuseError, components: Sequence[ComponentConfig]) -> Diagnostic:
    place = next(c.place for c in components if c.id == error.stage_id)
    return Diagnostic(code=error.code, message=f"{error.stage_id}: {error}", place=place)

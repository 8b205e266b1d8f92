"""A pipeline as a graph: parts that share no record, and in each the chains that run without await between stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from streamd.config.pipeline import ComponentConfig, PipelineConfig
from streamd.plan.alone import refuse_shared
from streamd.plan.exchange import pieces, with_exchanges
from streamd.plan.inherited_keys import with_inherited_keys
from streamd.plan.validations import with_validations


@dataclass(frozen=True, slots=True)
class ChainPlan:
    """Neighbouring fused stages under one entry: a source, or a stage that takes batches.

    `stages` are the fused ones in the order they are met; `targets` are the sinks and batch stages that its records
    reach, each once, in the same order.
    """

    entry: ComponentConfig
    stages: tuple[ComponentConfig, ...]
    targets: tuple[ComponentConfig, ...]


@dataclass(frozen=True, slots=True)
class PartPlan:
    """A connected piece of the graph: what one task runs over one partition of each of its sources.

    Pieces that read the same topic of Kafka are one part, since they share its offsets.

    `consumers` maps `id` or `stage.output` to who reads it. `dead_letters` are the sinks that its failures go to.
    """

    index: int
    sources: tuple[ComponentConfig, ...]
    stages: tuple[ComponentConfig, ...]
    sinks: tuple[ComponentConfig, ...]
    dead_letters: tuple[ComponentConfig, ...]
    consumers: Mapping[str, tuple[ComponentConfig, ...]]
    chains: tuple[ChainPlan, ...]

    @property
    def all_sinks(self) -> tuple[ComponentConfig, ...]:
        return self.sinks + self.dead_letters

    @property
    def components(self) -> Iterator[ComponentConfig]:
        yield from self.sources
        yield from self.stages
        yield from self.all_sinks

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that its stages look rows up in."""
        return tuple(dict.fromkeys(name for stage in self.stages for name in stage.spec.tables(stage.settings)))

    @property
    def timed(self) -> bool:
        """Whether event time matters: to a keyed stage here, or to one behind an exchange that is written here."""
        return any(s.spec.keyed for s in self.stages) or any(getattr(s.settings, "timed", False) for s in self.sinks)

    def copyable(self, delivery: str) -> bool:
        """Whether other nodes can keep copies of its state: it is exact, and in changelogs that they can read."""
        stateful = any(stage.spec.state for stage in self.stages)
        return stateful and self.transport == "kafka" and delivery == "exactly_once"

    @property
    def transport(self) -> str:
        """Whose transaction is the checkpoint: where a sink can take part in it, else where the positions live."""
        for components in (self.all_sinks, self.sources):
            names = {c.spec.transport for c in components}
            if "kafka" in names:
                return "kafka"
            if "embedded" in names:
                return "embedded"
        return "embedded"


@dataclass(frozen=True, slots=True)
class PipelinePlan:
    """All that is to run for one pipeline. `config` has the exchanges in it; `said` tells people what becomes of keys.

    `app` is the one it was made for. `single`: sources that must have one partition, since there is no exchange where
    there would have to be one.
    """

    config: PipelineConfig
    app: str
    parts: tuple[PartPlan, ...]
    said: Mapping[str, str] = field(default_factory=dict)
    single: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return self.config.name

    def writer_of(self, source: ComponentConfig) -> PartPlan | None:
        """The part that writes what an exchange's source reads; None for any other source."""
        if source.name != "exchange":
            return None
        wanted = source.settings.topic  # type: ignore[attr-defined]
        written = {sink.settings.topic: part for part in self.parts for sink in part.sinks if sink.name == "exchange"}  # type: ignore[attr-defined]
        return written[wanted]


def build_plan(config: PipelineConfig, app: str = "APP") -> PipelinePlan:
    """Cut the pipeline's graph into parts and chains. Pure; the configuration is taken as checked.

    `app` is in the names of its topics. Raises ConfigError for an exchange that cannot be, and for files that several
    sinks or parts would write.
    """
    exchanged = with_exchanges(with_inherited_keys(with_validations(config)), app)
    config = exchanged.config
    nodes = {c.id: c for c in (*config.sources, *config.stages, *config.sinks)}
    consumers: dict[str, list[ComponentConfig]] = {}
    for component in (*config.stages, *config.sinks):
        for read in component.inputs:
            consumers.setdefault(read, []).append(component)
    piece = pieces(nodes)
    # Parts are numbered by their first source in the file, and behind those by their first exchange: the number is in
    # transactional ids and must not wander.
    order = list(dict.fromkeys(piece[source.id] for source in config.sources))
    parts = [_part(i, config, {n for n in nodes if piece[n] == name}, consumers) for i, name in enumerate(order)]
    refuse_shared(config.name, [part.all_sinks for part in parts])
    return PipelinePlan(config, app, tuple(parts), exchanged.said, exchanged.single)


def producer(read: str, nodes: Mapping[str, object]) -> str:
    """The id of the component that `id` or `stage.output` names."""
    return read if read in nodes else read.rpartition(".")[0]


def _part(
    index: int, config: PipelineConfig, members: set[str], consumers: Mapping[str, list[ComponentConfig]]
) -> PartPlan:
    sources, stages, sinks = (
        tuple(c for c in group if c.id in members) for group in (config.sources, config.stages, config.sinks)
    )
    read = {name: tuple(readers) for name, readers in consumers.items() if any(r.id in members for r in readers)}
    entries = (*sources, *(s for s in stages if not s.spec.fused))
    policies = [config.on_error, *(c.on_error for c in (*sources, *stages, *sinks) if c.on_error)]
    used = {p.dead_letter for p in policies if p.dead_letter}
    return PartPlan(
        index=index,
        sources=sources,
        stages=stages,
        sinks=sinks,
        dead_letters=tuple(d for d in config.dead_letters if d.id in used),
        consumers=read,
        chains=tuple(_chain(entry, read) for entry in entries),
    )


def outputs_of(component: ComponentConfig) -> tuple[str, ...]:
    """What others may name in `from:` to read this component."""
    names = component.spec.outputs(component.settings) if component.kind == "stage" else ()
    return tuple(f"{component.id}.{name}" for name in names) or (component.id,)


def _chain(entry: ComponentConfig, consumers: Mapping[str, tuple[ComponentConfig, ...]]) -> ChainPlan:
    stages: dict[str, ComponentConfig] = {}
    targets: dict[str, ComponentConfig] = {}

    def walk(component: ComponentConfig) -> None:
        for name in outputs_of(component):
            for reader in consumers.get(name, ()):
                if reader.kind == "stage" and reader.spec.fused:
                    stages[reader.id] = reader
                    walk(reader)
                else:
                    targets[reader.id] = reader

    walk(entry)
    return ChainPlan(entry, tuple(stages.values()), tuple(targets.values()))

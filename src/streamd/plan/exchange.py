"""Puts exchanges into a pipeline's graph: behind each stage `key_by` whose records are not where they belong yet. Pure.

    … → key_by → …   becomes   … → key_by → sink `key_by.write`    source `key_by.read` → …

The two ends share no record, so that the graph falls into two parts there, each with tasks of its own. Where an
exchange would change nothing there is none, and the stage only sets the key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from streamd.config.diagnostics import Diagnostic
from streamd.config.pipeline import ComponentConfig, PipelineConfig
from streamd.errors import ConfigError
from streamd.exchange.settings import (
    ExchangeSettings,
    Transport,
    exchange_topic,
    sink_id,
    sink_spec,
    source_id,
    source_spec,
)

# The texts of the expressions that records are partitioned by.
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Exchanged:
    """A pipeline with its exchanges. `said`: {stage `key_by`: what becomes of it, for people}."""

    config: PipelineConfig
    said: Mapping[str, str]


def with_exchanges(config: PipelineConfig, app: str) -> Exchanged:
    """The pipeline with an exchange wherever one is needed. Raises ConfigError for one that cannot be."""
    if not any(stage.name == "key_by" for stage in config.stages):
        return Exchanged(config, {})
    return _Exchanging(config, app).run()


class _Exchanging:
    def __init__(self, config: PipelineConfig, app: str) -> None:
        self.config, self.app = config, app
        self.nodes = {c.id: c for c in (*config.sources, *config.stages, *config.sinks)}
        self.said: dict[str, str] = {}
        # {stage that an exchange follows: its ends' settings}
        self.exchanges: dict[str, ExchangeSettings] = {}
        self.known: dict[str, Key | None] = {}
        self.transport: Transport = "embedded"
        if any(c.spec.transport == "kafka" for c in (*self.nodes.values(), *config.dead_letters)):
            self.transport = "kafka"
        groups = (getattr(source.settings, "group", None) for source in config.sources)
        self.group = next((group for group in groups if group is not None), None)
        self.timed = any(stage.spec.keyed for stage in config.stages)
        self.pieces = pieces(self.nodes.values(), self.nodes)

    def run(self) -> Exchanged:
        for stage in self.config.stages:
            self.key_of(stage.id)
        if not self.exchanges:
            return Exchanged(self.config, self.said)
        moved = {stage: source_id(stage) for stage in self.exchanges}
        places = {stage: self.nodes[stage].place for stage in self.exchanges}
        sources = tuple(
            ComponentConfig(
                source_id(stage), "source", "exchange", settings, source_spec(self.transport), places[stage]
            )
            for stage, settings in self.exchanges.items()
        )
        sinks = tuple(
            ComponentConfig(
                sink_id(stage), "sink", "exchange", settings, sink_spec(self.transport), places[stage], (stage,)
            )
            for stage, settings in self.exchanges.items()
        )

        def rewired(component: ComponentConfig) -> ComponentConfig:
            return replace(component, inputs=tuple(moved.get(read, read) for read in component.inputs))

        config = replace(
            self.config,
            sources=(*self.config.sources, *sources),
            stages=tuple(map(rewired, self.config.stages)),
            sinks=(*map(rewired, self.config.sinks), *sinks),
        )
        self._refuse_rings(config)
        return Exchanged(config, self.said)

    def key_of(self, read: str) -> Key | None:
        """By what the records are partitioned that `id`, or `stage.output`, gives; None: nobody knows."""
        name = read if read in self.nodes else read.rpartition(".")[0]
        if name not in self.known:
            component = self.nodes[name]
            self.known[name] = _said_by(component) if component.kind == "source" else self._behind(component)
        return self.known[name]

    def _behind(self, stage: ComponentConfig) -> Key | None:
        [before, *others] = {self.key_of(read) for read in stage.inputs} or {None}
        if others:
            before = None
        if stage.name == "key_by":
            return self._decide(stage, before)
        if before is None or not all(
            _field(text) and stage.spec.keeps(stage.settings, _field(text)) for text in before
        ):
            return None
        return before

    def _decide(self, stage: ComponentConfig, before: Key | None) -> Key | None:
        """Whether an exchange follows the stage. By what its records are partitioned then."""
        settings = stage.settings
        key: Key = tuple(str(expression) for expression in settings.by.values())  # type: ignore[attr-defined]
        partitions: int | None = settings.partitions  # type: ignore[attr-defined]
        by = ", ".join(key)
        alone = all(source.spec.single(source.settings) for source in self._sources_of(stage))
        if partitions is None and alone:
            self.said[stage.id] = "no exchange: there is just one partition"
            return key
        if partitions is None and before == key:
            self.said[stage.id] = f"no exchange: records are partitioned by {by} already"
            return key
        if alone:
            why = f"one partition becomes {partitions}"
        elif before is None:
            why = f"nothing says that records are partitioned by {by} (`partitioned_by` of a source would)"
        else:
            why = f"records are partitioned by {', '.join(before)}"
        if before == key:
            why = f"partitioned by {by} already, but {partitions} partitions are wanted"
        self.said[stage.id] = why
        self.exchanges[stage.id] = ExchangeSettings.model_validate(
            {
                "stage": stage.id,
                "topic": exchange_topic(self.app, self.config.name, stage.id),
                "transport": self.transport,
                "partitions": partitions,
                "group": self.group,
                "by": by,
                "why": why,
                "timed": self.timed,
            }
        )
        return key

    def _sources_of(self, component: ComponentConfig) -> list[ComponentConfig]:
        """The sources of all that hangs together with a component, before anything is cut."""
        return [source for source in self.config.sources if self.pieces[source.id] == self.pieces[component.id]]

    def _refuse_rings(self, config: PipelineConfig) -> None:
        """A part that wrote to an exchange and read it would wait for itself."""
        nodes = {c.id: c for c in (*config.sources, *config.stages, *config.sinks)}
        found = pieces(nodes.values(), nodes)
        for stage in self.exchanges:
            if found[sink_id(stage)] == found[source_id(stage)]:
                component = self.nodes[stage]
                message = (
                    f"stage `{stage}`: what it gives meets records again that did not go through its exchange; put a "
                    "key_by into the other way as well"
                )
                diagnostic = Diagnostic("bad-plan", message, component.place)
                raise ConfigError(f"{component.place}: {message}", (diagnostic,))


def pieces(components: Iterable[ComponentConfig], nodes: Mapping[str, ComponentConfig]) -> dict[str, str]:
    """{component: name of the piece of the graph that it belongs to}: pieces share no record."""
    group = {name: name for name in nodes}

    def leader(name: str) -> str:
        while group[name] != name:
            group[name] = group[group[name]]
            name = group[name]
        return name

    topics: dict[str, str] = {}
    for component in components:
        for read in component.inputs:
            group[leader(component.id)] = leader(read if read in nodes else read.rpartition(".")[0])
        if component.kind == "source" and component.spec.transport == "kafka":
            # A group has one offset for a partition: what reads the same topic is one part.
            topic = component.settings.topic  # type: ignore[attr-defined]
            group[leader(component.id)] = leader(topics.setdefault(topic, component.id))
    return {name: leader(name) for name in group}


def _said_by(source: ComponentConfig) -> Key | None:
    said = getattr(source.settings, "partitioned_by", None)
    return None if said is None else tuple(str(expression) for expression in said)


def _field(text: str) -> str:
    """The top-level field of a plain path, empty for any other expression: whose value may depend on anything."""
    names = text.split(".")
    return names[0] if all(name.isidentifier() and not name.startswith("_") for name in names) else ""

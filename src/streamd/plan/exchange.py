"""Puts exchanges into a pipeline's graph, wherever records are not where they belong yet. Pure.

    … → key_by → …   becomes   … → key_by → sink `key_by.write`    source `key_by.read` → …

The two ends share no record, so that the graph falls into two parts there, each with tasks of its own. Before a stage
that works by a key (a window, a join, an aggregate) a stage `key_by` is put in as well, where that is not written.
Where an exchange would change nothing there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from streamd.codecs import TEXT, Format
from streamd.codecs.beside import header_formats, key_format
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
from streamd.plan.keys import Key, enough, given_by, kept_by, said_by, wanted_by


@dataclass(frozen=True, slots=True)
class Exchanged:
    """A pipeline with its exchanges. `said`: {stage: what becomes of its key, for people}. `single`: the sources that
    were taken to have one partition, so that there are fewer exchanges.
    """

    config: PipelineConfig
    said: Mapping[str, str]
    single: frozenset[str] = frozenset()


def with_exchanges(config: PipelineConfig, app: str) -> Exchanged:
    """The pipeline with an exchange wherever one is needed. Raises ConfigError for one that cannot be."""
    if not any(stage.name == "key_by" or stage.spec.keyed for stage in config.stages):
        return Exchanged(config, {})
    forced: frozenset[str] = frozenset()
    while True:
        exchanging = _Exchanging(config, app, forced)
        found = exchanging.run()
        ring = exchanging.ring_in(found.config)
        if ring is None:
            return found
        joins = frozenset(name for name in exchanging.joins if ring.startswith(f"{name}.")) - forced
        if not joins:
            raise _ring(next(stage for stage in found.config.stages if stage.id == ring))
        # One side came through an exchange from where the other is read: both go through one.
        forced |= joins


class _Exchanging:
    """One attempt. `forced`: joins all of whose sides get an exchange."""

    def __init__(self, config: PipelineConfig, app: str, forced: frozenset[str]) -> None:
        self.config, self.app, self.forced = config, app, forced
        self.nodes = {c.id: c for c in (*config.sources, *config.stages, *config.sinks)}
        self.said: dict[str, str] = {}
        # {stage that an exchange follows: its ends' settings}
        self.exchanges: dict[str, ExchangeSettings] = {}
        # Stages put in, by the stage before which they are.
        self.put_in: dict[str, list[ComponentConfig]] = {}
        # {stage: what it reads now}
        self.rewired: dict[str, tuple[str, ...]] = {}
        self.joins: set[str] = set()
        self.known: dict[str, Key | None] = {}
        self.transport: Transport = "embedded"
        if any(c.spec.transport == "kafka" for c in (*self.nodes.values(), *config.dead_letters)):
            self.transport = "kafka"
        groups = (getattr(source.settings, "group", None) for source in config.sources)
        self.group = next((group for group in groups if group is not None), None)
        self.timed = any(stage.spec.keyed for stage in config.stages)
        self.single = self._single()

    def _single(self) -> frozenset[str]:
        """The sources in pieces of the graph that have, before anything is cut, no source with several partitions."""
        piece = pieces(self.nodes)
        wide = {piece[source.id] for source in self.config.sources if not source.spec.single(source.settings)}
        return frozenset(source.id for source in self.config.sources if piece[source.id] not in wide)

    def run(self) -> Exchanged:
        for stage in self.config.stages:
            self.key_of(stage.id)
        if not self.exchanges:
            return Exchanged(self.config, self.said, self.single)
        moved = {stage: source_id(stage) for stage in self.exchanges}
        stages: list[ComponentConfig] = []
        for stage in self.config.stages:
            stages += [*self.put_in.get(stage.id, ()), self._wired(stage)]
        config = replace(self.config, stages=tuple(stages))

        def behind(component: ComponentConfig) -> ComponentConfig:
            return replace(component, inputs=tuple(moved.get(read, read) for read in component.inputs))

        places = {stage.id: stage.place for stage in stages}
        sources = tuple(
            ComponentConfig(source_id(name), "source", "exchange", how, source_spec(self.transport), places[name])
            for name, how in self.exchanges.items()
        )
        sinks = tuple(
            ComponentConfig(
                sink_id(name), "sink", "exchange", _written(how), sink_spec(self.transport), places[name], (name,)
            )
            for name, how in self.exchanges.items()
        )
        config = replace(
            config,
            sources=(*config.sources, *sources),
            stages=tuple(map(behind, config.stages)),
            sinks=(*map(behind, config.sinks), *sinks),
        )
        return Exchanged(config, self.said, self.single)

    def _wired(self, stage: ComponentConfig) -> ComponentConfig:
        return replace(stage, inputs=self.rewired[stage.id]) if stage.id in self.rewired else stage

    def key_of(self, read: str) -> Key | None:
        """By what the records are partitioned that `id`, or `stage.output`, gives; None: nobody knows."""
        name = read if read in self.nodes else read.rpartition(".")[0]
        if name not in self.known:
            component = self.nodes[name]
            if component.kind == "stage":
                self.known[name] = self._behind(component)
            else:
                self.known[name] = () if name in self.single else said_by(component)
        return self.known[name]

    def _behind(self, stage: ComponentConfig) -> Key | None:
        if stage.spec.keyed and len(wanted_by(stage)) > 1:
            return self._behind_join(stage)
        [before, *others] = {self.key_of(read) for read in stage.inputs} or {None}
        if others or self._mixed(stage.inputs):
            before = None
        if stage.name == "key_by":
            return self._behind_key_by(stage, before)
        if not stage.spec.keyed or not wanted_by(stage):
            return kept_by(stage, before)
        [wanted] = wanted_by(stage)
        if not enough(before, wanted):
            self.rewired[stage.id] = (self._put_in(stage, stage.id, stage.inputs, wanted, before),)
            before = wanted
        elif before:
            self.said[stage.id] = f"no exchange: records are partitioned by {_listed(before)} already"
        return given_by(stage, before or ())

    def _behind_key_by(self, stage: ComponentConfig, before: Key | None) -> Key | None:
        settings = stage.settings
        key: Key = tuple(str(expression) for expression in settings.by.values())  # type: ignore[attr-defined]
        partitions: int | None = settings.partitions  # type: ignore[attr-defined]
        if partitions is None and before == ():
            self.said[stage.id] = "no exchange: there is just one partition"
            return before
        if partitions is None and before == key:
            self.said[stage.id] = f"no exchange: records are partitioned by {_listed(key)} already"
            return key
        if before == key:
            self.said[stage.id] = f"partitioned by {_listed(key)} already, but {partitions} partitions are wanted"
        else:
            self.said[stage.id] = _why(before, key, partitions)
        self._exchange(stage.id, stage.id, key, partitions)
        return key if partitions != 1 else ()

    def _behind_join(self, stage: ComponentConfig) -> Key | None:
        """Both sides have to be partitioned by their keys, in the same way."""
        self.joins.add(stage.id)
        wanted, reads = wanted_by(stage), list(stage.inputs)
        before = [self.key_of(read) for read in reads]
        if stage.id not in self.forced and all(key == () for key in before):
            return given_by(stage, ())
        for port, (read, key, had) in enumerate(zip(stage.inputs, wanted, before, strict=True)):
            if had == key and stage.id not in self.forced and not self._mixed((read,), alone=False):
                continue
            if port and (stage.inputs[0], wanted[0]) == (read, key):
                reads[port] = reads[0]
            else:
                reads[port] = self._put_in(stage, f"{stage.id}.{('left', 'right')[port]}", (read,), key, had)
        if tuple(reads) == stage.inputs:
            self.said[stage.id] = f"no exchange: both sides are partitioned by {_listed(wanted[0])} already"
        self.rewired[stage.id] = tuple(reads)
        return given_by(stage, wanted[0])

    def _put_in(self, stage: ComponentConfig, name: str, reads: Sequence[str], key: Key, before: Key | None) -> str:
        """Put a stage `key_by` before another one. Gives its id."""
        # Here: a plan without one need not know it.
        from streamd.stages.key_by import KeyBy, KeyByConfig

        id_ = f"{name}.key_by"
        partitions = None if key else 1
        settings = KeyByConfig.model_validate({"by": {text: text for text in key} or {"all": "''"}})
        component = ComponentConfig(id_, "stage", "key_by", settings, KeyBy.spec, stage.place, tuple(reads))
        self.put_in.setdefault(stage.id, []).append(component)
        self.said[id_] = _why(before, key, None)
        self._exchange(id_, name, key, partitions, put_in=True)
        return id_

    def _exchange(self, stage: str, name: str, key: Key, partitions: int | None, *, put_in: bool = False) -> None:
        sources = [self.nodes[source] for source in sorted(self._sources(stage))]
        self.exchanges[stage] = ExchangeSettings.model_validate(
            {
                "stage": stage,
                "topic": exchange_topic(self.app, self.config.name, name),
                "transport": self.transport,
                "partitions": partitions,
                "group": self.group,
                "by": _listed(key),
                "keys": key,
                "header_formats": _header_formats(sources),
                "key_lost": put_in and any(key_format(source.settings) != TEXT for source in sources),
                "why": self.said[stage],
                "timed": self.timed,
            }
        )

    def _mixed(self, reads: Sequence[str], *, alone: bool = True) -> bool:
        """Whether records come with keys that are no text, and others may have the same key in other bytes, and so be
        in another partition. `alone`: there are no others than these.
        """
        found = {name for read in reads for name in self._origins(read)}
        encoded = any(key_format(self.nodes[name].settings) != TEXT for name in found)
        return encoded and (len(found) > 1 or not alone)

    def _origins(self, read: str) -> set[str]:
        """The sources, or the stages with an exchange, from which records come."""
        name = read if read in self.nodes else read.rpartition(".")[0]
        component = self.nodes[name]
        moved = name in self.exchanges or (name in self.put_in and len(wanted_by(component)) == 1)
        if moved or component.kind == "source":
            return {name}
        return {origin for before in component.inputs for origin in self._origins(before)}

    def _sources(self, stage: str) -> frozenset[str]:
        return sources_of(self._stage(stage), self.nodes)

    def _stage(self, stage: str) -> ComponentConfig:
        """A stage, or the one before which it is put in."""
        found = self.nodes.get(stage)
        if found is not None:
            return found
        return next(one for put_in in self.put_in.values() for one in put_in if one.id == stage)

    def ring_in(self, config: PipelineConfig) -> str | None:
        """An exchange that is written and read in one part: it would wait for itself."""
        found = pieces({c.id: c for c in (*config.sources, *config.stages, *config.sinks)})
        return next((stage for stage in self.exchanges if found[sink_id(stage)] == found[source_id(stage)]), None)


def _ring(component: ComponentConfig) -> ConfigError:
    message = (
        f"stage `{component.id}`: what it gives meets records again that did not go through its exchange; put a "
        "key_by into the other way as well"
    )
    return ConfigError(f"{component.place}: {message}", (Diagnostic("bad-plan", message, component.place),))


def _written(how: ExchangeSettings) -> ExchangeSettings:
    """The settings of the sink: it writes headers as they are."""
    return how.model_copy(update={"header_formats": {}})


def _header_formats(sources: Iterable[ComponentConfig]) -> dict[str, Format]:
    """{header: its format} of records of all of these. Raises ConfigError where they do not agree."""
    found: dict[str, tuple[ComponentConfig, Format]] = {}
    for source in sources:
        for name, form in header_formats(source.settings).items():
            first, known = found.setdefault(name, (source, form))
            if known != form:
                message = (
                    f"source `{source.id}`: its records meet those of source `{first.id}` behind an exchange, and "
                    f"`header_formats.{name}` is not the same there"
                )
                raise ConfigError(f"{source.place}: {message}", (Diagnostic("bad-plan", message, source.place),))
    return {name: form for name, (_, form) in found.items()}


def _listed(key: Key) -> str:
    return ", ".join(key) or "nothing"


def _why(before: Key | None, key: Key, partitions: int | None) -> str:
    if before == ():
        return f"one partition becomes {partitions}"
    if not key:
        return "all records have to be together"
    if before is None:
        return f"nothing says that records are partitioned by {_listed(key)} (`partitioned_by` of a source would)"
    return f"records are partitioned by {_listed(before)}"


def pieces(nodes: Mapping[str, ComponentConfig]) -> dict[str, str]:
    """{component: name of the piece of the graph that it belongs to}: pieces share no record."""
    group = {name: name for name in nodes}

    def leader(name: str) -> str:
        while group[name] != name:
            group[name] = group[group[name]]
            name = group[name]
        return name

    topics: dict[str, str] = {}
    for component in nodes.values():
        for read in component.inputs:
            group[leader(component.id)] = leader(read if read in nodes else read.rpartition(".")[0])
        if component.kind == "source" and component.spec.transport == "kafka":
            # A group has one offset for a partition: what reads the same topic is one part.
            topic = component.settings.topic  # type: ignore[attr-defined]
            group[leader(component.id)] = leader(topics.setdefault(topic, component.id))
    return {name: leader(name) for name in group}


def sources_of(stage: ComponentConfig, nodes: Mapping[str, ComponentConfig]) -> frozenset[str]:
    """The sources whose records reach a stage, those of its own part."""
    found: set[str] = set()
    waiting, seen = list(stage.inputs), set[str]()
    while waiting:
        read = waiting.pop()
        name = read if read in nodes else read.rpartition(".")[0]
        if name in seen:
            continue
        seen.add(name)
        if nodes[name].kind == "source":
            found.add(name)
        waiting += nodes[name].inputs
    return frozenset(found)


def together(config: PipelineConfig) -> dict[str, frozenset[str]]:
    """{stage with several ports: the sources that it needs to have the same partitions}."""
    nodes = {c.id: c for c in (*config.sources, *config.stages)}
    stages: Iterable[ComponentConfig] = (s for s in config.stages if s.spec.keyed and len(wanted_by(s)) > 1)
    return {stage.id: sources_of(stage, nodes) for stage in stages}

"""Everything that is known before a replay of dead letters: which go where, which stay; or why none may go."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from streamd.component.spec import ComponentSpec
from streamd.config.pipeline import ComponentConfig, PipelineConfig
from streamd.config.service import ServiceConfig
from streamd.dlq.choice import Choice
from streamd.dlq.entry import (
    Entry,
    LetterSettings,
    Route,
    TopicSettings,
    pipeline_back,
    pipeline_from,
    said_of_drift,
)
from streamd.dlq.letter import Letter
from streamd.dlq.marks import Done
from streamd.dlq.places import Kept, Place, Span
from streamd.dlq.tally import Reason
from streamd.errors import ConfigError
from streamd.plan.graph import PipelinePlan, build_plan

_EXAMPLES: Final = 3
_HARMLESS: Final = ("stdout", "discard")
Way = tuple[Entry, str | None]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What somebody asked for. `most`: letters that were replayed so often stay. `at_least_once`: outputs outside of
    the transaction may be written twice after a crash.
    """

    choice: Choice
    to_stage: str | None = None
    to_source: bool = False
    most: int = 3
    at_least_once: bool = False


@dataclass(slots=True)
class Group:
    """The letters that enter at one place, and the pipeline that they go through. `examples`: some of their places.

    `drift`: what the source's `schema_drift` does with them, in words, "" for nothing to say.
    """

    entry: Entry
    to_stage: str | None
    plan: PipelinePlan
    source: str
    drift: str = ""
    reasons: Counter[Reason] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return self.reasons.total()

    @property
    def outputs(self) -> list[str]:
        """Where they may come to, in words."""
        return [said(sink) for part in self.plan.parts for sink in part.sinks]


@dataclass(slots=True)
class Prepared:
    """What a replay will do. `span` bounds it: what fails again lies behind its ends.

    `offsets`: {partition: where the letters lie that are to go}.
    `stay`: {why: letters} that are meant and cannot go; `tired`: those that were replayed too often; `done`: those that
    have a mark; `others`: not meant, of other pipelines, or no letters.
    """

    place: Place
    span: Span
    partitions: int
    groups: dict[Way, Group] = field(default_factory=dict)
    offsets: dict[int, array[int]] = field(default_factory=dict)
    stay: Counter[str] = field(default_factory=Counter)
    tired: int = 0
    done: int = 0
    others: int = 0

    @property
    def count(self) -> int:
        return sum(group.count for group in self.groups.values())


class Selection:
    """Which way a letter goes, if any. The same letters, whoever asks, until one has a mark."""

    def __init__(self, route: Route, wishes: Wishes) -> None:
        self._route, self._wishes = route, wishes

    @property
    def reads(self) -> bool:
        """Whether what is in the records counts."""
        return self._wishes.choice.reads

    def way(self, letter: Letter | None, done: Done | None) -> Way | str:
        """The way, or why not: `other`, `done`, `tired`, or a sentence."""
        if letter is None or letter not in self._wishes.choice:
            return "other"
        if done is not None:
            return "done"
        if letter.replays >= self._wishes.most:
            return "tired"
        return self._route.of(letter)


def placeholder(kind: Any, config: Any, name: str, transport: str | None = None) -> ComponentSpec:
    """A component that only stands in a plan until a run puts its own there."""

    def nothing(settings: Any, context: Any) -> Any:
        raise AssertionError("it is replaced before it is made")

    return ComponentSpec(kind, name, config, nothing, transport=transport, bounded=lambda _: True)


async def prepare(
    config: PipelineConfig, service: ServiceConfig, place: Place, wishes: Wishes, kept: Kept
) -> tuple[Prepared, Selection]:
    """Look at every letter once. Writes nothing. Raises ConfigError where the replay must not run."""
    if place.transport is None:
        raise ConfigError(
            f"{place}: dead letters in a file can be looked at, and not replayed: a file takes no part in a "
            "transaction with the outputs, and its envelopes keep neither headers nor bytes that are no text. Keep "
            "them in a topic: `on_error: {dead_letter: {log: {topic: …}}}`, or kafka"
        )
    route = Route(build_plan(config, service.app), wishes.to_stage, wishes.to_source)
    route.check()
    selection = Selection(route, wishes)
    span = await kept.span()
    found = Prepared(place, span, len(span))
    marks = await kept.marks()
    for partition, (first, end) in sorted(span.items()):
        done: Mapping[int, Done] = marks.get(partition, {})
        async for batch in kept.records(partition, first, end):
            read = await kept.letters(batch, partition, read=wishes.choice.reads)
            for record, letter in zip(batch, read, strict=True):
                _note(found, letter, selection.way(letter, done.get(record.offset)), config, service, wishes)
    return found, selection


def _note(
    found: Prepared, letter: Letter | None, way: Way | str, config: PipelineConfig, service: ServiceConfig,
    wishes: Wishes,
) -> None:  # fmt: skip
    if letter is None or way == "other":
        found.others += 1
    elif way == "done":
        found.done += 1
    elif way == "tired":
        found.tired += 1
    elif isinstance(way, str):
        found.stay[way] += 1
    else:
        group = found.groups.get(way)
        if group is None:
            group = found.groups[way] = _group(way, config, service, found.place, wishes)
        group.reasons[letter.reason] += 1
        found.offsets.setdefault(letter.partition, array("q")).append(letter.offset)
        if len(group.examples) < _EXAMPLES:
            group.examples.append(f"{found.place.name}[{letter.partition}] {letter.offset}, from {letter.first_origin}")


def _group(way: Way, config: PipelineConfig, service: ServiceConfig, place: Place, wishes: Wishes) -> Group:
    entry, to_stage = way
    spec = placeholder("source", LetterSettings, "dead_letters")
    if entry.way == "inject":
        sink = placeholder("sink", TopicSettings, "topic", place.transport)
        source = next(one for one in config.sources if one.id == entry.component)
        if source.spec.transport not in (place.transport, None):
            raise ConfigError(
                f"{source.place}: source `{source.id}` reads {source.name}, and the dead letters are in {place}: one "
                "transaction cannot hold both"
            )
        rest = pipeline_back(config, entry.component, spec, sink)
    else:
        source = next((one for one in config.sources if one.id == entry.component), None) or config.sources[0]
        rest = pipeline_from(config, entry, to_stage, _like(source, spec) if entry.way == "source" else spec)
    plan = build_plan(rest, service.app)
    [part] = plan.parts
    for sink_config in part.all_sinks:
        _check_sink(sink_config, place, wishes)
    named = next((one for one in config.sources if one.id == entry.component), None)
    drift = said_of_drift(named, entry, to_stage) if named is not None else ""
    return Group(entry, to_stage, plan, part.sources[0].id, drift)


def _like(source: ComponentConfig, spec: ComponentSpec) -> ComponentSpec:
    """The spec of a source of letters with the settings of another one: no transport's, since its topic is not read."""
    return ComponentSpec("source", source.name, source.spec.config, spec.factory, bounded=lambda _: True)


def _check_sink(sink: ComponentConfig, place: Place, wishes: Wishes) -> None:
    """Raises ConfigError for a sink that the transaction of a replay cannot hold."""
    if sink.spec.transport == place.transport or sink.name in _HARMLESS:
        return
    if sink.name == "file":
        raise ConfigError(
            f"{sink.place}: sink `{sink.id}` writes a file, which the running pipeline cuts off behind its own "
            "records; --to-source gives the records back to the pipeline, which writes them itself"
        )
    if wishes.at_least_once and sink.spec.transport != "kafka":
        return
    if sink.spec.transport == "kafka":
        raise ConfigError(
            f"{sink.place}: sink `{sink.id}` writes to Kafka, and the dead letters are in {place}: one transaction "
            "cannot hold both. Keep the dead letters in Kafka as well"
        )
    raise ConfigError(
        f"{sink.place}: sink `{sink.id}` ({sink.name}) takes no part in a transaction with {place}: after a crash of "
        "the replay it may have records twice. --at-least-once allows that; --to-source gives the records back to the "
        "pipeline"
    )


def said(sink: ComponentConfig) -> str:
    """A sink for people: `topic orders`."""
    settings: Any = sink.settings
    name = getattr(settings, "topic", None) or getattr(settings, "path", None) or ""
    return f"{'topic' if sink.name in ('kafka', 'topic') else sink.name} {name}".strip()

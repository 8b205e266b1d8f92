"""Where a dead letter enters its pipeline again, and the pipeline from there on. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, Field

from streamd.codecs import TEXT, BesideFormat
from streamd.codecs.beside import header_formats, key_format
from streamd.component.model import Model
from streamd.component.spec import ComponentSpec
from streamd.config.pipeline import ComponentConfig, ErrorPolicy, PipelineConfig
from streamd.dlq.letter import Letter
from streamd.errors import ConfigError
from streamd.expr import Expression
from streamd.plan.graph import PipelinePlan, producer
from streamd.plan.origins import origin_of
from streamd.plan.validations import with_validations

LETTERS = "dead_letters"  # the id of a source that stands for no component of the pipeline


class Entry(NamedTuple):
    """`source`: the record is as that source gave it. `behind`: as that stage gave it. `into`: as that stage got it.

    `inject`: back to the topic that the source reads.
    """

    way: Literal["source", "behind", "into", "inject"]
    component: str

    def __str__(self) -> str:
        match self.way:
            case "source":
                return f"from source {self.component} on"
            case "behind":
                return f"from behind stage {self.component} on"
            case "into":
                return f"into stage {self.component}"
            case _:
                return f"to what source {self.component} reads"


class LetterSettings(Model):
    """Of a source that gives letters' records: as the settings of any other, for who writes the chain."""

    topic: str
    format: Literal["json", "bytes"] = "json"
    key_format: BesideFormat = TEXT
    header_formats: dict[str, BesideFormat] = Field(default_factory=dict)
    tombstones: Literal["error", "forward"] = "forward"


class TopicSettings(Model):
    """Of the sink that writes records back to where they came from."""

    topic: str
    format: Literal["bytes"] = "bytes"


@dataclass(frozen=True, slots=True)
class Route:
    """The ways into one pipeline. `to_stage`: the one stage at which all enter; `to_source`: they go back to the
    source's topic.
    """

    plan: PipelinePlan
    to_stage: str | None = None
    to_source: bool = False

    def check(self) -> None:
        """Raises ConfigError where nothing could go that way at all."""
        stages = [stage.id for stage in self.plan.config.stages]
        if self.to_stage is not None and self.to_stage not in stages:
            raise ConfigError(
                f"--to-stage: pipeline {self.plan.name} has no stage {self.to_stage!r}; it has: "
                f"{', '.join(stages) or 'none'}"
            )

    def of(self, letter: Letter) -> tuple[Entry, str | None] | str:
        """Where a letter enters, and the stage that it is led to past all others; or why it cannot."""
        kept = self._kept(letter)
        if isinstance(kept, str):
            return kept
        if not letter.whole:
            return "only a part of the record was kept"
        if kept.way == "behind" and letter.phase == "extract" and not isinstance(letter.document, dict):
            return f"source {kept.component} could not read it, and it is kept as it was found, not as a document"
        if self.to_source:
            if kept.way != "source":
                return f"it was kept {_words(kept)}, and is not what the source read"
            return Entry("inject", kept.component), None
        if kept.way != "source" and not isinstance(letter.document, dict):
            return f"it was kept {_words(kept)}, and is no JSON object"
        if self.to_stage is None:
            return kept, None
        config = self.plan.config
        if kept == Entry("into", self.to_stage):
            return kept, None
        if self.to_stage not in _behind(config, {kept.component}):
            return f"stage {self.to_stage} is not behind the place where it was kept, {_words(kept)}"
        return (kept, self.to_stage) if kept.way == "source" else (Entry("into", self.to_stage), None)

    def _kept(self, letter: Letter) -> Entry | str:
        components = {c.id: c for part in self.plan.parts for c in part.components}
        failed = components.get(letter.stage)
        if failed is None:
            return f"the pipeline has no {letter.stage} any more"
        entry = components.get(letter.entry) if letter.entry is not None else self._entry_of(letter)
        if entry is None:
            return f"where it was kept is not in the pipeline any more, or not to be told ({letter.entry})"
        if entry.name == "exchange":
            return "it was kept where records move by key, behind stages of which the running pipeline has the state"
        if entry.kind == "source":
            return Entry("behind" if _decoded(entry) else "source", entry.id)
        if entry.id == failed.id and not entry.spec.fused:
            if entry.spec.keyed:
                return f"stage {entry.id} refused it out of its own state"
            return Entry("into", entry.id)
        return Entry("behind", entry.id)

    def _entry_of(self, letter: Letter) -> ComponentConfig | None:
        """Of a letter that does not say it: the one chain in which the component is."""
        found = {
            chain.entry.id: chain.entry
            for part in self.plan.parts
            for chain in part.chains
            if letter.stage in {c.id for c in (chain.entry, *chain.stages, *chain.targets)}
        }
        if len(found) > 1:
            named = {i: c for i, c in found.items() if getattr(c.settings, "topic", c.id) == letter.topic}
            found = named or found
        return next(iter(found.values())) if len(found) == 1 else None


def _words(entry: Entry) -> str:
    return f"before stage {entry.component}" if entry.way == "into" else f"behind {entry.component}"


def _decoded(source: ComponentConfig) -> bool:
    return source.spec.decoded or bool(getattr(source.settings, "decoded", False))


def _behind(config: PipelineConfig, begin: Collection[str]) -> set[str]:
    """The ids of all stages and sinks that records of these components, or outputs (`stage.output`), reach."""
    nodes = {c.id: c for c in (*config.sources, *config.stages, *config.sinks)}
    found: set[str] = set()
    while True:
        reached = {
            c.id
            for c in (*config.stages, *config.sinks)
            if c.id not in found and any(n in begin or producer(n, nodes) in {*begin, *found} for n in c.inputs)
        }
        if not reached:
            return found
        found |= reached


def pipeline_from(config: PipelineConfig, entry: Entry, to_stage: str | None, spec: ComponentSpec) -> PipelineConfig:
    """The part of a pipeline that letters go through, with one source in place of all others, made by `spec`.

    Raises ConfigError where a stage on the way has state in the running pipeline.
    """
    by_id = {c.id: c for c in (*config.sources, *config.stages, *config.sinks)}
    kept = by_id[entry.component]
    head = _head(by_id, kept, entry, to_stage, spec)
    first = to_stage or (entry.component if entry.way == "into" else None)
    # Of what a stage gives apart from its records, its scores, nothing is a letter.
    outputs = kept.spec.outputs(kept.settings) if kept.kind == "stage" else ()
    given = f"{kept.id}.{outputs[0]}" if outputs else kept.id
    reached = {first} | _behind(config, {first}) if first is not None else _behind(config, {given})

    def read(component: ComponentConfig) -> ComponentConfig:
        if component.id == first:
            return replace(component, inputs=(head.id,))
        names = ((head.id if first is None and name == given else name) for name in component.inputs)
        return replace(component, inputs=tuple(n for n in names if n == head.id or producer(n, by_id) in reached))

    stages = tuple(read(stage) for stage in config.stages if stage.id in reached)
    sinks = tuple(read(sink) for sink in config.sinks if sink.id in reached)
    made = replace(config, sources=(head,), stages=stages, sinks=sinks, error_threshold=None, delivery="exactly_once")
    validated = with_validations(made)
    for stage in validated.stages:
        if stage.spec.stateful or stage.spec.keyed:
            raise ConfigError(
                f"{stage.place}: stage `{stage.id}` ({stage.name}) remembers what came before, and only the running "
                "pipeline does: a replay beside it would begin with nothing. --to-source gives the records back to "
                "what the pipeline reads, and so to its state"
            )
    _refuse_partition((head, *stages, *sinks))
    looked_up = {name for stage in validated.stages for name in stage.spec.tables(stage.settings)}
    return replace(made, tables=tuple(table for table in config.tables if table.id in looked_up))


def _head(
    nodes: Mapping[str, ComponentConfig], kept: ComponentConfig, entry: Entry, to_stage: str | None, spec: ComponentSpec
) -> ComponentConfig:
    """The source of letters that enter there.

    What `schema_drift` looks at in a sample was looked at when it came, and letters are no sample. What it checks in
    every record is checked again, unless the letters are led past it.
    """
    drift = kept.schema_drift if to_stage is None and _checks(kept) else None
    if entry.way == "source":
        return replace(kept, spec=spec, schema_drift=drift)
    topic = str(getattr(kept.settings, "topic", None) or kept.id)
    return replace(
        kept, id=kept.id if entry.way == "behind" else LETTERS, kind="source", name=LETTERS, inputs=(),
        settings=LetterSettings(topic=topic, **_beside(nodes, kept)), spec=spec, schema_drift=drift,
        on_error=kept.on_error if kept.kind == "source" else None,
    )  # fmt: skip


def _checks(source: ComponentConfig) -> bool:
    return source.schema_drift is not None and source.schema_drift.every_record


def said_of_drift(source: ComponentConfig, entry: Entry, to_stage: str | None) -> str:
    """What the `schema_drift` of the source does with letters that enter there; "" where it has none to do with them.

    Records that go back to a topic meet it as all do that the pipeline reads.
    """
    if source.schema_drift is None or entry.way == "inject":
        return ""
    if not _checks(source):
        return "schema_drift looks at none of them: it had its sample when they came"
    if to_stage is not None:
        return f"schema_drift does not check them: stage {to_stage} is behind it"
    return "schema_drift checks each against its schema, as when they came"


def _beside(nodes: Mapping[str, ComponentConfig], kept: ComponentConfig) -> dict[str, Any]:
    """The formats of keys and headers of records that were kept behind a source or a stage."""
    origin = origin_of(nodes, kept)
    headers = {name: header_formats(source.settings)[name] for name, source in origin.headers.items()}
    return {"key_format": key_format(origin.key.settings) if origin.key else TEXT, "header_formats": headers}


def pipeline_back(config: PipelineConfig, source: str, spec: ComponentSpec, sink: ComponentSpec) -> PipelineConfig:
    """A pipeline that does nothing but write letters' records to the topic that a source reads.

    Raises ConfigError for a source that reads no topic.
    """
    kept = next(one for one in config.sources if one.id == source)
    topic = getattr(kept.settings, "topic", None)
    if topic is None or kept.spec.transport is None:
        raise ConfigError(
            f"{kept.place}: --to-source: source `{kept.id}` ({kept.name}) reads no topic to which records could be "
            "given back"
        )
    head = replace(
        kept, name=LETTERS, settings=LetterSettings(topic=topic, format="bytes"), spec=spec, on_error=ErrorPolicy(),
        schema_drift=None,
    )  # fmt: skip
    back = ComponentConfig(
        "back", "sink", "topic", TopicSettings(topic=topic), sink, kept.place, (head.id,), on_error=ErrorPolicy()
    )
    return replace(
        config, sources=(head,), stages=(), sinks=(back,), dead_letters=(), tables=(), on_error=ErrorPolicy(),
        error_threshold=None, delivery="exactly_once",
    )  # fmt: skip


def _refuse_partition(components: tuple[ComponentConfig, ...]) -> None:
    """A replay's tasks go by the partitions of the dead letters: `_partition` would be another number."""
    for component in components:
        if any("_partition" in expression.metadata for expression in _expressions(component.settings)):
            raise ConfigError(
                f"{component.place}: {component.kind} `{component.id}` reads `_partition`, which is not that of the "
                "record in a replay; --to-source gives the records back to the partitions that they came from"
            )


def _expressions(value: Any) -> Iterator[Expression]:
    if isinstance(value, Expression):
        yield value
    elif isinstance(value, BaseModel):
        for _, inner in value:
            yield from _expressions(inner)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _expressions(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _expressions(inner)

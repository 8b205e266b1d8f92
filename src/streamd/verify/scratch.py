"""What of a pipeline is replaced so that a run of it touches nothing of the user's: inputs, outputs, names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamd.codecs.schema_registry import SchemaRegistry
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.pipeline import ComponentConfig, PipelineConfig
from streamd.config.service import ServiceConfig
from streamd.plan.graph import PartPlan, PipelinePlan
from streamd.transport.files.compression import compression_of
from streamd.verify.schema_registry import ScratchRegistry
from streamd.verify.yaml_text import Replacement, Value, rewritten, section

# What a source of a topic and a sink to one keep of their settings when they move to the other transport.
_SOURCE_SETTINGS = frozenset({"format", "event_time", "tombstones", "partitioned_by", "key_format", "header_formats"})
_SINK_SETTINGS = frozenset({"format", "key", "timestamp", "headers", "key_format", "header_formats"})
_EVENT_TIME = frozenset({"event_time"})

_ENDINGS = {"json": "ndjson", "csv": "csv", "text": "txt"}
_COMPRESSED = {"none": "", "gzip": ".gz", "zstd": ".zst"}


@dataclass(frozen=True, slots=True)
class Input:
    """One source as it reads in the scratch. `kind`: "kafka", "log" or "file"; `topic` in the scratch, "" for files.

    `original` is the source as the user wrote it; `format` and `columns` (CSV files) say how records lie there.
    """

    id: str
    kind: str
    original: ComponentConfig
    partitions: int
    topic: str = ""
    format: str = "json"


@dataclass(frozen=True, slots=True)
class Output:
    """Where one or several sinks write in the scratch. `kind`: "kafka", "log" or "file"; `place`: topic, or folder.

    `sources`: ids of the sources that reach it; `tasks`: how many tasks write it; `promise`: what its sinks promise
    here; `dead_letter`: whether dead letters come there. `sink`: the first of them, as the user has it.
    """

    id: str
    kind: str
    place: str
    format: str
    sources: frozenset[str]
    tasks: int
    promise: str
    dead_letter: bool
    sink: ComponentConfig | None = None


@dataclass(frozen=True, slots=True)
class Scratch:
    """The scratch of one verification: everything in `folder`, and in Kafka below the names that begin with `prefix`.

    `embedded`: topics of Kafka become topics of the embedded log. `inputs` are the same for all runs, as are `tables`,
    which are filled before anything runs. `schema_registry`: the scratch's own, which the nodes
    ask, and `schemas`, the user's, which is only read; None where none is used.
    """

    prefix: str
    folder: Path
    embedded: bool
    config: PipelineConfig
    plan: PipelinePlan
    inputs: tuple[Input, ...]
    tables: tuple[Input, ...] = ()
    notes: list[str] = field(default_factory=list)
    schema_registry: ScratchRegistry | None = None
    schemas: SchemaRegistry | None = None

    def app(self, run: str) -> str:
        """The app of one of the runs: in groups, transactional ids and the name of the embedded log."""
        return f"{self.prefix}-{run}"

    def input_files(self, source: Input) -> list[Path]:
        """The files of a file source, one for each partition."""
        name = f"{source.id}-{{:03}}.{_ENDINGS[source.format]}"
        return [self.folder / "input" / name.format(number) for number in range(source.partitions)]

    def output_topic(self, run: str, topic: str) -> str:
        """The scratch topic of Kafka for one of the user's."""
        return f"{self.prefix}-{run}.{topic}"[:249]

    def output_folder(self, run: str, sink: str) -> Path:
        """The folder of a file sink's files."""
        return self.folder / run / "out" / sink

    def text(self, run: str) -> str:
        """The pipeline's text for one of the runs."""
        table: dict[tuple[int, int], Replacement] = {}
        for source in (*self.inputs, *self.tables):
            table[_key(source.original)] = self._source(source)
        for sink in (*self.config.sinks, *self.config.dead_letters):
            table[_key(sink)] = self._sink(sink, run)
        if self.schema_registry is not None and (place := section(self.config.text, "schema_registry")) is not None:
            table[place] = Replacement("schema_registry", {"url": self.registry_url(run)}, frozenset())
        return rewritten(self.config.text, table)

    def registry_url(self, run: str) -> str:
        """Where the schema registry of one of the runs is, "" where there is none."""
        return "" if self.schema_registry is None else self.schema_registry.url(run)

    def loaded(
        self, run: str, registry: Registry, env: Mapping[str, str], service: ServiceConfig
    ) -> tuple[PipelineConfig, str]:
        """The pipeline of one of the runs, checked, and its text."""
        text = self.text(run)
        assert self.config.file is not None
        imports = self.config.imports
        return load_pipeline_text(text, self.config.file, registry, env, service, imports), text

    def on_kafka(self, sink: ComponentConfig) -> bool:
        """Whether a sink that is replaced belongs to a part whose checkpoint is Kafka's."""
        return not self.embedded and any(
            part.transport == "kafka" for part in self.plan.parts if sink.id in {s.id for s in part.all_sinks}
        )

    def outputs(self, run: str) -> tuple[Output, ...]:
        """Where the sinks of one of the runs write; sinks that share a topic are one output."""
        by_place: dict[tuple[str, str], list[ComponentConfig]] = {}
        for sink in (*self.config.sinks, *self.config.dead_letters):
            replacement = self._sink(sink, run)
            place = replacement.settings["path" if replacement.name == "file" else "topic"]
            where = str(self.output_folder(run, sink.id)) if replacement.name == "file" else str(place)
            by_place.setdefault((replacement.name, where), []).append(sink)
        partitions = {source.id: source.partitions for source in self.inputs}
        found = []
        for (kind, place), sinks in by_place.items():
            sources = frozenset(name for sink in sinks for name in self._sources_of(sink))
            promises = {self._promise(sink, kind) for sink in sinks}
            found.append(
                Output(
                    ", ".join(sink.id for sink in sinks),
                    kind,
                    place,
                    getattr(sinks[0].settings, "format", "json"),
                    sources,
                    max(partitions[name] for name in sources) if sources else 1,
                    min(promises, key=lambda promise: promise != "at least once"),
                    any(sink.id in {d.id for d in self.config.dead_letters} for sink in sinks),
                    sinks[0],
                )
            )
        return tuple(found)

    def _promise(self, sink: ComponentConfig, kind: str) -> str:
        if self.config.delivery == "at_least_once" and not self.embedded:
            return "at least once"
        if kind == "log" and self.on_kafka(sink):
            return "at least once"
        return "exactly once"

    def _sources_of(self, sink: ComponentConfig) -> set[str]:
        """Ids of the sources whose records can come to a sink."""
        parts: Iterable[PartPlan] = [p for p in self.plan.parts if sink.id in {s.id for s in p.all_sinks}]
        if sink in self.config.dead_letters:
            return {source.id for part in parts for source in part.sources}
        above = {c.id: c.inputs for c in (*self.config.stages, *self.config.sinks)}
        found: set[str] = set()
        waiting = [*sink.inputs]
        while waiting:
            name = waiting.pop()
            name = name if name in above else name.partition(".")[0]
            if name in above:
                waiting += above[name]
            else:
                found.add(name)
        return found

    def _source(self, source: Input) -> Replacement:
        original = source.original
        if source.kind == "file":
            paths = [str(path) for path in self.input_files(source)]
            changed: dict[str, Value] = {"path": paths, "tail": True, "compression": None, "start": None}
            return Replacement("file", changed)
        if source.kind == original.name == "kafka":
            return Replacement("kafka", {"topic": source.topic, "group": None, "start": None, "create": None})
        if source.kind == original.name == "log":
            return Replacement("log", {"topic": source.topic, "partitions": source.partitions, "start": None})
        keep = _SOURCE_SETTINGS if original.name == "kafka" else _EVENT_TIME
        settings: dict[str, Value] = {"topic": source.topic, "partitions": source.partitions}
        if original.name == "stdin":
            settings["format"] = source.format
        return Replacement("log", settings, keep)

    def _sink(self, sink: ComponentConfig, run: str) -> Replacement:
        settings: Any = sink.settings
        if sink.name == "file":
            compression = compression_of(Path(settings.path), settings.compression)
            name = f"data.{_ENDINGS[settings.format]}{_COMPRESSED[compression]}"
            # One number for each task, also where dead letters of several parts meet.
            path = f"{self.output_folder(run, sink.id)}/{{part}}{{partition:06}}/{name}"
            return Replacement("file", {"path": path, "compression": None})
        if sink.name == "log":
            return Replacement("log", {"topic": settings.topic, "retention": None})
        if sink.name == "kafka" and not self.embedded:
            return Replacement("kafka", {"topic": self.output_topic(run, settings.topic)})
        if sink.name == "kafka":
            count = settings.create.partitions if settings.create is not None else None
            changed: dict[str, Value] = {"topic": settings.topic}
            return Replacement("log", changed | ({"partitions": count} if count else {}), _SINK_SETTINGS)
        if self.on_kafka(sink):
            return Replacement("kafka", {"topic": self.output_topic(run, f"sink.{sink.id}")}, frozenset())
        return Replacement("log", {"topic": f"sink.{sink.id}"}, frozenset())


def imports_of(config: PipelineConfig) -> dict[str, str]:
    """Texts of the files that a pipeline imports, by absolute path: they are read once, and the same for all runs."""
    return {os.path.abspath(path): text for path, text in config.imports.items()}  # noqa: PTH100 — as they are looked for


def _key(component: ComponentConfig) -> tuple[int, int]:
    return component.place.line, component.place.column

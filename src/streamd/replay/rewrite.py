"""The pipeline of a replay: other inputs and outputs in the text of the live one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from streamd.config.file_text import FileText
from streamd.config.pipeline import ComponentConfig, PipelineConfig
from streamd.config.yaml_nodes import Mapping as MappingNode
from streamd.config.yaml_nodes import Node, Scalar, Sequence
from streamd.errors import ConfigError
from streamd.replay.span import Span
from streamd.verify.yaml_text import Replacement, Value, rewritten

READABLE = ("kafka", "log", "file")
PREFIXED = ("kafka", "log", "file")
HARMLESS = ("stdout", "discard")


def outputs_of(config: PipelineConfig) -> list[ComponentConfig]:
    """All sinks, each once: dead letters and those that stages name among them."""
    nested = [value for stage in config.stages for _, value in stage.settings if isinstance(value, ComponentConfig)]
    every = (*config.sinks, *config.dead_letters, *(one for one in nested if one.kind == "sink"))
    return list({one.place: one for one in every}.values())


def refuse(config: PipelineConfig, prefix: str) -> None:
    """Raises ConfigError for what cannot be read again, or cannot be written beside the live pipeline."""
    for source in config.sources:
        if source.name not in READABLE and not (source.spec.replayable and source.spec.bounded(source.settings)):
            raise ConfigError(
                f"{source.place}: source `{source.id}` ({source.name}) keeps nothing that could be read again; a "
                f"replay reads {', '.join(READABLE)}"
            )
    for sink in outputs_of(config):
        if sink.name == "file" and not prefix:
            raise ConfigError(
                f"{sink.place}: sink `{sink.id}` writes a file, which the live pipeline cuts off behind its own "
                "records: give a --prefix"
            )
        if sink.name not in (*PREFIXED, *HARMLESS) and prefix:
            raise ConfigError(
                f"{sink.place}: sink `{sink.id}` ({sink.name}) has no name that a prefix could be put before; with "
                '--prefix "" the replay writes where the live pipeline does'
            )


def rewrite(config: PipelineConfig, spans: Mapping[str, Span], prefix: str) -> str:
    """The pipeline's text as the replay runs it. `spans`: of the sources that read topics of Kafka, by id."""
    text = FileText(str(config.file or config.name), config.text)
    table: dict[tuple[int, int], Replacement] = {}
    for source in config.sources:
        if source.name == "kafka":
            changed: dict[str, Value] = {"span": _span(spans[source.id])}
            changed |= dict.fromkeys(("group", "start", "end", "create", "on_position_lost"))
            table[_key(source)] = _replacement(text, source, changed)
        elif source.name == "log":
            table[_key(source)] = _replacement(text, source, {"start": None})
    for sink in outputs_of(config):
        written: Any = sink.settings
        if sink.name == "kafka" and prefix:
            table[_key(sink)] = _replacement(text, sink, {"topic": prefixed(written.topic, prefix)})
        elif sink.name == "file":
            path = PurePath(written.path)
            table[_key(sink)] = _replacement(text, sink, {"path": str(path.with_name(f"{prefix}{path.name}"))})
    return rewritten(config.text, table)


def prefixed(topic: str, prefix: str) -> str:
    """The topic that a replay writes for one of the live pipeline. Raises ConfigError when that is no name."""
    name = f"{prefix}{topic}"
    if len(name) > 249:
        raise ConfigError(f"--prefix: {name} has more than 249 characters, which a topic's name may not")
    return name


def _replacement(text: FileText, component: ComponentConfig, changed: Mapping[str, Value]) -> Replacement:
    """The component with some settings changed. One that is written as a URI is spelt out."""
    start = text.index(component.place.line) + component.place.column - 1
    spelt: dict[str, Value] = {}
    if text.text[start:].startswith(("uri:", '"uri":', "'uri':")):
        given = component.settings.model_dump(include=component.settings.model_fields_set, mode="python")
        spelt = {name: value for name, value in given.items() if isinstance(value, str | int | bool)}
        spelt["at"] = None
    return Replacement(component.name, {**spelt, **changed})


def _span(span: Span) -> Node:
    entries: dict[str, tuple[Scalar, Node]] = {}
    for partition, offsets in sorted(span.items()):
        numbers: list[Node] = [Scalar(0, 0, str(offset), None, offset) for offset in offsets]
        entries[str(partition)] = Scalar(0, 0, str(partition), None, partition), Sequence(0, 0, numbers)
    return MappingNode(0, 0, entries)


def _key(component: ComponentConfig) -> tuple[int, int]:
    return component.place.line, component.place.column

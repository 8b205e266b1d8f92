"""A tree of YAML nodes with some of its components replaced, written as YAML again.

References `${…}` stay as they were written: whoever reads the text puts in the same values from the same environment,
and no secret is written anywhere.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from streamd.config.file_text import FileText
from streamd.config.yaml_nodes import Mapping as MappingNode
from streamd.config.yaml_nodes import Node, Scalar, Sequence, parse_document

# What a setting becomes: text, number, switch, a list of texts; None takes it out.
Value: TypeAlias = str | int | bool | list[str] | Node | None


@dataclass(frozen=True, slots=True)
class Replacement:
    """What stands for one component: its name, and its settings as they differ from those written.

    `keep`: the settings that stay as they are written; None for all of them.
    """

    name: str
    settings: Mapping[str, Value]
    keep: frozenset[str] | None = None


def rewritten(text: str, replacements: Mapping[tuple[int, int], Replacement]) -> str:
    """The YAML text with the components at (line, column) replaced. The text has been loaded before without problems.

    Aliases are written out; comments are not kept.
    """
    source = FileText("pipeline", text)
    root = parse_document(source).root
    assert root is not None
    stream = io.StringIO()
    yaml.emit(_document(_replaced(root, source, replacements)), stream, width=1_000_000, allow_unicode=True)
    return stream.getvalue()


def section(text: str, name: str) -> tuple[int, int] | None:
    """(line, column) of a key at the top of the YAML text; None when it is not there."""
    source = FileText("pipeline", text)
    root = parse_document(source).root
    if not isinstance(root, MappingNode) or name not in root.entries:
        return None
    place = source.place(root.entries[name][0].start)
    return place.line, place.column


def _replaced(node: Node, source: FileText, replacements: Mapping[tuple[int, int], Replacement]) -> Node:
    def found(key: Node) -> Replacement | None:
        place = source.place(key.start)
        return replacements.get((place.line, place.column))

    def walk(node: Node) -> Node:
        if isinstance(node, Scalar):
            replacement = found(node)
            if replacement is None:
                return node
            return MappingNode(0, 0, {replacement.name: (_scalar(replacement.name), _settings(replacement, None))})
        if isinstance(node, Sequence):
            return Sequence(0, 0, [walk(item) for item in node.items])
        entries: dict[str, tuple[Scalar, Node]] = {}
        for name, (key, value) in node.entries.items():
            replacement = found(key)
            if replacement is None:
                entries[name] = key, walk(value)
            else:
                entries[replacement.name] = _scalar(replacement.name), _settings(replacement, value)
        return MappingNode(0, 0, entries)

    return walk(node)


def _settings(replacement: Replacement, written: Node | None) -> Node:
    entries: dict[str, tuple[Scalar, Node]] = {}
    if isinstance(written, MappingNode):
        kept = written.entries.keys() if replacement.keep is None else replacement.keep
        entries = {name: entry for name, entry in written.entries.items() if name in kept}
    for name, value in replacement.settings.items():
        entries.pop(name, None)
        if value is not None:
            entries[name] = _scalar(name), _node(value)
    return MappingNode(0, 0, entries)


def _node(value: Value) -> Node:
    if isinstance(value, list):
        return Sequence(0, 0, [_scalar(item) for item in value])
    if isinstance(value, bool | int):
        return Scalar(0, 0, str(value).lower(), None, value)
    if isinstance(value, str):
        return _scalar(value)
    assert value is not None
    return value


def _scalar(text: str) -> Scalar:
    """A text that means itself, whatever it holds."""
    return Scalar(0, 0, text.replace("${", "$${"), '"', text)


def _document(root: Node) -> Iterator[Any]:
    yield yaml.StreamStartEvent()
    yield yaml.DocumentStartEvent(explicit=False)
    yield from _events(root)
    yield yaml.DocumentEndEvent(explicit=False)
    yield yaml.StreamEndEvent()


def _events(node: Node) -> Iterator[Any]:
    if isinstance(node, Scalar):
        # What a tag made a text of is a text in quotes; what it did not is as good without the tag.
        style = '"' if node.tagged and node.style is None and isinstance(node.value, str) else node.style
        yield yaml.ScalarEvent(None, None, (True, True), node.text, style=style)
    elif isinstance(node, Sequence):
        yield yaml.SequenceStartEvent(None, None, True, flow_style=False)
        for item in node.items:
            yield from _events(item)
        yield yaml.SequenceEndEvent()
    else:
        yield yaml.MappingStartEvent(None, None, True, flow_style=False)
        for key, value in node.entries.values():
            yield from _events(key)
            yield from _events(value)
        yield yaml.MappingEndEvent()

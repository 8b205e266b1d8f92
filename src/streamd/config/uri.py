"""Sources and sinks named by a URI, so that one pipeline runs on files, on the embedded log or on Kafka: `uri: ${IN}`.

    events.ndjson · file:data/events.ndjson · kafka:orders · kafka:orders?end=latest · log:orders

A scheme is the name of a source or sink, and what follows is its file or topic. What stands behind `?` are settings, as
are the other keys below `uri:`. Without a scheme it is a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingType
from typing import NamedTuple
from urllib.parse import parse_qsl

from streamd.component.fields import EnvironmentText
from streamd.config.model_check import describe
from streamd.config.scalars import resolve_plain
from streamd.config.yaml_nodes import Document, Mapping, Node, Scalar

URI = "uri"
AT = "at"
# {scheme: the setting that what follows is}
SCHEMES: MappingType[str, str] = {"file": "path", "kafka": "topic", "log": "topic"}
_EXPECTED = "a file's path, or file:PATH, kafka:TOPIC, log:TOPIC, with further settings behind ?"
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):(?!\\)(?://)?(.+)", re.DOTALL)


class Found(NamedTuple):
    """The component that a URI names, and its settings as if they had been written out."""

    name: str
    body: Mapping


def expand(document: Document, kind: str, at: Node, body: Node | None) -> Found | None:
    """What `uri: BODY` stands for; None when it is nothing, which is reported."""
    rest: dict[str, tuple[Scalar, Node]] = {}
    node = body
    if isinstance(body, Mapping):
        node = body.get(AT)
        rest = {key: entry for key, entry in body.entries.items() if key != AT}
    if not isinstance(node, Scalar) or not isinstance(node.value, str) or not node.value:
        place = node if isinstance(node, Scalar) and node.end > node.start else at
        message = f"the {kind}'s `uri` must be a text" + ("" if node is None else f", got {describe(node)}")
        document.report("wrong-type", message, place, _EXPECTED)
        return None
    match = _SCHEME.fullmatch(node.value)
    scheme, target = (match[1], match[2]) if match else ("file", node.value)
    if scheme not in SCHEMES:
        message = f"the {kind}'s `uri` has a scheme that is none" + ("" if node.hidden else f": `{scheme}:`")
        document.report("wrong-value", message, node, _EXPECTED)
        return None
    # A path may have a question mark in it, as a pattern.
    query = ""
    if scheme != "file":
        target, _, query = target.partition("?")
    entries = {SCHEMES[scheme]: (_like(node, SCHEMES[scheme]), _like(node, target))}
    for key, value in parse_qsl(query, keep_blank_values=True):
        entries[key] = (_like(node, key), _like(node, value, plain=True))
    return Found(scheme, Mapping(node.start, node.end, entries | rest))


def _like(node: Scalar, text: str, *, plain: bool = False) -> Scalar:
    """A leaf that stands where the URI does, and is as secret as that."""
    value = resolve_plain(text) if plain else text
    if isinstance(node.value, EnvironmentText) and isinstance(value, str):
        value = EnvironmentText(value)
    return Scalar(
        node.start, node.end, text, node.style, value, substituted=node.substituted, hidden=node.hidden, size=node.size
    )

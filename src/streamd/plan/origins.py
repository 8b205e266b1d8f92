"""Of which source's `key_format` and `header_formats` the keys and headers of records are, at each place. Pure.

A key stays what its source read until a stage gives records one of their own, which is text. Headers stay until a stage
makes records anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from streamd.codecs import TEXT
from streamd.codecs.beside import header_formats, key_format
from streamd.config.pipeline import ComponentConfig


@dataclass(frozen=True, slots=True)
class Origin:
    """Sources by whose settings a record's key and headers are read; without one they are text.

    `key_lost`: `_key` would be another thing than before an exchange that nobody has written. `mixed_key`, and
    `mixed_headers` by header: why nobody can tell which of several; empty where that is no question.
    """

    key: ComponentConfig | None = None
    headers: Mapping[str, ComponentConfig] = field(default_factory=dict)
    key_lost: bool = False
    mixed_key: str = ""
    mixed_headers: Mapping[str, str] = field(default_factory=dict)


def origin_of(nodes: Mapping[str, ComponentConfig], component: ComponentConfig) -> Origin:
    """The origin of what a source or a stage gives. `nodes`: those that share records with it, among others, by id."""
    if component.kind == "source":
        own = component if key_format(component.settings) != TEXT else None
        lost: bool = getattr(component.settings, "key_lost", False)
        return Origin(own, dict.fromkeys(header_formats(component.settings), component), lost)
    names = [name if name in nodes else name.rpartition(".")[0] for name in component.inputs]
    before = _together(origin_of(nodes, nodes[name]) for name in names if name in nodes)
    if not component.spec.own_key:
        return before
    return Origin() if component.spec.keyed else replace(before, key=None, key_lost=False, mixed_key="")


def _together(origins: Iterable[Origin]) -> Origin:
    """Of records that come from several places."""
    first, *others = list(origins) or [Origin()]
    for other in others:
        mixed = first.mixed_key or other.mixed_key
        if not mixed and _form(first.key) != _form(other.key):
            mixed = _why(first.key, other.key, "key_format")
        headers, mixed_headers = dict(first.headers), {**first.mixed_headers, **other.mixed_headers}
        for name in {**first.headers, **other.headers}:
            one, another = first.headers.get(name), other.headers.get(name)
            if _header_form(one, name) != _header_form(another, name):
                mixed_headers.setdefault(name, _why(one, another, f"header_formats.{name}"))
            headers[name] = one or another  # type: ignore[assignment]
        first = Origin(first.key, headers, first.key_lost or other.key_lost, mixed, mixed_headers)
    return first


def _form(source: ComponentConfig | None) -> str:
    return TEXT if source is None else key_format(source.settings)


def _header_form(source: ComponentConfig | None, name: str) -> str:
    return TEXT if source is None else header_formats(source.settings)[name]


def _why(one: ComponentConfig | None, other: ComponentConfig | None, setting: str) -> str:
    named = " and ".join(f"`{source.id}`" for source in (one, other) if source is not None)
    return f"records meet here whose `{setting}` is not the same (source {named}): it is to be the same"

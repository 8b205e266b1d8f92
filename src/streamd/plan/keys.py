"""By what records are partitioned on their way through a pipeline, and by what stages need them to be. Pure.

A key is the texts of its expressions, in order. `()` is the key by which everything is in one partition.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from streamd.config.pipeline import ComponentConfig
from streamd.expr import Expression

Key = tuple[str, ...]


def said_by(source: ComponentConfig) -> Key | None:
    """What a source says that its records are partitioned by; None when it says nothing."""
    said = getattr(source.settings, "partitioned_by", None)
    return None if said is None else tuple(str(expression) for expression in said)


def kept_by(stage: ComponentConfig, key: Key | None) -> Key | None:
    """By what the records of a stage without state are partitioned, when what it reads is so by `key`."""
    if key is None or all((field := _field(text)) and stage.spec.keeps(stage.settings, field) for text in key):
        return key
    return None


def wanted_by(stage: ComponentConfig) -> tuple[Key, ...]:
    """By what a keyed stage works: for each of its ports the key of which all records must be together.

    `()` for one that works on whatever comes.
    """
    settings: Any = stage.settings
    if not hasattr(settings, "by") and not hasattr(settings, "on"):
        return ()
    on = getattr(settings, "on", None)
    if on is not None:
        return tuple(tuple(map(str, side)) for side in (on.left, on.right))
    fields, by = _fields(settings), getattr(settings, "by", None)
    sets: Iterable[Iterable[str]] | None = getattr(by, "sets", None)
    names = [name for name in fields if all(name in one for one in sets or ())]
    return (tuple(str(fields[name]) for name in names),)


def enough(key: Key | None, wanted: Key) -> bool:
    """Whether records that are partitioned by `key` are together for each value of `wanted`."""
    return key is not None and set(key) <= set(wanted)


def given_by(stage: ComponentConfig, key: Key) -> Key | None:
    """By what the results of a keyed stage are partitioned, when what it reads is so by `key`."""
    settings: Any = stage.settings
    if not key or kept_by(stage, key) is not None:
        return key
    on = getattr(settings, "on", None)
    if on is not None:
        both = list(map(str, on.left)) == list(map(str, on.right))
        return key if both and getattr(settings, "fields", None) is None and all(map(_field, key)) else None
    fields = _fields(settings)
    names = {str(expression): name for name, expression in fields.items()}
    return tuple(names[text] for text in key) if all(text in names for text in key) else None


def _fields(settings: Any) -> Mapping[str, Any]:
    """{name: expression} of the setting `by`, however it is kept; empty for none."""
    by = getattr(settings, "by", None)
    if by is None:
        return {}
    if isinstance(by, Expression):
        return {str(by): by}
    return by if isinstance(by, Mapping) else by.fields


def _field(text: str) -> str:
    """The top-level field of a plain path, empty for any other expression: whose value may depend on anything."""
    names = text.split(".")
    return names[0] if all(name.isidentifier() and not name.startswith("_") for name in names) else ""

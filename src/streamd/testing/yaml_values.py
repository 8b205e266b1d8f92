"""JSON values as YAML, in the way that people write records. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from streamd.config.scalars import resolve_plain

WIDTH = 120

_PLAIN = re.compile(r"[A-Za-z_](?:[\w./@+-]| (?=[\w./@+-]))*", re.ASCII)


def flow(value: Any) -> str:
    """On one line: {user: ada, total: 1.5}."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(str(name))}: {flow(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    return scalar(value)


def block(value: Any, indent: int) -> str:
    """Over several lines, where it does not fit one; further lines begin with `indent` spaces."""
    if isinstance(value, Mapping) and value:
        return f"\n{' ' * indent}".join(_entry(name, inner, indent) for name, inner in value.items())
    return flow(value)


def item(value: Any, indent: int, *, lines: bool = False) -> str:
    """What stands behind the `- ` of a list whose items begin at that column (from 0); over `lines` where asked for."""
    text = flow(value)
    if isinstance(value, Mapping) and value and (lines or indent + len(text) > WIDTH):
        return block(value, indent)
    return text


def items(values: list[Any], indent: int, *, lines: bool = False) -> str:
    """A list, an item on each line, the dashes at column `indent`; begins with a line end. [] on the same line."""
    if not values:
        return " []"
    return "".join(f"\n{' ' * indent}- {item(value, indent + 2, lines=lines)}" for value in values)


def _entry(name: Any, value: Any, indent: int) -> str:
    head = f"{scalar(str(name))}:"
    text = flow(value)
    if indent + len(head) + len(text) < WIDTH or not isinstance(value, Mapping | list) or not value:
        return f"{head} {text}"
    if isinstance(value, list):
        return f"{head}{items(value, indent + 2)}"
    return f"{head}\n{' ' * (indent + 2)}{block(value, indent + 2)}"


def scalar(value: Any) -> str:
    """A leaf, quoted where it would mean something else without."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and resolve_plain(value) == value:
        return value
    if isinstance(value, str) and '"' in value and "'" not in value and "\\" not in value and value.isprintable():
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=False, default=str)

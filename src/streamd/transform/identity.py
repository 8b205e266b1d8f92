"""A hashable stand-in for any JSON value: equal exactly where the values are equal as JSON."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

_OWN = frozenset({str, int, float})  # of types whose values are their own


def identity(value: Any) -> Hashable:
    """1 and 1.0 have the same, 1 and true have not; nor have [1] and [true]."""
    kind = value.__class__
    if kind in _OWN:
        return value  # type: ignore[no-any-return]
    if kind is dict:
        return dict, frozenset([(name, identity(inner)) for name, inner in value.items()])
    if kind is list:
        return list, tuple(map(identity, value))
    return kind, value

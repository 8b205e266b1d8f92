"""The functions that expressions may call: one module per category, `FUNCTIONS` holds them all by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from streamd.expr.functions import collection, encoding, number, pattern, text, time, types
from streamd.expr.functions.catalogue import Function, combine

FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    combine(
        (
            text.TEXT,
            pattern.PATTERN,
            encoding.ENCODING,
            number.NUMBER,
            time.TIME,
            collection.COLLECTION,
            types.TYPE,
        )
    )
)

__all__ = ["FUNCTIONS", "Function"]

"""The values at one place of documents, and of all that lies below it: a tree that grows with what a sample shows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from streamd.profile.bounds import ALWAYS_MAP, DEPTH, EXAMPLES, FEW, MAP_NAMES, Bounds
from streamd.profile.distinct import Distinct
from streamd.profile.times import Times

# Names as in expressions and schemas; of a type that is not here, its own.
KINDS: dict[type, str] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "text",
    bytes: "bytes",
    list: "list",
    tuple: "list",
    dict: "object",
    Decimal: "decimal",
    datetime: "datetime",
    date: "date",
    time: "time",
    UUID: "uuid",
}
NUMBERS = frozenset({"integer", "number"})
_TALLIED = frozenset({"text", "integer", "boolean"})


def kind_of(value: Any) -> str:
    """The type of a value, in words."""
    return KINDS.get(type(value)) or type(value).__name__


class Values:
    """What was seen at one place. `types`: {kind: how often}, absent ones not counted.

    `fields` are those of objects; once an object has shown too many names, it is a map: `entries` is then all that its
    names lead to, and `fields` is empty. `items` is what lists hold. `cut`: not all below was looked at.
    """

    __slots__ = (
        "count",
        "cut",
        "distinct",
        "entries",
        "examples",
        "few",
        "fields",
        "greatest",
        "items",
        "least",
        "longest",
        "numeric_text",
        "shortest",
        "times",
        "types",
    )  # fmt: skip

    def __init__(self, *, timed: bool = True) -> None:
        self.count = 0
        self.types: dict[str, int] = {}
        self.fields: dict[str, Values] = {}
        self.items: Values | None = None
        self.entries: Values | None = None
        self.cut = False
        self.distinct = Distinct()
        # {a value: how often}; None once there are many.
        self.few: dict[Any, int] | None = {}
        self.least: Any = None
        self.greatest: Any = None
        self.shortest: int | None = None
        self.longest: int | None = None
        self.examples: list[Any] = []
        self.times: Times | None = Times() if timed else None
        # Of texts, how they all read: int, float, bool; None: as nothing but text.
        self.numeric_text: str | None = ""

    def add(self, value: Any, bounds: Bounds, depth: int = 0) -> None:
        """Count a value, and all that it holds."""
        kind = kind_of(value)
        self.count += 1
        self.types[kind] = self.types.get(kind, 0) + 1
        if kind == "object":
            self._object(value, bounds, depth)
        elif kind == "list":
            self._list(value, bounds, depth)
        elif value is not None:
            self._scalar(kind, value, bounds)

    def _object(self, value: dict[Any, Any], bounds: Bounds, depth: int) -> None:
        if depth >= DEPTH:
            self.cut = True
            return
        for name, inner in value.items():
            place = self.entries or self.fields.get(name)
            if place is None:
                if bounds.fields <= 0:
                    self.cut = True
                    continue
                bounds.fields -= 1
                place = self.fields[name if type(name) is str else str(name)] = Values(timed=self.times is not None)
            place.add(inner, bounds, depth + 1)
        if len(self.fields) > MAP_NAMES and self._is_map():
            self._become_map(bounds)

    def _is_map(self) -> bool:
        """Whether its names are data: they are very many, or each is in few of the objects only."""
        rare = self.types["object"] // 2
        return len(self.fields) > ALWAYS_MAP or sum(inner.count for inner in self.fields.values()) < rare * MAP_NAMES

    def _become_map(self, bounds: Bounds) -> None:
        self.entries = Values(timed=False)
        for values in self.fields.values():
            self.entries.merge(values, bounds)
        bounds.fields += len(self.fields)
        self.fields = {}

    def _list(self, value: Any, bounds: Bounds, depth: int) -> None:
        self._length(len(value))
        if depth >= DEPTH:
            self.cut = True
            return
        if self.items is None and value:
            self.items = Values(timed=False)
        for item in value:
            self.items.add(item, bounds, depth + 1)  # type: ignore[union-attr]

    def _scalar(self, kind: str, value: Any, bounds: Bounds) -> None:
        self.distinct.add(hash((kind, value)), bounds)
        if self.times is not None and not self.times.add(value, bounds.partition):
            self.times = None
        if kind in NUMBERS and value == value:
            self._ordered(value)
        elif kind == "text" or kind == "bytes":
            self._length(len(value))
            if kind == "text" and self.numeric_text is not None:
                self.numeric_text = read_as(value, self.numeric_text)
        if len(self.examples) < EXAMPLES and value not in self.examples:
            self.examples.append(value)
        if self.few is not None:
            if kind not in _TALLIED or (kind == "text" and len(value) > 64):
                self.few = None
                return
            # True is 1 in a dict, and is told apart by its kind.
            key = (kind, value)
            self.few[key] = self.few.get(key, 0) + 1
            if len(self.few) > FEW:
                self.few = None

    def _ordered(self, value: Any) -> None:
        if self.least is None or value < self.least:
            self.least = value
        if self.greatest is None or value > self.greatest:
            self.greatest = value

    def _length(self, length: int) -> None:
        self.shortest = length if self.shortest is None else min(self.shortest, length)
        self.longest = length if self.longest is None else max(self.longest, length)

    def merge(self, other: Values, bounds: Bounds) -> None:
        """Take all that was seen at another place."""
        self.count += other.count
        self.cut = self.cut or other.cut
        for kind, count in other.types.items():
            self.types[kind] = self.types.get(kind, 0) + count
        for name, values in other.fields.items():
            (self.entries or self.fields.setdefault(name, Values(timed=False))).merge(values, bounds)
        if other.entries is not None:
            self._become_map(bounds) if self.entries is None else None
            assert self.entries is not None
            self.entries.merge(other.entries, bounds)
        if other.items is not None:
            self.items = self.items or Values(timed=False)
            self.items.merge(other.items, bounds)
        self.distinct.merge(other.distinct)
        for bound in (other.least, other.greatest):
            if bound is not None:
                self._ordered(bound)
        for length in (other.shortest, other.longest):
            if length is not None:
                self._length(length)
        self.examples = [*self.examples, *other.examples][:EXAMPLES]
        self.few = None

    @property
    def nulls(self) -> int:
        """How many of the values are null."""
        return self.types.get("null", 0)

    @property
    def scalars(self) -> int:
        """How many are neither null, lists nor objects."""
        return self.count - sum(self.types.get(kind, 0) for kind in ("null", "list", "object"))

    def walk(self, path: str = "", parents: int | None = None) -> Iterator[tuple[str, Values, int]]:
        """(path, values, how many could be there) of all places below, in the order in which they were first seen."""
        objects = self.types.get("object", 0)
        for name, values in self.fields.items():
            inner = f"{path}.{name}" if path else name
            yield inner, values, objects
            yield from values.walk(inner)
        if self.entries is not None:
            yield f"{path}.*" if path else "*", self.entries, self.entries.count
            yield from self.entries.walk(f"{path}.*" if path else "*")
        if self.items is not None:
            yield f"{path}[]", self.items, self.items.count
            yield from self.items.walk(f"{path}[]")


def read_as(text: str, before: str) -> str | None:
    """What a column of text holds that has held `before` ("" for nothing yet): int, float, bool; None for text.

    An empty text stands for null. A number with zeros before it, or longer than any column of numbers, is a code.
    """
    if not text:
        return before
    lowered = text.lower()
    if lowered in ("true", "false"):
        return "bool" if before in ("", "bool") else None
    digits = text[1:] if text[0] == "-" else text
    if not digits or len(digits) > 15 or not digits[0].isdigit() or (digits[0] == "0" and digits[1:2].isdigit()):
        return None
    if digits.isascii() and digits.isdigit():
        return before if before == "float" else "int" if before in ("", "int") else None
    whole, dot, fraction = digits.partition(".")
    if dot and digits.isascii() and whole.isdigit() and fraction.isdigit():
        return "float" if before in ("", "int", "float") else None
    return None

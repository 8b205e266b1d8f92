"""Schemas that every record of a sample fits: JSON Schema, and Avro.

Fields that all records had are required; those that some had not, or had as null, are not. A field that the sample does
not show is allowed. Few values make no enum: the sample cannot know that there are no others.
"""

from __future__ import annotations

import re
from typing import Any

from streamd.errors import ConfigError
from streamd.profile.values import NUMBERS, Values

Schema = dict[str, Any]
_JSON: dict[str, str] = {
    "null": "null",
    "boolean": "boolean",
    "integer": "integer",
    "number": "number",
    "text": "string",
    "list": "array",
    "object": "object",
}
_AVRO: dict[str, Any] = {
    "null": "null",
    "boolean": "boolean",
    "number": "double",
    "text": "string",
    "bytes": "bytes",
    "datetime": {"type": "long", "logicalType": "timestamp-micros"},
    "date": {"type": "int", "logicalType": "date"},
    "uuid": {"type": "string", "logicalType": "uuid"},
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONG = 2**63


def json_schema(values: Values, title: str = "") -> Schema:
    """The JSON Schema (draft 2020-12) of the documents of a sample."""
    head: Schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return head | ({"title": title} if title else {}) | _json(values)


def _json(values: Values) -> Schema:
    kinds = set(values.types)
    if "number" in kinds:
        kinds.discard("integer")
    # JSON has no word for bytes, or for what else a format may give: nothing is asked of such a value.
    if not kinds or not kinds <= _JSON.keys():
        return {}
    names = sorted(_JSON[kind] for kind in kinds)
    schema: Schema = {"type": names[0] if len(names) == 1 else names}
    objects = values.types.get("object", 0)
    if values.cut:
        return schema
    if values.entries is not None:
        schema["additionalProperties"] = _json(values.entries)
    elif objects:
        schema["properties"] = {name: _json(inner) for name, inner in values.fields.items()}
        if required := [name for name, inner in values.fields.items() if inner.count == objects]:
            schema["required"] = required
    if values.items is not None:
        schema["items"] = _json(values.items)
    return schema


def avro_schema(values: Values, name: str) -> Schema:
    """The Avro schema of the documents of a sample, a record. Raises ConfigError for what Avro has no words for."""
    return _Avro().record(values, _identifier(name), "")


class _Avro:
    def __init__(self) -> None:
        self._names: set[str] = set()

    def record(self, values: Values, name: str, path: str) -> Schema:
        if values.cut:
            raise ConfigError(f"{path or 'the document'} has more fields, or is deeper, than a schema is proposed for")
        full, number = name, 1
        while full in self._names:
            number += 1
            full = f"{name}{number}"
        self._names.add(full)
        fields = []
        objects = values.types.get("object", 0)
        for field, inner in values.fields.items():
            if not _NAME.fullmatch(field):
                raise ConfigError(f"{path}{field!r}: no name in Avro; expected letters, digits and _, like order_id")
            type_ = self._type(inner, f"{name}_{field}", f"{path}{field}.", optional=inner.count < objects)
            nullable = isinstance(type_, list) and type_[0] == "null"
            fields.append({"name": field, "type": type_} | ({"default": None} if nullable else {}))
        return {"type": "record", "name": full, "fields": fields}

    def _type(self, values: Values, name: str, path: str, *, optional: bool = False) -> Any:
        kinds = set(values.types) | ({"null"} if optional else set())
        if kinds >= NUMBERS:
            kinds.discard("integer")
        if unknown := kinds - _AVRO.keys() - {"integer", "list", "object"}:
            raise ConfigError(f"{path.rstrip('.')}: Avro has no proposal for {', '.join(sorted(unknown))}")
        union = [self._one(values, kind, name, path) for kind in sorted(kinds, key=lambda kind: (kind != "null", kind))]
        return union[0] if len(union) == 1 else union

    def _one(self, values: Values, kind: str, name: str, path: str) -> Any:
        if kind == "integer":
            if not -_LONG <= (values.least or 0) <= (values.greatest or 0) < _LONG:
                raise ConfigError(f"{path.rstrip('.')}: whole numbers beyond 64 bits, for which Avro has no type")
            return "long"
        if kind == "list":
            items = "null" if values.items is None else self._type(values.items, f"{name}_item", f"{path}[].")
            if items == "null":
                # Items that take no bytes are refused when they are read: a type that has null in it is proposed.
                items = ["null", "string"]
            return {"type": "array", "items": items}
        if kind == "object" and values.entries is not None:
            return {"type": "map", "values": self._type(values.entries, f"{name}_value", f"{path}*.")}
        return self.record(values, name, path) if kind == "object" else _AVRO[kind]


def _identifier(name: str) -> str:
    cleaned = re.sub(r"[^A-Za-z0-9_]", "_", name) or "record"
    return cleaned if not cleaned[0].isdigit() else f"_{cleaned}"

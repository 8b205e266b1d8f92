"""Avro schemas: read, with all names full, and what types they are made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from streamd.errors import ConfigError

# A type as `parse` leaves it: a primitive's name, a named type's full name, a mapping, or a list for a union.
Type: TypeAlias = Any

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
NAMED = frozenset({"record", "error", "enum", "fixed"})
RECORDS = frozenset({"record", "error"})


class Schema:
    """A schema. `type` is its top, `text` its JSON as it was given, `named` every named type in it by full name."""

    def __init__(self, text: str, references: Iterable[str] = ()) -> None:
        """`references`: texts of schemas that it names, each before those that name it. Raises ConfigError."""
        from fastavro.schema import SchemaParseException, UnknownType, parse_schema

        self.text = text
        self.named: dict[str, Any] = {}
        try:
            for reference in references:
                parse_schema(_unwrapped(json.loads(reference)), self.named, _ignore_default_error=True)
            parsed = parse_schema(_unwrapped(json.loads(text)), self.named, _ignore_default_error=True)
        except UnknownType as error:
            raise ConfigError(f"the Avro schema names a type {error.name!r} that it does not define") from None
        except SchemaParseException as error:
            raise ConfigError(f"not a valid Avro schema: {error}") from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ConfigError(f"not an Avro schema in JSON: {type(error).__name__}: {error}") from None
        self.type: Type = parsed

    @property
    def name(self) -> str:
        """The full name of the record at its top, or the kind of type that is there."""
        return str(self.type.get("name", kind(self.type))) if isinstance(self.type, dict) else kind(self.type)

    def found(self, node: Type) -> Type:
        """The type itself, where it is only named."""
        return self.named[node] if isinstance(node, str) and node not in PRIMITIVES else node

    @property
    def data(self) -> Any:
        """Its JSON as values, with types behind each other unwrapped."""
        return _unwrapped(json.loads(self.text))


def schema_text(value: Mapping[str, Any] | list[Any] | str) -> str:
    """The JSON text of a schema that is written as YAML, or as JSON in a text, or is the name of a primitive type."""
    return value if isinstance(value, str) and value not in PRIMITIVES else json.dumps(value, ensure_ascii=False)


def kind(node: Type) -> str:
    """record, enum, fixed, array, map, union or a primitive's name; a full name for a type that is only named."""
    if isinstance(node, list):
        return "union"
    return str(node["type"]) if isinstance(node, dict) else str(node)


def logical(node: Type) -> str:
    """The logical type; empty without one, and where it does not fit its type, which makes it none."""
    if not isinstance(node, dict):
        return ""
    name, of = node.get("logicalType", ""), node.get("type")
    if name == "decimal":
        precision: Any = node.get("precision")
        scale: Any = node.get("scale", 0)
        right = of in ("bytes", "fixed") and isinstance(precision, int) and isinstance(scale, int)
        return name if right and 0 <= scale <= precision > 0 else ""
    if name == "duration":
        return name if of == "fixed" and node.get("size") == 12 else ""
    if name == "uuid":
        return name if of == "string" or (of == "fixed" and node.get("size") == 16) else ""
    return name if of == LOGICAL.get(name) else ""


# {logical type of numbers: the type that it is of}
LOGICAL: Mapping[str, str] = {
    "date": "int",
    "time-millis": "int",
    "time-micros": "long",
    "timestamp-millis": "long",
    "timestamp-micros": "long",
    "timestamp-nanos": "long",
    "local-timestamp-millis": "long",
    "local-timestamp-micros": "long",
    "local-timestamp-nanos": "long",
}


def branch_name(schema: Schema, node: Type) -> str:
    """How a branch of a union is called where values say theirs: a named type by its full name."""
    found = schema.found(node)
    return str(found["name"]) if kind(found) in NAMED else kind(found)


def aliases(node: dict[str, Any]) -> frozenset[str]:
    """The other full names of a named type."""
    namespace = node["name"].rpartition(".")[0]
    return frozenset(
        alias if "." in alias or not namespace else f"{namespace}.{alias}" for alias in node.get("aliases", ())
    )


def _unwrapped(node: Any) -> Any:
    """Without types that are nothing but a type: {"type": {"type": "array", …}} is the array."""
    if isinstance(node, list):
        return [_unwrapped(item) for item in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("type"), dict | list) and "name" not in node:
        return _unwrapped(node["type"])
    if "logicalType" in node and not logical(node):
        # One that does not fit its type, or that nobody knows, is none.
        node = {key: value for key, value in node.items() if key != "logicalType"}
    inner = {key: _unwrapped(value) if key in ("items", "values", "type") else value for key, value in node.items()}
    if isinstance(inner.get("fields"), list):
        inner["fields"] = [_unwrapped(field) for field in inner["fields"]]
    return inner

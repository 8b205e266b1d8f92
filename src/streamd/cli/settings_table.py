"""The settings of a model as rows for people: name, type, default, what it is."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, WithJsonSchema
from pydantic.fields import FieldInfo

from streamd.codecs.format import Formats
from streamd.component.fields import (
    NestedComponent,
    duration_text,
    parse_duration,
    parse_expression,
    parse_field_path,
    parse_size,
)
from streamd.config.json_schema import fits
from streamd.config.scalars import inline_yaml

_BY_VALIDATOR = {
    parse_duration: "duration",
    parse_size: "size",
    parse_expression: "expression",
    parse_field_path: "field",
}
_BY_TYPE = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "secret text",
    Any: "any value",
    type(None): "",
}


_BY_SCHEMA_TYPE = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "array": "list",
    "object": "mapping",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `name` is dotted for settings within settings; `default` is None where it is required."""

    name: str
    type: str
    default: str | None
    description: str
    example: str


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[Setting]:
    """All settings of a model, those of models within it after their own."""
    for name, info in model.model_fields.items():
        full = prefix + (info.alias or name)
        type_name = _type(info.annotation, tuple(info.metadata))
        default = None if info.is_required() else _default(info, type_name)
        example = inline_yaml(info.examples[0]) if info.examples else ""
        yield Setting(full, type_name, default, info.description or "", example)
        for inner in _models(info.annotation):
            if inner is not model:
                yield from settings(inner, f"{full}.")


def _type(annotation: Any, metadata: tuple[Any, ...] = ()) -> str:
    for mark in metadata:
        if isinstance(mark, NestedComponent):
            return mark.kind
        if isinstance(mark, Formats):
            return "format"
        known = _BY_VALIDATOR.get(getattr(mark, "func", None))  # type: ignore[arg-type]
        if known is not None:
            return known
    for mark in metadata:
        if isinstance(mark, WithJsonSchema) and mark.json_schema is not None:
            return _schema_type(mark.json_schema)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0], arguments[1:])
    if origin is Literal:
        return " or ".join(f"`{argument}`" for argument in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(filter(None, (_type(argument) for argument in arguments))))
    if origin in (list, tuple, set, frozenset):
        inner = _type(arguments[0]) if arguments else ""
        return f"list of {inner}" if inner else "list"
    if origin is dict or annotation is dict:
        inner = _type(arguments[1]) if arguments else ""
        return f"mapping of names to {inner}" if inner else "mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return _BY_TYPE.get(annotation, getattr(annotation, "__name__", "any value"))


def _schema_type(schema: Mapping[str, Any]) -> str:
    """The type of a field that says itself how it is written."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_schema_type(member) for member in schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f"`{choice}`" for choice in schema["enum"])
    return _BY_SCHEMA_TYPE.get(str(schema.get("type")), "any value")


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _default(info: FieldInfo, type_name: str) -> str:
    value = info.get_default(call_default_factory=True, validated_data={})
    if value is None or isinstance(value, BaseModel) or (isinstance(value, str | dict | list | tuple) and not value):
        return ""
    if isinstance(value, float) and type_name.startswith("duration"):
        return duration_text(value)
    if isinstance(value, int) and type_name.startswith("size"):
        return size_text(value)
    written = [mark.json_schema for mark in info.metadata if isinstance(mark, WithJsonSchema)]
    if any(schema is not None and not fits(schema, value) for schema in written):
        return ""
    return inline_yaml(str(value) if isinstance(value, Path | str) else value)


def size_text(size: int) -> str:
    """A size as a user would write it: 512KiB, 4MiB."""
    for unit, length in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= length and size % length == 0:
            return f"{size // length}{unit}"
    return str(size)

"""JSON Schemas of chains, filters and conditions, for pipeline files and for the files that they import."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from streamd.config.parameters import ParameterSettings

Schema = dict[str, Any]

_NAME = "^[A-Za-z_][A-Za-z0-9_-]*$"
_CONDITION: Schema = {"$ref": "#/definitions/condition"}
_EXPRESSION: Schema = {"type": ["string", "number", "boolean"], "description": "An expression."}
_WITH: Schema = {"type": "object", "description": "Values of its parameters, by name."}


def shared_definitions() -> Schema:
    """The definitions that `chains:`, `filters:` and conditions refer to."""
    return {
        "condition": _condition(),
        "chain": _chain(),
        "named_filter": _filter(),
        "parameter": _parameter(ParameterSettings),
        "use_of_chain": {
            "anyOf": [{"type": "string", "minLength": 1}, _closed({"name": _named("A chain."), "with": _WITH}, "name")],
            "description": "A chain of stages by its name, with values for its parameters.",
        },
    }


def shared_properties() -> Schema:
    """The keys that pipeline files and imported files have in common."""
    return {
        "imports": {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            "description": "Files whose chains and filters can be used here; paths start at this file's folder.",
        },
        "chains": _by_name("chain", "Stages that can be used under one name, each chain with its parameters."),
        "filters": _by_name("named_filter", "Conditions that can be used by name."),
    }


def _by_name(definition: str, description: str) -> Schema:
    return {
        "type": ["object", "null"],
        "additionalProperties": {"$ref": f"#/definitions/{definition}"},
        "propertyNames": {"pattern": _NAME},
        "description": description,
    }


def _condition() -> Schema:
    several = {"type": "array", "items": _CONDITION, "minItems": 1}
    return {
        "anyOf": [
            _EXPRESSION,
            _closed({"all": several | {"description": "All of them hold."}}, "all"),
            _closed({"any": several | {"description": "At least one holds."}}, "any"),
            _closed({"not": _CONDITION}, "not"),
            _closed({"name": _named("A filter."), "with": _WITH}, "name"),
        ],
        "description": "An expression; `all` or `any` of a list of conditions; `not` of one; a filter by its name.",
    }


def _chain() -> Schema:
    stages = {"type": "array", "items": {"$ref": "#/definitions/stage"}, "minItems": 1}
    return {"anyOf": [stages, _closed(_head() | {"stages": stages}, "stages")]}


def _filter() -> Schema:
    return {"anyOf": [_closed(_head() | {"where": _CONDITION}, "where"), _CONDITION]}


def _head() -> Schema:
    parameters = {
        "type": ["object", "null"],
        "additionalProperties": {"$ref": "#/definitions/parameter"},
        "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
        "description": "What can be given where it is used; `$name` stands for it.",
    }
    return {"description": {"type": "string", "description": "What it is for, for people."}, "parameters": parameters}


def _parameter(model: type[BaseModel]) -> Schema:
    schema = model.model_json_schema()
    kinds = schema["properties"]["type"]["enum"]
    return {"anyOf": [_closed(schema["properties"]), {"enum": [*kinds, None]}]}


def _named(description: str) -> Schema:
    return {"type": "string", "minLength": 1, "description": description}


def _closed(properties: Schema, *required: str) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": list(required)} if required else {}),
    }

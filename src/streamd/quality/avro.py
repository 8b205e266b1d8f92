"""An Avro schema as the JSON Schema of the documents that fit it.

A document fits as it would be written with the schema: fields that have no default and may not be null must be there;
fields that the schema does not have are no mistake; whole numbers fit where fractions are wanted. `bytes` and `fixed`
are texts, as in Avro's own JSON. Logical types are what they are made of.
"""

from __future__ import annotations

from typing import Any

from streamd.errors import ConfigError

_INT, _LONG = 2**31, 2**63
_PRIMITIVES: dict[str, Any] = {
    "null": {"type": "null"},
    "boolean": {"type": "boolean"},
    "int": {"type": "integer", "minimum": -_INT, "maximum": _INT - 1},
    "long": {"type": "integer", "minimum": -_LONG, "maximum": _LONG - 1},
    "float": {"type": "number"},
    "double": {"type": "number"},
    "string": {"type": "string"},
    "bytes": {"type": "string"},
}


def json_schema_of(schema: Any, name: str, fastavro: Any) -> dict[str, Any]:
    """`name` is what messages call it. Raises ConfigError for what is no Avro schema of a record."""
    try:
        parsed = fastavro.parse_schema(schema, expand=False)
    except Exception as error:  # the library's own, and whatever its parser trips over
        raise ConfigError(f"{name} is no Avro schema: {type(error).__name__}: {error}") from None
    if not isinstance(parsed, dict) or parsed.get("type") not in ("record", "error"):
        raise ConfigError(f"{name} is no Avro schema of a record, which a document is")
    definitions: dict[str, Any] = {}
    whole = _written(parsed, definitions)
    # In draft 4 a whole number is one that is written so, as in Avro: 1.0 is none.
    return {"$schema": "http://json-schema.org/draft-04/schema#", "allOf": [whole], "definitions": definitions}


def _written(schema: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a parsed schema, in which names are whole."""
    if isinstance(schema, list):
        return {"anyOf": [_written(one, definitions) for one in schema]}
    if isinstance(schema, str):
        found: dict[str, Any] = _PRIMITIVES.get(schema, {"$ref": f"#/definitions/{schema}"})
        return found
    kind = schema["type"]
    match kind:
        case "array":
            return {"type": "array", "items": _written(schema["items"], definitions)}
        case "map":
            return {"type": "object", "additionalProperties": _written(schema["values"], definitions)}
        case "enum":
            definitions[schema["name"]] = {"enum": list(schema["symbols"])}
        case "fixed":
            definitions[schema["name"]] = {"type": "string", "minLength": schema["size"], "maxLength": schema["size"]}
        case "record" | "error":
            definitions[schema["name"]] = {}
            fields = {field["name"]: _written(field["type"], definitions) for field in schema["fields"]}
            needed = [f["name"] for f in schema["fields"] if "default" not in f and not _nullable(f["type"])]
            required = {"required": needed} if needed else {}  # an empty list is none in draft 4
            definitions[schema["name"]] = {"type": "object", "properties": fields, **required}
        case _:
            return _written(kind, definitions)
    return {"$ref": f"#/definitions/{schema['name']}"}


def _nullable(schema: Any) -> bool:
    if isinstance(schema, list):
        return any(map(_nullable, schema))
    return schema == "null" or (isinstance(schema, dict) and _nullable(schema["type"]))

"""JSON Schemas of pipeline files, of what they import, and of streamd.yaml, made from the models, for editors.

They are a little wider than the models: any value may be a `${NAME}` that is filled in later, or a parameter `$name`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel

from streamd.codecs.format import Formats, formats, formats_by_name
from streamd.component.fields import NestedComponent, condition_field, literals_of, nested_component
from streamd.component.registry import Registry
from streamd.component.spec import ComponentSpec, Kind
from streamd.component.table import TableSettings
from streamd.config.chains import CHAIN
from streamd.config.policy import DeadLetterSettings, RetrySettings
from streamd.config.read_pipeline import PipelineSettings
from streamd.config.service import ServiceConfig
from streamd.config.shared_schema import shared_definitions, shared_properties
from streamd.config.uri import AT, URI
from streamd.quality.schema_drift import Policy, SchemaDrift

Schema = dict[str, Any]

_PYTHON_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
    "null": (type(None),),
}
_DIALECT = "http://json-schema.org/draft-07/schema#"
_SUBSTITUTION: Schema = {"type": "string", "pattern": r"\$\{|^\$[A-Za-z_]\w*$"}
_ID: Schema = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_-]*$", "description": "Name within the pipeline."}
_FROM: Schema = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
    "description": "What it reads: ids of sources and stages, or `stage.output`. The one before it where not said.",
}
_URI: Schema = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "object", "properties": {AT: {"type": "string", "minLength": 1}}, "required": [AT]},
    ],
    "description": "A file or topic by URI: events.ndjson, kafka:orders?end=latest, log:orders.",
}


def pipeline_schema(registry: Registry) -> Schema:
    """The schema of a pipeline file, with the settings of every component of the registry."""
    definitions = _definitions(registry)
    properties = _object(PipelineSettings, definitions, "pipeline")
    source, sink = {"$ref": "#/definitions/source"}, {"$ref": "#/definitions/sink"}
    properties["properties"] |= {
        "source": source | {"description": "Where the records come from."},
        "sources": _several(source) | {"description": "Where the records come from, by id."},
        "stages": {
            "type": ["array", "null"],
            "items": {"$ref": "#/definitions/stage"},
            "description": "What is done with the records, in order.",
        },
        "sink": sink | {"description": "Where the records go."},
        "sinks": _several(sink) | {"description": "Where the records go."},
        "on_error": {"$ref": "#/definitions/on_error"},
        "kafka": _kafka_schema(definitions),
        **shared_properties(),
        "schema_registry": _registry_schema(definitions),
    }
    rules = [{"oneOf": [{"required": [one]}, {"required": [f"{one}s"]}]} for one in ("source", "sink")]
    head = {"$schema": _DIALECT, "title": "streamd pipeline"}
    return head | properties | {"allOf": rules, "definitions": dict(sorted(definitions.items()))}


def shared_schema(registry: Registry) -> Schema:
    """The schema of a file that pipelines import: chains and filters."""
    definitions = _definitions(registry)
    del definitions["source"]
    used = {name: value for name, value in definitions.items() if not name.startswith("source.")}
    properties = {"description": {"type": "string", "description": "What it is for."}, **shared_properties()}
    return {
        "$schema": _DIALECT,
        "title": "streamd chains",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "definitions": dict(sorted(used.items())),
    }


def _definitions(registry: Registry) -> Schema:
    definitions = shared_definitions()
    for kind in ("source", "stage", "sink"):
        definitions[kind] = _component_schema(kind, registry, definitions)
    definitions["nested_sink"] = _nested_schema(definitions["sink"])
    return definitions | _policy_schemas(definitions)


def service_schema() -> Schema:
    """The schema of streamd.yaml."""
    definitions: Schema = {}
    schema = _object(ServiceConfig, definitions, "service")
    schema["properties"]["kafka"] = _kafka_schema(definitions)
    schema["properties"]["schema_registry"] = _registry_schema(definitions)
    return (
        {"$schema": _DIALECT, "title": "streamd service"} | schema | {"definitions": dict(sorted(definitions.items()))}
    )


def settings_schema(spec: ComponentSpec, definitions: Schema) -> Schema:
    """The schema of what stands behind a component's name, its shorthand included."""
    schema = _object(spec.config, definitions, f"{spec.kind}.{spec.name}")
    for name, info in spec.config.model_fields.items():
        if (choice := formats(info)) is not None:
            schema["properties"][info.alias or name] |= _format_schema(choice, definitions)
            continue
        if (choice := formats_by_name(info)) is not None:
            schema["properties"][info.alias or name]["additionalProperties"] = _format_schema(choice, definitions)
            continue
        if (many := condition_field(info)) is not None:
            old: Schema = schema["properties"][info.alias or name]
            about = {key: old[key] for key in ("description", "examples", "minProperties") if key in old}
            condition: Schema = {"$ref": "#/definitions/condition"}
            whole = {"type": "object", "additionalProperties": condition} if many else {"anyOf": [condition]}
            schema["properties"][info.alias or name] = whole | about
        mark: NestedComponent | None = nested_component(info.annotation) or next(
            (found for part in info.metadata if (found := nested_component(part)) is not None), None
        )
        if mark is not None:
            reference: Schema = {"$ref": "#/definitions/nested_sink"}
            if values := literals_of(info.annotation):
                reference = {"anyOf": [{"enum": sorted(values, key=str)}, reference]}
            schema["properties"][info.alias or name] = reference | {"description": info.description or ""}
    if spec.shorthand is not None:
        field: Schema = schema["properties"][_key(spec.config, spec.shorthand)]
        if spec.shorthand_always:
            return field
        schema = {"anyOf": [field, schema]}
    elif not schema.get("required"):
        schema = {"anyOf": [schema, {"type": "null"}]}
    return schema


def _format_schema(choice: Formats, definitions: Schema) -> Schema:
    """A name, or a mapping of it to the format's settings. A name alone will do where no setting is required."""
    bare: list[str] = []
    settings: Schema = {}
    for word in choice.words:
        spec = choice.spec(word)
        if spec.bare:
            bare.append(word)
        if not choice.takes_settings(spec):
            settings[word] = {"type": ["object", "null"], "maxProperties": 0}
            continue
        name = f"format.{spec.name}" + ("_files" if choice.files else "")
        inner = _object(spec.settings, definitions, name)
        if spec.bare:
            inner = {"anyOf": [inner, {"type": "null"}]}
        definitions[name] = inner | {"description": first_line(spec.doc)}
        settings[word] = {"$ref": f"#/definitions/{name}"}
    return {"anyOf": [{"enum": bare}, _SUBSTITUTION, _one_key(settings)]}


def _component_schema(kind: Kind, registry: Registry, definitions: Schema) -> Schema:
    properties: Schema = {"id": _ID, "on_error": {"$ref": "#/definitions/on_error"}}
    if kind == "source":
        properties["table"] = _table_schema(definitions)
    else:
        properties["from"] = _FROM
    bare = []
    for name in registry.names(kind):
        spec = registry.get(kind, name)
        if spec is None:
            continue
        definitions[f"{kind}.{name}"] = settings_schema(spec, definitions) | {"title": name}
        properties[name] = {"$ref": f"#/definitions/{kind}.{name}", "description": first_line(spec.doc)}
        if not any(info.is_required() for info in spec.config.model_fields.values()):
            bare.append(name)
    if kind == "stage":
        properties[CHAIN] = {"$ref": "#/definitions/use_of_chain"}
    else:
        properties[URI] = _URI
    names = [{"required": [name]} for name in properties if name not in ("id", "on_error", "from", "table")]
    if kind == "sink" and "stage.validate" in definitions:
        properties["validate"] = {
            "$ref": "#/definitions/stage.validate",
            "description": "What is checked of a document that is about to be written.",
        }
    if kind == "source":
        definitions["schema_drift"] = _object(SchemaDrift, definitions, "schema_drift")
        drift = {"$ref": "#/definitions/schema_drift"}
        properties["schema_drift"] = {
            "anyOf": [{"enum": list(get_args(Policy))}, drift, {"type": "null"}],
            "description": "What is done about records that are other than before: a policy, or a mapping.",
        }
    mapping = {"type": "object", "properties": properties, "additionalProperties": False, "oneOf": names}
    return {"anyOf": [mapping, {"enum": bare}]} if bare else mapping


def _table_schema(definitions: Schema) -> Schema:
    description = "Read it whole into a table for lookups, by the record's key or by an expression."
    mapping = _object(TableSettings, definitions, "table")
    return {"anyOf": [mapping, {"type": ["string", "null"]}], "description": description}


def _nested_schema(sink: Schema) -> Schema:
    mapping = sink["anyOf"][0] if "anyOf" in sink else sink
    inner = {
        name: value
        for name, value in mapping["properties"].items()
        if name not in ("id", "from", "on_error", "validate")
    }
    return mapping | {"properties": inner}


def _policy_schemas(definitions: Schema) -> Schema:
    nested = definitions["nested_sink"]
    dead_letter = nested | {"properties": nested["properties"] | _object(DeadLetterSettings, {}, "")["properties"]}
    retry = _object(RetrySettings, {}, "")
    sink = {"anyOf": [{"$ref": "#/definitions/dead_letter"}, {"type": "null"}]}
    then = {"anyOf": [{"enum": ["fail", "skip", "dead_letter"]}, _one_key({"dead_letter": sink})]}
    retry["properties"]["then"] = then | {"description": "What happens after the last attempt.", "default": "fail"}
    actions = {"retry": {"anyOf": [retry, {"type": "null"}]}, "dead_letter": sink}
    # One of them, or both: retry, then the dead letter.
    mapping = _one_key(actions) | {"maxProperties": len(actions)}
    on_error = {
        "anyOf": [{"enum": ["fail", "skip", "retry", "dead_letter"]}, mapping],
        "description": "What becomes of a record that fails: fail, skip, retry or dead_letter; retry and dead_letter "
        "together: first one, then the other. A component's `dead_letter` without a sink goes to the pipeline's.",
    }
    return {"dead_letter": dead_letter, "on_error": on_error}


def _one_key(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }


def _several(component: Schema) -> Schema:
    return {
        "anyOf": [
            {"type": "array", "items": component, "minItems": 1},
            {"type": "object", "additionalProperties": component, "minProperties": 1},
        ]
    }


def _kafka_schema(definitions: Schema) -> Schema:
    model: type[BaseModel] = importlib.import_module("streamd.transport.kafka.settings").KafkaSettings
    definitions["kafka"] = _object(model, definitions, "kafka")
    return {"$ref": "#/definitions/kafka", "description": "How to reach Kafka."}


def _registry_schema(definitions: Schema) -> Schema:
    model: type[BaseModel] = importlib.import_module("streamd.transport.registry.settings").SchemaRegistrySettings
    definitions["schema_registry"] = _object(model, definitions, "schema_registry")
    return {"$ref": "#/definitions/schema_registry", "description": "How to reach the schema registry."}


def _object(model: type[BaseModel], definitions: Schema, prefix: str) -> Schema:
    """The schema of a model; those of models within it go to `definitions`, named after `prefix`."""
    schema = model.model_json_schema(ref_template=f"#/definitions/{prefix}.{{model}}", mode="validation")
    for name, inner in schema.pop("$defs", {}).items():
        definitions[f"{prefix}.{name}"] = _substitutable(inner)
    schema.pop("title", None)
    properties = {name: _substitutable(value) for name, value in schema.get("properties", {}).items()}
    return {**schema, "properties": properties}


def _substitutable(schema: Any) -> Any:
    """The same, where every value that is no free text may also be a `${…}`."""
    if isinstance(schema, list):
        return [_substitutable(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    inner: Schema = {}
    for key, value in schema.items():
        if key in ("properties", "patternProperties", "$defs"):
            inner[key] = {name: _substitutable(child) for name, child in value.items()}
        elif key in ("anyOf", "oneOf", "allOf", "items", "additionalProperties", "prefixItems"):
            inner[key] = _substitutable(value)
        elif key != "title":
            inner[key] = value
    if "default" in inner and not fits(inner, inner["default"]):
        del inner["default"]  # it is written in the model as checking leaves it, not as a user writes it
    closed = inner.get("type") in ("integer", "number", "boolean") or "enum" in inner or "const" in inner
    if closed or (inner.get("type") == "string" and inner.keys() & {"pattern", "maxLength", "format"}):
        notes = {key: inner.pop(key) for key in ("description", "default", "examples") if key in inner}
        return {"anyOf": [inner, _SUBSTITUTION], **notes}
    return inner


def fits(schema: Mapping[str, Any], value: Any) -> bool:
    """Whether a value is of one of the types, and one of the choices, that a simple schema allows."""
    if "anyOf" in schema:
        return any(fits(member, value) for member in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return value in schema.get("enum", (schema.get("const"),))
    wanted = schema.get("type")
    return wanted is None or type(value) in _PYTHON_TYPES.get(str(wanted), ())


def _key(model: type[BaseModel], field: str) -> str:
    return model.model_fields[field].alias or field if field in model.model_fields else field


def first_line(text: str) -> str:
    """The first line of a docstring."""
    return text.strip().split("\n", 1)[0]

"""The JSON Schema of test files, for editors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from streamd.testing.case_file import AdvanceSettings, CaseSettings, FileSettings, RecordsSettings
from streamd.testing.read_expect import DEAD_LETTER

Schema = dict[str, Any]

_RECORD: Schema = {
    "description": "A document; {value, key, timestamp, headers, partition}; or text that is taken as it is.",
}
_RECORDS: Schema = {"type": "array", "items": _RECORD}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_YES: Schema = {"enum": [None, True]}
_NUMBERS: Schema = {"anyOf": [_COUNT, {"type": "object", "additionalProperties": _COUNT}]}


def case_file_schema() -> Schema:
    """The schema of `*.test.yaml`."""
    settings = _properties(FileSettings)
    case = {"$ref": "#/definitions/case"}
    cases = {"type": "object", "additionalProperties": case, "minProperties": 1, "description": "The cases, by name."}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "streamd tests of a pipeline",
        "type": "object",
        "properties": settings | {"cases": cases},
        "required": ["cases"],
        "additionalProperties": False,
        "definitions": {"case": _case(), "steps": _steps(), "step": _step(), "expect": _expect(), "output": _output()},
    }


def _case() -> Schema:
    own = _properties(CaseSettings)
    words = _words()
    steps = {"$ref": "#/definitions/steps"}
    with_steps = _closed(own | {"steps": steps}) | {"required": ["steps"]}
    return {"anyOf": [steps, with_steps, _closed(own | words) | {"minProperties": 1}]}


def _steps() -> Schema:
    return {"type": "array", "items": {"$ref": "#/definitions/step"}, "minItems": 1}


def _step() -> Schema:
    bare = {"enum": ["crash", "restart", "idle", "end", "expect"]}
    return {"anyOf": [bare, _closed(_words()) | {"minProperties": 1}]}


def _words() -> Schema:
    """{word of a step: its schema}."""
    file = {"type": "string", "description": "A file of JSON lines, from the test's folder on."}
    records = {"anyOf": [_RECORDS, file]}
    move = {"type": "string", "description": "A duration, or a time."}
    names = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, _YES]}
    by_source = {"type": "object", "additionalProperties": records, "minProperties": 1}
    return {
        "input": {
            "anyOf": [*records["anyOf"], by_source],
            "description": "Records come: of the only source, or of several by their ids.",
        },
        "advance": {
            "anyOf": [move, _closed(_properties(AdvanceSettings))],
            "description": "Event time goes on without a record, or the wall clock does.",
        },
        "idle": {
            "anyOf": [{"type": ["string", "number"]}, _YES],
            "description": "Nothing comes for so long; without it for as long as the sources' `idle` says.",
        },
        "crash": {
            "enum": [None, True, "before_commit"],
            "description": "The tasks are killed and start anew from their last checkpoint.",
        },
        "restart": _YES | {"description": "The tasks end in order and start anew."},
        "end": names | {"description": "The input is over, of all sources or of these."},
        "expect": {"$ref": "#/definitions/expect"},
    }


def _expect() -> Schema:
    output = {"$ref": "#/definitions/output"}
    letter = _closed({name: {} for name in DEAD_LETTER})
    special = {
        "dead_letters": _output_of({"type": "array", "items": letter})
        | {"description": "Records that failed: where, why, and what they were."},
        "skipped": _NUMBERS | {"description": "How many records `on_error: skip` has left out."},
        "late": _NUMBERS | {"description": "How many records came too late for their windows."},
        "views": {"type": "object", "additionalProperties": {"type": "object"}, "description": "What views hold."},
        "error": {"type": "string", "description": "A part of the message with which the pipeline stops."},
    }
    mapping = {"type": "object", "properties": special, "additionalProperties": output}
    return {
        "anyOf": [{"type": "null"}, output, mapping],
        "description": "What has come out since the last look: of the only sink, or of several by their ids.",
    }


def _output() -> Schema:
    return _output_of(_RECORDS)


def _output_of(records: Schema) -> Schema:
    settings = _properties(RecordsSettings)
    lists = {name: {"anyOf": [records, {"type": "null"}]} | _note(settings[name]) for name in ("records", "contains")}
    return {"anyOf": [{"type": "null"}, records, _COUNT, _closed(settings | lists) | {"minProperties": 1}]}


def _note(schema: Schema) -> Schema:
    return {"description": schema["description"]} if "description" in schema else {}


def _closed(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _properties(model: type[BaseModel]) -> Schema:
    """{setting: schema} of a model without its titles and defaults, which are not as a user writes them."""
    properties: Schema = model.model_json_schema()["properties"]
    return {
        name: {key: value for key, value in schema.items() if key not in ("title", "default")}
        for name, schema in properties.items()
    }

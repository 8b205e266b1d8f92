"""The JSON Schemas for editors: made from the models, so they agree with what loads."""

from __future__ import annotations

import json
from typing import Any

from demo.components import demo_registry
from streamd.config.json_schema import pipeline_schema, service_schema


def schema() -> Any:
    return json.loads(json.dumps(pipeline_schema(demo_registry())))


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set()
        return own.union(*map(references, value.values())) if value else own
    if isinstance(value, list):
        return set().union(*map(references, value))
    return set()


def test_every_reference_leads_somewhere() -> None:
    """No `$ref` is left dangling, in either schema."""
    for whole in (schema(), json.loads(json.dumps(service_schema()))):
        names = {f"#/definitions/{name}" for name in whole["definitions"]}
        assert references(whole) <= names


def test_every_component_is_there_with_its_docs() -> None:
    """Names, settings, descriptions, required fields."""
    whole = schema()
    source = whole["definitions"]["source.topic"]

    assert set(whole["definitions"]["stage"]["properties"]) == {
        "id",
        "from",
        "on_error",
        "filter",
        "set",
        "drop",
        "route",
        "window",
        "chain",
    }
    assert source["properties"]["topic"]["description"] == "Topic to read."
    assert source["required"] == ["topic"]
    assert source["additionalProperties"] is False


def test_shorthands_and_bare_names() -> None:
    """A shorthand stands beside the mapping, or instead of it; components without required settings may be bare."""
    definitions = schema()["definitions"]

    assert set(definitions["stage.filter"]["anyOf"][0]) == {"description", "type"}
    assert definitions["stage.set"]["type"] == "object"
    assert definitions["sink"]["anyOf"][1] == {"enum": ["discard"]}


def test_a_nested_component_is_a_sink() -> None:
    """Without id and inputs."""
    definitions = schema()["definitions"]

    assert definitions["stage.window"]["properties"]["late"]["$ref"] == "#/definitions/nested_sink"
    assert set(definitions["nested_sink"]["properties"]) == {"file", "discard", "uri"}


def test_numbers_may_be_substituted() -> None:
    """`limit: ${LIMIT}` must not be underlined in an editor."""
    limit = schema()["definitions"]["source.topic"]["properties"]["limit"]

    assert {"type": "string", "pattern": r"\$\{|^\$[A-Za-z_]\w*$"} in limit["anyOf"]
    assert limit["default"] == 100


def test_retry_and_dead_letter_may_stand_together() -> None:
    """One of the two, or both."""
    mapping = schema()["definitions"]["on_error"]["anyOf"][1]

    assert set(mapping["properties"]) == {"retry", "dead_letter"}
    assert (mapping["minProperties"], mapping["maxProperties"]) == (1, 2)


def test_top_level_keys() -> None:
    """Those of the settings and those of the structure."""
    assert set(schema()["properties"]) == {
        "name",
        "description",
        "source",
        "sources",
        "stages",
        "chains",
        "filters",
        "imports",
        "sink",
        "sinks",
        "on_error",
        "error_threshold",
        "delivery",
        "commit_interval",
        "batch",
        "state",
        "kafka",
        "schema_registry",
    }

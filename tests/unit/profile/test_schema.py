"""Schemas that are proposed."""

from __future__ import annotations

import fastavro
import pytest

from streamd.codecs import CodecContext, codec
from streamd.codecs.avro.settings import AvroSettings
from streamd.errors import ConfigError
from streamd.profile import Bounds, Values
from streamd.profile.schema import avro_schema, json_schema

ORDERS = [
    {"id": "a", "amount": 1, "lines": [{"sku": "x", "n": 1}], "note": None},
    {"id": "b", "amount": 2.5, "lines": [], "note": "hi", "paid": True},
]


def profile(documents, bounds=None):
    values, bounds = Values(), bounds or Bounds()
    for document in documents:
        values.add(document, bounds)
    return values


def test_json_schema():
    assert json_schema(profile(ORDERS)) == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "amount": {"type": "number"},
            "lines": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"sku": {"type": "string"}, "n": {"type": "integer"}},
                    "required": ["sku", "n"],
                },
            },
            "note": {"type": ["null", "string"]},
            "paid": {"type": "boolean"},
        },
        "required": ["id", "amount", "lines", "note"],
    }


def test_a_map_has_one_schema_for_all_that_it_holds():
    found = json_schema(profile([{"m": {f"k{n}": n, f"l{n}": "x"}} for n in range(300)]))
    assert found["properties"]["m"] == {"type": "object", "additionalProperties": {"type": ["integer", "string"]}}


def test_nothing_is_asked_of_what_was_not_looked_at():
    assert json_schema(profile([{"a": 1, "b": 2}], Bounds(fields=1)))["type"] == "object"
    assert "properties" not in json_schema(profile([{"a": 1, "b": 2}], Bounds(fields=1)))


def test_avro_schema_writes_the_sample():
    schema = fastavro.parse_schema(avro_schema(profile(ORDERS), "orders-eu"))
    assert schema["name"] == "orders_eu"
    for document in ORDERS:
        assert fastavro.validate(document, schema)


@pytest.mark.parametrize("items", [[], [None]])
def test_lists_without_any_value_have_items_that_a_sink_takes(items):
    schema = avro_schema(profile([{"a": items}]), "x")
    assert schema["fields"] == [{"name": "a", "type": {"type": "array", "items": ["null", "string"]}}]
    form = codec("avro", AvroSettings(schema=schema), CodecContext())
    assert form.decode(form.encode({"a": items})) == {"a": items}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"a": {"order-id": 1}}, "a.'order-id': no name in Avro"),
        ({"a": 2**70}, "a: whole numbers beyond 64 bits"),
    ],
)
def test_what_avro_has_no_words_for(document, said):
    with pytest.raises(ConfigError, match=said):
        avro_schema(profile([document]), "x")

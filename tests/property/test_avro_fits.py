"""Documents fit an Avro schema here exactly when Avro's own library takes them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import orjson
from fastavro.validation import validate
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd.quality.rules import Schema
from streamd.quality.schemas import DocumentSchema

PRIMITIVES = st.sampled_from(["null", "boolean", "int", "long", "float", "double", "string"])
NUMBERS = [2**31 - 1, 2**31, -(2**31) - 1, 2**63 - 1, -(2**63), 2**63]
LEAVES = st.one_of(
    st.none(), st.booleans(), st.sampled_from([0, 1, *NUMBERS, 1.0, 0.5, -1e300]), st.sampled_from(["", "A", "x"])
)
DOCUMENTS = st.dictionaries(
    st.sampled_from(["a", "b", "c", "z"]),
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abz"), inner, max_size=2),
        max_leaves=5,
    ),
    max_size=4,
)


@st.composite
def types(draw: Any, depth: int = 2) -> Any:
    kind = draw(
        st.sampled_from(["primitive", "logical", "union", "array", "map", "record", "enum"] if depth else ["primitive"])
    )
    name = "named later"
    if kind == "logical":
        return {"type": "long", "logicalType": "unknown-to-avro"}
    if kind == "union":
        return draw(st.lists(PRIMITIVES, min_size=1, max_size=3, unique=True))
    if kind == "array":
        return {"type": "array", "items": draw(types(depth - 1))}
    if kind == "map":
        return {"type": "map", "values": draw(types(depth - 1))}
    if kind == "enum":
        return {"type": "enum", "name": name, "symbols": ["A", "B"]}
    if kind == "record":
        return draw(records(depth - 1))
    return draw(PRIMITIVES)


@st.composite
def records(draw: Any, depth: int = 2) -> Any:
    fields = []
    for name in draw(st.lists(st.sampled_from("abc"), unique=True, max_size=3)):
        field = {"name": name, "type": draw(types(depth))}
        if field["type"] == "long" and draw(st.booleans()):
            field["default"] = 7
        fields.append(field)
    return {"type": "record", "name": "named later", "namespace": "some.space", "fields": fields}


def _number(schema: Any, numbers: Iterator[int]) -> None:
    """Give each named type a name of its own."""
    if isinstance(schema, dict):
        if schema.get("name") == "named later":
            schema["name"] = f"type{next(numbers)}"
        for inner in schema.values():
            _number(inner, numbers)
    elif isinstance(schema, list):
        for inner in schema:
            _number(inner, numbers)


@settings(max_examples=400)
@given(records(), DOCUMENTS)
def test_as_fastavro_says(schema: Any, document: Any) -> None:
    _number(schema, itertools.count())
    found = DocumentSchema(Schema.model_validate({"avro": schema}), Path())
    expected = validate(document, fastavro.parse_schema(schema), raise_errors=False)
    assert found.fits(document) == expected, orjson.dumps([schema, document])


def test_a_record_in_itself() -> None:
    schema = {
        "type": "record",
        "name": "Tree",
        "fields": [{"name": "value", "type": "int"}, {"name": "left", "type": ["null", "Tree"], "default": None}],
    }
    found = DocumentSchema(Schema.model_validate({"avro": schema}), Path())
    assert found.fits({"value": 1, "left": {"value": 2}})
    assert found.wrong({"value": 1, "left": {"value": "x"}}) == "/left: anyOf"

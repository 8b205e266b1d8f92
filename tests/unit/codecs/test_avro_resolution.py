"""Every rule of the Avro specification's section "Schema Resolution", one case each or more.

The bytes are written by fastavro, so that what is read is not what our own writer makes of it.
"""

from __future__ import annotations

import io
import json
import re
from decimal import Decimal
from typing import Any

import fastavro
import pytest

from streamd.codecs.avro.reading import MismatchError, reader
from streamd.codecs.avro.schema import Schema
from streamd.codecs.avro.values import Forms
from streamd.errors import ExtractError


def record(name: str, *fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields), **more}


def field(name: str, of: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": of, **more}


def resolved(written: Any, wanted: Any, value: Any, forms: Forms | None = None) -> Any:
    """A value that was written by one type, read as the other."""
    out = io.BytesIO()
    one = record("R", field("v", written))
    fastavro.schemaless_writer(out, fastavro.parse_schema(one), {"v": value})
    other = Schema(json.dumps(record("R", field("v", wanted))))
    read = reader(Schema(json.dumps(one)), other, forms or Forms())
    return read(out.getvalue(), 0)["v"]


def enum(*symbols: str, name: str = "E", **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": name, "symbols": list(symbols), **more}


def fixed(size: int, name: str = "F", **more: Any) -> dict[str, Any]:
    return {"type": "fixed", "name": name, "size": size, **more}


def array(of: Any) -> dict[str, Any]:
    return {"type": "array", "items": of}


def mapping(of: Any) -> dict[str, Any]:
    return {"type": "map", "values": of}


def decimal(scale: int, precision: int = 9) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


PRIMITIVES = {
    "null": None,
    "boolean": True,
    "int": 7,
    "long": 2**40,
    "float": 0.5,
    "double": 0.1,
    "string": "é",
    "bytes": b"\xff",
}
# {written: what it may be read as besides}, the specification's list of promotions
PROMOTIONS = {
    "int": {"long": 7, "float": 7.0, "double": 7.0},
    "long": {"float": float(2**40), "double": float(2**40)},
    "float": {"double": 0.5},
    "string": {"bytes": "w6k="},
    "bytes": {"string": "é"},
}
AS_READ = {**PRIMITIVES, "bytes": "/w=="}


@pytest.mark.parametrize("written", PRIMITIVES)
@pytest.mark.parametrize("wanted", PRIMITIVES)
def test_primitives(written, wanted):
    value = "é".encode() if (written, wanted) == ("bytes", "string") else PRIMITIVES[written]
    if written == wanted:
        assert resolved(written, wanted, value) == AS_READ[written]
    elif wanted in PROMOTIONS.get(written, {}):
        got = resolved(written, wanted, value)
        assert got == PROMOTIONS[written][wanted]
        assert type(got) is type(PROMOTIONS[written][wanted])
    else:
        with pytest.raises(
            MismatchError, match=f"`v`: an? {written} was written, which cannot be read as an? {wanted}"
        ):
            resolved(written, wanted, value)


POINT = record("a.Point", field("x", "int"), field("y", "int"))
TREE = record("Tree", field("value", "int"), field("below", ["null", "Tree"]))
DEEP = {"value": 1, "below": {"value": 2, "below": None}}

CASES: dict[str, tuple[Any, Any, Any, Any]] = {
    # arrays and maps: items and values are resolved recursively
    "array of the same": (array("int"), array("int"), [1, 2], [1, 2]),
    "array of promoted items": (array("int"), array("double"), [1, 2], [1.0, 2.0]),
    "empty array": (array("int"), array("double"), [], []),
    "array of arrays": (array(array("int")), array(array("long")), [[1], []], [[1], []]),
    "map of promoted values": (mapping("int"), mapping("float"), {"a": 1}, {"a": 1.0}),
    "map of bytes read as text": (mapping("bytes"), mapping("string"), {"a": b"b"}, {"a": "b"}),
    # enums: unqualified names match; a symbol that the reader lacks is its default
    "enum of the same": (enum("A", "B"), enum("A", "B"), "B", "B"),
    "enum with symbols in another order": (enum("A", "B"), enum("B", "A"), "B", "B"),
    "enum with more symbols": (enum("A"), enum("B", "A", "C"), "A", "A"),
    "enum with a symbol less, not written": (enum("A", "B"), enum("A"), "A", "A"),
    "enum with a symbol less, and a default": (enum("A", "B"), enum("A", default="A"), "B", "A"),
    "enum in another namespace": (enum("A", name="x.E"), enum("A", name="y.E"), "A", "A"),
    "enum under an alias": (enum("A", name="x.Old"), enum("A", name="y.New", aliases=["x.Old"]), "A", "A"),
    # fixed: names and sizes match
    "fixed of the same": (fixed(2), fixed(2), b"\x01\x02", "AQI="),
    "fixed in another namespace": (fixed(2, name="x.F"), fixed(2, name="y.F"), b"ab", "YWI="),
    "fixed under an alias": (fixed(2, name="Old"), fixed(2, name="New", aliases=["Old"]), b"ab", "YWI="),
    # records: fields by name, the writer's other fields are ignored, the reader's other ones have their default
    "record of the same": (POINT, POINT, {"x": 1, "y": 2}, {"x": 1, "y": 2}),
    "record in another namespace": (POINT, {**POINT, "name": "b.Point"}, {"x": 1, "y": 2}, {"x": 1, "y": 2}),
    "record under an alias": (
        POINT,
        {**POINT, "name": "b.P", "aliases": ["a.Point"]},
        {"x": 1, "y": 2},
        {"x": 1, "y": 2},
    ),
    "record under an alias in its own namespace": (
        POINT,
        {**POINT, "name": "a.P", "aliases": ["Point"]},
        {"x": 1, "y": 2},
        {"x": 1, "y": 2},
    ),
    "fields in another order": (
        POINT,
        record("a.Point", field("y", "int"), field("x", "int")),
        {"x": 1, "y": 2},
        {"y": 2, "x": 1},
    ),
    "fields that are promoted": (
        POINT,
        record("a.Point", field("x", "long"), field("y", "double")),
        {"x": 1, "y": 2},
        {"x": 1, "y": 2.0},
    ),
    "a field that is ignored": (POINT, record("a.Point", field("y", "int")), {"x": 1, "y": 2}, {"y": 2}),
    "a field by an alias": (
        POINT,
        record("a.Point", field("x", "int"), field("z", "int", aliases=["y"])),
        {"x": 1, "y": 2},
        {"x": 1, "z": 2},
    ),
    "a record that is ignored": (
        record("O", field("a", TREE), field("b", "int")),
        record("O", field("b", "int")),
        {"a": DEEP, "b": 3},
        {"b": 3},
    ),
    "a type that is ignored in one field and read in another": (
        record("O", field("a", POINT), field("b", "a.Point")),
        record("O", field("b", record("a.Point", field("y", "double")))),
        {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 4}},
        {"b": {"y": 4.0}},
    ),
    "a type that is two types for the reader": (
        record("O", field("a", POINT), field("b", "a.Point")),
        record("O", field("a", record("m.Point", field("x", "int"))), field("b", record("n.Point", field("y", "int")))),
        {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 4}},
        {"a": {"x": 1}, "b": {"y": 4}},
    ),
    "a recursive record": (TREE, TREE, DEEP, DEEP),
    "a recursive record that grew": (
        TREE,
        record("Tree", field("value", "long"), field("below", ["null", "Tree"]), field("n", "int", default=5)),
        DEEP,
        {"value": 1, "below": {"value": 2, "below": None, "n": 5}, "n": 5},
    ),
    "a recursive record under another name": (
        TREE,
        record("T", field("value", "int"), field("below", ["null", "T"]), aliases=["Tree"]),
        DEEP,
        DEEP,
    ),
    # unions: the writer's branch alone counts, and the first of the reader's that it can be read as
    "both unions": (["null", "int"], ["int", "null"], 5, 5),
    "both unions, null": (["null", "int"], ["int", "null"], None, None),
    "a branch that is promoted": (["null", "int"], ["null", "double"], 5, 5.0),
    "the first branch that fits": (["int", "string"], ["double", "int", "string"], 5, 5.0),
    "bytes and text in a union": (["bytes", "int"], ["int", "string"], b"a", "a"),
    "union read as no union": (["null", "int"], "int", 5, 5),
    "union read as no union, promoted": (["null", "int"], "double", 5, 5.0),
    "no union read as a union": ("int", ["null", "int"], 5, 5),
    "no union read as a union, promoted": ("int", ["null", "string", "double"], 5, 5.0),
    "union of records, by name": (
        ["null", POINT, record("Other", field("z", "int"))],
        ["null", record("Other", field("z", "long")), record("Point", field("y", "int"))],
        {"z": 7},
        {"z": 7},
    ),
    "records of unions in unions": (
        record("O", field("u", ["null", POINT])),
        record("O", field("u", ["null", record("Point", field("x", ["null", "long"]))])),
        {"u": {"x": 1, "y": 2}},
        {"u": {"x": 1}},
    ),
    "union within an array": (array(["null", "int"]), array(["null", "long"]), [1, None], [1, None]),
    "enum in a union, with a default": (["null", enum("A", "B")], ["null", enum("A", default="A")], "B", "A"),
    # logical types: of the reader
    "decimal of the same scale": (decimal(2), decimal(2, 12), Decimal("1.50"), "1.50"),
    "timestamps of another unit": (
        {"type": "long", "logicalType": "timestamp-micros"},
        {"type": "long", "logicalType": "timestamp-millis"},
        1_500_000,
        1500,
    ),
    "a number read as a time": ("long", {"type": "long", "logicalType": "timestamp-millis"}, 5, 5),
    "an int promoted to a time": ("int", {"type": "long", "logicalType": "timestamp-micros"}, 5000, 5),
    "a date read as a number": ({"type": "int", "logicalType": "date"}, "int", 1, 1),
    "a date read as a date": (
        {"type": "int", "logicalType": "date"},
        {"type": "int", "logicalType": "date"},
        1,
        "1970-01-02",
    ),
    "text read as a uuid": ("string", {"type": "string", "logicalType": "uuid"}, "x", "x"),
    "text read as a decimal": ("string", decimal(0), "A", "65"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_value_is_read_as_the_reader_wants_it(case):
    written, wanted, value, expected = CASES[case]
    got = resolved(written, wanted, value)
    assert got == expected
    assert json.dumps(got) == json.dumps(expected)


DEFAULTS: dict[str, tuple[Any, Any, Any]] = {
    "null": ("null", None, None),
    "boolean": ("boolean", True, True),
    "int": ("int", 3, 3),
    "double written as a whole number": ("double", 3, 3.0),
    "string": ("string", "a", "a"),
    "bytes, whose JSON is ISO-8859-1": ("bytes", "\u00ff", "/w=="),
    "fixed": (fixed(1), "\u0001", "AQ=="),
    "enum": (enum("A", "B"), "B", "B"),
    "array": (array("bytes"), ["a"], ["YQ=="]),
    "map": (mapping("int"), {"a": 1}, {"a": 1}),
    "record": (POINT, {"x": 1, "y": 2}, {"x": 1, "y": 2}),
    "record, with the defaults of its own fields": (
        record("D", field("a", "int", default=1), field("b", "bytes")), {"b": "a"}, {"a": 1, "b": "YQ=="},
    ),
    "union, of its first type": (["null", "int"], None, None),
    "union, of another type": (["null", "int"], 4, 4),
    "logical type": ({"type": "int", "logicalType": "date"}, 1, "1970-01-02"),
    "decimal": (decimal(1), "\u000f", "1.5"),
}  # fmt: skip


@pytest.mark.parametrize("case", DEFAULTS)
def test_a_field_that_was_not_written_has_its_default(case):
    of, value, expected = DEFAULTS[case]
    wanted = record("P", field("x", "int"), field("new", of, default=value))
    got = resolved(record("P", field("x", "int")), wanted, {"x": 1})
    assert got == {"x": 1, "new": expected}


def test_a_default_is_each_records_own():
    wanted = Schema(json.dumps(record("R", field("new", array("int"), default=[1]))))
    read = reader(Schema(json.dumps(record("R"))), wanted, Forms())
    read(b"", 0)["new"].append(2)
    assert read(b"", 0) == {"new": [1]}


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "array and map": (array("int"), mapping("int"), "an array was written, which cannot be read as a map"),
    "items": (array("string"), array("int"), r"`v\.\[\]`: a string was written"),
    "values": (mapping("string"), mapping("int"), r"`v\.\{\}`: a string was written"),
    "enum of another name": (enum("A"), enum("A", name="Z"), "enum `E` was written, which is not `Z`; an alias"),
    "enum and text": (enum("A"), "string", "an enum `E` was written, which cannot be read as a string"),
    "text and enum": ("string", enum("A"), "a string was written"),
    "fixed of another size": (fixed(2), fixed(3), "2 bytes were written, which cannot be read as 3"),
    "fixed of another name": (fixed(2), fixed(2, name="G"), "fixed `F` was written, which is not `G`"),
    "fixed and bytes": (fixed(2), "bytes", "a fixed `F` was written"),
    "record of another name": (POINT, {**POINT, "name": "a.P"}, "record `a.Point` was written, which is not `a.P`"),
    "record and map": (POINT, mapping("int"), "a record `a.Point` was written"),
    "a new field without default": (
        POINT, record("Point", field("z", "int")), r"`v\.z`: was not written, and has no default",
    ),
    "a field of another type": (POINT, record("Point", field("x", "string")), r"`v\.x`: an int was written"),
    "a default that is none": (
        POINT, record("Point", field("x", "int"), field("e", enum("A"), default="Z")), "its default is not an enum `E`",
    ),
    "no branch at all": (["null", "int"], "string", "a null was written"),
    "none of the branches": ("string", ["null", "int"], "a string was written, which is none of the union's types"),
    "decimals of other scales": (decimal(2), decimal(3), "a decimal with 2 digits behind the point was written"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_schemas_that_do_not_match_are_refused_with_the_place(case):
    written, wanted, message = REFUSED[case]
    one, other = (Schema(json.dumps(record("R", field("v", of)))) for of in (written, wanted))
    with pytest.raises(MismatchError) as caught:
        reader(one, other, Forms())

    assert re.search(message, str(caught.value))


@pytest.mark.parametrize(
    ("written", "wanted", "good", "bad"),
    [
        (["null", "int"], "int", 5, None),
        (["int", "string"], "int", 5, "card 4711"),
        (["int", "string"], ["null", "long"], 5, "card 4711"),
        (enum("A", "B"), enum("A"), "A", "B"),
        (["null", POINT, TREE], ["null", POINT], {"x": 1, "y": 2}, DEEP),
    ],
)
def test_only_the_record_that_has_what_the_reader_lacks_is_an_error(written, wanted, good, bad):
    assert resolved(written, wanted, good) == good
    with pytest.raises(ExtractError, match="not readable with the schema that is asked for") as caught:
        resolved(written, wanted, bad)
    assert "4711" not in str(caught.value)


def test_a_default_of_an_enum_is_not_the_default_of_its_field():
    wanted = record("P", field("e", enum("A", default="A"), default="A"))
    assert resolved(record("P", field("e", enum("A", "B"))), wanted, {"e": "B"}) == {"e": "A"}
    assert resolved(record("P"), wanted, {}) == {"e": "A"}


@pytest.mark.parametrize(
    ("written", "wanted", "value", "expected"),
    [
        (["null", "int"], ["null", "double"], 5, {"double": 5.0}),
        ("int", ["null", "int"], 5, {"int": 5}),
        (["null", "int"], ["null", "int"], None, None),
        (["null", POINT], ["null", POINT], {"x": 1, "y": 2}, {"a.Point": {"x": 1, "y": 2}}),
        (TREE, TREE, DEEP, {"value": 1, "below": {"Tree": {"value": 2, "below": None}}}),
        (["null", "int"], "int", 5, 5),
    ],
)
def test_tagged_unions_name_the_readers_type(written, wanted, value, expected):
    assert resolved(written, wanted, value, Forms(unions="tagged")) == expected

"""Schemas of documents: every draft, files and what they refer to, formats, and what is said of what does not fit."""

from __future__ import annotations

import sys

import orjson
import pytest

from streamd.errors import ConfigError, NotFoundError
from streamd.quality.rules import Schema
from streamd.quality.schemas import DocumentSchema

ORDER = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["order_id"],
    "properties": {
        "order_id": {"type": "string"},
        "email": {"type": "string", "format": "email"},
        "items": {"type": "array", "items": {"type": "object", "required": ["sku"]}},
    },
    "additionalProperties": {"type": "integer"},
}


@pytest.fixture
def schema(tmp_path):
    def load(settings):
        return DocumentSchema(Schema.model_validate(settings), tmp_path)

    return load


def test_a_schema_written_in_place(schema):
    found = schema({"json_schema": ORDER})
    assert found.fits({"order_id": "a", "items": [{"sku": 1}], "other": 1})
    assert not found.fits({"order_id": 1})


@pytest.mark.parametrize(
    "dialect",
    [
        "http://json-schema.org/draft-04/schema#",
        "http://json-schema.org/draft-06/schema#",
        "http://json-schema.org/draft-07/schema#",
        "https://json-schema.org/draft/2019-09/schema",
        "https://json-schema.org/draft/2020-12/schema",
    ],
)
def test_drafts(schema, dialect):
    found = schema({"json_schema": {"$schema": dialect, "properties": {"a": {"type": "integer"}}}})
    assert found.fits({"a": 1})
    assert not found.fits({"a": "1"})
    # Only in draft 4 is a whole number one that is written so.
    assert found.fits({"a": 1.0}) == ("draft-04" not in dialect)


def test_what_does_not_fit_is_told_without_contents(schema):
    found = schema({"json_schema": ORDER})
    wrong = found.wrong({"order_id": 5, "email": "secret", "items": [{}], "bob@home": "secret"})
    assert wrong == "/*: type, /email: format, /items/0: required, …"
    assert found.wrong({"order_id": "a", "bob@home": "secret"}) == "/*: type"
    assert found.wrong({}) == "/: required"


def test_formats_are_checked_unless_they_are_not(schema):
    document = {"order_id": "a", "email": "no address"}
    assert not schema({"json_schema": ORDER}).fits(document)
    assert schema({"json_schema": ORDER, "formats": False}).fits(document)


def test_a_schema_refers_to_files_beside_it(schema, tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "order.json").write_bytes(
        orjson.dumps({"properties": {"user": {"$ref": "parts/user%20one.json#/$defs/u"}}})
    )
    (tmp_path / "parts" / "user one.json").write_bytes(
        orjson.dumps({"$defs": {"u": {"required": ["id"], "properties": {"id": {"$ref": "../id.json"}}}}})
    )
    (tmp_path / "id.json").write_text('{"type": "integer"}')
    found = schema({"json_schema": "order.json"})
    assert found.fits({"user": {"id": 1}})
    assert found.wrong({"user": {"id": "x"}}) == "/user/id: type"
    inline = schema({"json_schema": {"properties": {"id": {"$ref": "id.json"}}}})
    assert not inline.fits({"id": "x"})


WRONG = [
    ('{"type": "objct"}', r"bad\.json is no JSON Schema, at /type: "),
    ('{"properties": {"a": {"minimum": "x"}}}', r", at /properties/a/minimum: "),
    ('{\n "type": }', r"bad\.json:2:10: not JSON: "),
    ('{"$ref": "#/nowhere"}', r"Pointer '/nowhere' does not exist"),
    ('{"$ref": "https://example.com/a.json"}', r"is no local file"),
    ('{"$ref": "missing.json"}', r"missing\.json does not exist"),
    ('{"$schema": "https://example.com/draft"}', r"Unknown meta-schema"),
    ("5", r"is no JSON Schema"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_schema_that_is_none(schema, tmp_path, text, message):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        schema({"json_schema": "bad.json"})


def test_no_such_file(schema):
    with pytest.raises(NotFoundError, match=r"none\.json does not exist"):
        schema({"json_schema": "none.json"})


def test_the_library_is_named_where_it_is_missing(schema, monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
    with pytest.raises(ConfigError, match=r"needs the Python package `jsonschema-rs`.*streamd\[quality\]"):
        schema({"json_schema": {}})


@pytest.mark.parametrize(
    ("avro", "message"),
    [
        ({"type": "record", "name": "R", "fields": [{"name": "a", "type": "strng"}]}, "is no Avro schema: "),
        ({"type": "array", "items": "int"}, "is no Avro schema of a record"),
    ],
)
def test_an_avro_schema_that_is_none(schema, avro, message):
    with pytest.raises(ConfigError, match=message):
        schema({"avro": avro})


def test_nesting_as_deep_as_json_may_be(schema):
    found = schema({"json_schema": {"type": "object", "additionalProperties": {"$ref": "#"}}})
    assert found.fits(orjson.loads(b'{"a":' * 1000 + b"{}" + b"}" * 1000))

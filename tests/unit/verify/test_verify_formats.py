"""Records made up for binary formats, lines of users as such records, and what cannot be made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamd.codecs import CodecContext
from streamd.codecs.format import format_of
from streamd.codecs.schema_registry import Reference
from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.pipeline import PipelineConfig
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError, ExtractError, FatalError
from streamd.testing.schema_registry import MemorySchemaRegistry
from streamd.transport.registry.client import SchemaRegistryClient
from streamd.verify.encodings import encoded_line, encoding_of
from streamd.verify.prepare import check
from streamd.verify.records import Shaped
from streamd.verify.schema_registry import uses_registry
from streamd.verify.shapes import shape_of
from streamd.verify.yaml_text import section

SCHEMA = """{type: record, name: R, fields: [
  {name: amount, type: int}, {name: big, type: [long, string]}, {name: note, type: ["null", string], default: null},
  {name: kind, type: {type: enum, name: Kind, symbols: [sale, refund, gift]}},
  {name: at, type: {type: long, logicalType: timestamp-micros}}, {name: day, type: {type: int, logicalType: date}},
  {name: time, type: {type: int, logicalType: time-millis}}, {name: id, type: {type: string, logicalType: uuid}},
  {name: price, type: {type: bytes, logicalType: decimal, precision: 5, scale: 2}},
  {name: hash, type: {type: fixed, name: Hash, size: 4}}, {name: data, type: bytes}, {name: ratio, type: float},
  {name: lines, type: {type: array, items: {type: record, name: Line, fields: [{name: n, type: double},
    {name: parts, type: {type: array, items: Line}}]}}},
  {name: labels, type: {type: map, values: boolean}}, {name: next, type: ["null", R], default: null},
  {name: span, type: {type: fixed, name: Span, size: 12, logicalType: duration}}]}"""
TEXT = """
name: p
schema_registry: {url: "http://127.0.0.1:1"}
source: {log: {topic: in, format: FORMAT}}
stages:
  - filter: amount > 400 and kind in ["sale", "refund"]
sink: {log: {topic: out}}
"""


def loaded(form: str) -> PipelineConfig:
    text = TEXT.replace("FORMAT", form)
    return load_pipeline_text(text, Path("p.yaml"), Registry.default(), {}, ServiceConfig.model_validate({}))


def context(registry: Any = None) -> CodecContext:
    return CodecContext("source", "source", "in", registry=registry)


async def made(form: str, *, wrong: bool = False, registry: Any = None) -> list[bytes]:
    config = loaded(form)
    encoding = await encoding_of(config.sources[0], Path(), registry)
    assert encoding is not None
    shape = shape_of(config, PipelineContext("app", "p", Path(), Path()))
    shaped = Shaped(shape, 1, "seed", form, wrong=wrong, encoding=encoding)
    again = Shaped(shape, 1, "seed", form, wrong=wrong, encoding=encoding)
    values = [shaped.record(number).value or b"" for number in range(400)]
    assert values == [again.record(number).value for number in range(400)], "the same seed makes the same"
    return values


@pytest.mark.parametrize(
    "form",
    [
        f"{{avro: {{schema: {SCHEMA}}}}}",
        f"{{avro: {{schema: {SCHEMA}, unions: tagged, timestamps: iso}}}}",
        "msgpack",
        "{msgpack: {timestamps: iso}}",
    ],
    ids=["avro", "tagged", "msgpack", "msgpack-iso"],
)
async def test_made_up_records_can_be_read_and_are_what_the_pipeline_works_with(form: str) -> None:
    codec = format_of(loaded(form).sources[0].settings).codec(context())
    documents = [codec.decode(value) for value in await made(form)]
    assert any(document["amount"] > 400 for document in documents)
    assert any(document["amount"] <= 400 for document in documents)
    assert {"sale", "refund"} < {document["kind"] for document in documents}


async def test_a_wrong_record_cannot_be_read() -> None:
    form = f"{{avro: {{schema: {SCHEMA}}}}}"
    codec = format_of(loaded(form).sources[0].settings).codec(context())
    refused = 0
    for value in await made(form, wrong=True):
        try:
            codec.decode(value)
        except ExtractError:
            refused += 1
    assert 0 < refused < 40


async def test_records_behind_ids_are_written_by_the_subjects_latest_schema() -> None:
    registry = MemorySchemaRegistry()
    line = '{"type": "record", "name": "Line", "fields": [{"name": "n", "type": "int"}]}'
    await registry.register("Line", line, "AVRO")
    fields = '[{"name": "amount", "type": "int"}, {"name": "line", "type": "Line"}]'
    order = f'{{"type": "record", "name": "R", "fields": {fields}}}'
    found = await registry.register("in-value", order, "AVRO", [Reference("Line", "Line", 1, line)])
    values = await made("{avro: {registry: true}}", registry=registry)
    assert {value[:5] for value in values} == {b"\0" + found.id.to_bytes(4)}


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("{avro: {registry: true}}", "subject in-value of the schema registry has no Avro schema; --sample N takes"),
        ("{json: {registry: true}}", "has the format json with settings, of which no records are made up; --sample N"),
        ("{protobuf: {registry: true}}", "has the format protobuf, of which no records are made up; --sample N"),
        ("json, key_format: json", "the keys of source `source` have the format json, in which none are made up"),
    ],
)
async def test_what_cannot_be_made_up_is_said(form: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        await encoding_of(loaded(form).sources[0], Path(), MemorySchemaRegistry())


async def test_lines_of_the_users_are_documents_of_a_binary_format() -> None:
    form = "{avro: {schema: {type: record, name: R, fields: [{name: amount, type: int}]}}}"
    encoding = await encoding_of(loaded(form).sources[0], Path(), None)
    assert encoding is not None
    assert encoded_line(b'{"amount": 7}', encoding, "line 1") == b"\x0e"
    with pytest.raises(ConfigError, match="line 2 is no JSON"):
        encoded_line(b"amount", encoding, "line 2")
    with pytest.raises(ConfigError, match="line 3: the document does not fit the Avro schema: field `amount`"):
        encoded_line(b'{"amount": "x"}', encoding, "line 3")


def test_a_section_is_found_where_it_is_written() -> None:
    assert section(TEXT, "schema_registry") == (3, 1)
    assert section("name: p\nsource: {log: {schema_registry: 1}}\n", "schema_registry") is None


async def test_a_registry_that_cannot_be_reached_is_said() -> None:
    config = loaded("{avro: {registry: true}}")
    client = SchemaRegistryClient(config.schema_registry)
    try:
        with pytest.raises(FatalError, match=r"cannot be reached .*: by its schema the records of source `source`"):
            await encoding_of(config.sources[0], Path(), client)
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("form", "used"),
    [
        ("json", False),
        ("{avro: {registry: true}}", True),
        ("json, key_format: {avro: {registry: true}}", True),
        ("json, header_formats: {h: {avro: {registry: true}}}", True),
    ],
)
def test_whether_a_registry_is_used(form: str, used: bool) -> None:
    assert uses_registry(loaded(form)) is used


@pytest.mark.parametrize(
    ("source", "sink", "said"),
    [
        (
            "{file: {path: in.avro, format: avro}}",
            "{log: {topic: out}}",
            "the source `source` has files of the format avro",
        ),
        (
            "{log: {topic: in}}",
            "{file: {path: o, format: {avro: {schema: {type: record, name: R, fields: []}}}}}",
            "the sink `sink` has files of the format avro",
        ),
        ("{log: {topic: in}}", "{file: {path: o, format: msgpack}}", "the sink `sink` has files of the format msgpack"),
    ],
)
def test_files_that_are_not_of_lines_are_refused(tmp_path, source, sink, said):
    text = f"name: p\nsource: {source}\nsink: {sink}\n"
    pipeline = load_pipeline_text(text, tmp_path / "p.yaml", Registry.default(), {}, ServiceConfig())
    with pytest.raises(ConfigError, match=said):
        check(pipeline)

"""JSON behind schema ids: the header, which schema checks, what is registered. The registry is in memory."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from pydantic import TypeAdapter

from streamd.codecs import CodecContext, Format, TopicFormat, codec
from streamd.codecs.codec import PlainCodec
from streamd.codecs.json import decode
from streamd.codecs.json.settings import JsonSettings
from streamd.codecs.schema_registry import Reference
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError, ExtractError, LoadError, NotFoundError
from streamd.plan.graph import build_plan
from streamd.runtime.assembly import codecs_of, compile_chains
from streamd.testing.schema_registry import MemorySchemaRegistry

ORDER = {
    "title": "Order",
    "type": "object",
    "properties": {"id": {"type": "integer"}, "secret": {"type": "string"}},
    "required": ["id"],
    "additionalProperties": False,
}
HEAD = b"\x00\x00\x00\x00\x01"


@pytest.fixture
def registry():
    return MemorySchemaRegistry()


@pytest.fixture
def source(registry):
    def make(**settings):
        return codec(
            "json", JsonSettings(registry=True, **settings), CodecContext("in", "source", "t", registry=registry)
        )

    return make


@pytest.fixture
def sink(registry):
    async def make(**settings):
        context = CodecContext("out", "sink", "t", registry=registry)
        made = codec("json", JsonSettings(registry=True, **settings), context)
        await made.prepare()
        return made

    return make


async def learnt(made, call, value):
    """As the engine does: what failed is tried again when something is known that was not."""
    try:
        return call(value)
    except ExtractError:
        if not await made.learn():
            raise
        return call(value)


async def test_a_sink_registers_its_schema_and_a_source_takes_the_header_off(sink, source, registry):
    made, read = await sink(schema=ORDER), source()
    found = await registry.latest("t-value")
    assert (json.loads(found.schema), found.type) == (ORDER, "JSON")
    assert made.encode({"id": 1}) == HEAD + b'{"id":1}'
    assert await learnt(read, read.decode, HEAD + b' {"id": 1, "more": []}') == {"id": 1, "more": []}
    assert made.decode(made.encode({"id": 1})) == {"id": 1}


async def test_a_sink_writes_nothing_that_does_not_fit(sink):
    made = await sink(schema=ORDER)
    with pytest.raises(LoadError, match=r"does not fit the JSON Schema: /id: type$") as caught:
        made.encode({"id": "4711"})
    assert "4711" not in str(caught.value)
    with pytest.raises(LoadError, match="cannot be written as JSON"):
        made.encode({"id": 1, "secret": b"bytes"})
    with pytest.raises(LoadError, match="values that are not JSON's"):
        made.encode({"id": 1, "secret": datetime(2026, 1, 31)})  # noqa: DTZ001
    number = await sink(schema={"properties": {"n": {"type": "number"}}}, subject="n")
    assert number.encode({"n": 1.5}).endswith(b'{"n":1.5}')
    for none in ("nan", "inf", "-inf"):
        with pytest.raises(LoadError, match=r"/n: type$"):
            number.encode({"n": float(none)})


async def test_a_source_checks_by_the_schema_that_each_record_was_written_with(source, registry):
    await registry.register("t-value", json.dumps(ORDER), "JSON")
    await registry.register("t-value", json.dumps({"type": "object"}), "JSON")
    made = source(validate=True)
    with pytest.raises(ExtractError, match=r"does not fit schema 1: /: additionalProperties$") as caught:
        await learnt(made, made.decode, HEAD + b'{"id": 1, "name4711": 1}')
    assert "4711" not in str(caught.value)
    assert await learnt(made, made.decode, b"\x00\x00\x00\x00\x02" + b'{"id": 1, "more": 1}') == {"id": 1, "more": 1}
    assert made.decode(HEAD + b'{"id": 1}') == {"id": 1}


async def test_a_source_with_a_schema_checks_by_that(source, registry):
    await registry.register("t-value", "{}", "JSON")
    made = source(validate=True, schema=ORDER)
    with pytest.raises(ExtractError, match="does not fit the source's schema: /: required"):
        await learnt(made, made.decode, HEAD + b"{}")


async def test_schemas_name_others_of_the_registry_and_nothing_else(source, registry):
    await registry.register("line", json.dumps({"type": "integer"}), "JSON")
    line = Reference("line.json", "line", 1, json.dumps({"type": "integer"}))
    whole = {"$id": "https://example.com/order.json", "properties": {"n": {"$ref": "line.json"}}}
    await registry.register("a", json.dumps({"properties": {"n": {"$ref": "line.json"}}}), "JSON", [line])
    await registry.register("b", json.dumps(whole), "JSON", [line])
    await registry.register("c", json.dumps({"$ref": "https://example.com/other.json"}), "JSON")
    await registry.register("d", json.dumps({"$ref": "file:///etc/hostname"}), "JSON")
    made = source(validate=True)
    for number in (2, 3):
        head = b"\x00" + number.to_bytes(4)
        assert await learnt(made, made.decode, head + b'{"n": 1}') == {"n": 1}
        with pytest.raises(ExtractError, match="/n: type"):
            made.decode(head + b'{"n": "x"}')
    for number in (4, 5):
        with pytest.raises(ExtractError, match="cannot be used: it is no JSON Schema"):
            await learnt(made, made.decode, b"\x00" + number.to_bytes(4) + b"{}")


@pytest.mark.parametrize("data", [b'{"id": 1}', b"", b"\x00\x00", b"\x01\x00\x00\x00\x01{}"])
async def test_what_has_no_id_in_front_is_the_records_error(source, data):
    with pytest.raises(ExtractError, match="not JSON behind the id of its schema"):
        source().decode(data)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"a": 1} x'])
async def test_what_is_no_object_behind_its_id_is_the_records_error(sink, source, body):
    await sink(schema=ORDER)
    made = source()
    with pytest.raises(ExtractError, match=r"not valid JSON|must be a JSON object"):
        await learnt(made, made.decode, HEAD + body)


@pytest.mark.parametrize(
    ("settings", "subject"),
    [
        ({}, "t-value"),
        ({"subject_strategy": "record_name"}, "Order"),
        ({"subject_strategy": "topic_record_name"}, "t-Order"),
        ({"subject": "mine"}, "mine"),
    ],
)
async def test_the_subject_is_named_by_the_strategy(sink, registry, settings, subject):
    await sink(schema=ORDER, **settings)
    assert (await registry.latest(subject)).id == 1


async def test_a_name_is_the_title(sink):
    with pytest.raises(ConfigError, match="has no `title`"):
        await sink(schema={"type": "object"}, subject_strategy="record_name")


async def test_without_registering_the_schema_has_to_be_there(sink, registry):
    with pytest.raises(NotFoundError, match="does not have the sink's schema"):
        await sink(schema=ORDER, register=False)
    await registry.register("t-value", json.dumps(ORDER), "JSON")
    made = await sink(register=False)
    with pytest.raises(LoadError, match="/: required"):
        made.encode({})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schema": ORDER}, "only with registry: true; the stage `validate`"),
        ({"validate": True}, "only with registry: true; the stage `validate`"),
        ({"subject": "s"}, "subject: only with registry: true"),
        ({"registry": True, "schema": 5}, "expected a JSON Schema"),
        ({"registry": True, "schema": "{"}, "expected a JSON Schema"),
        ({"registry": True, "schema": ORDER, "schema_file": "a"}, "expected one of the two"),
    ],
)
def test_settings_that_do_not_fit_together(settings, message):
    with pytest.raises(ValueError, match=message):
        JsonSettings(**settings)


def test_a_schema_that_is_none_is_told_when_the_pipeline_is_loaded(tmp_path):
    context = CodecContext("out", "sink", "t", base_dir=tmp_path)
    (tmp_path / "bad.json").write_text('{"type": "thing"}')
    for file, message in (("bad.json", "is no JSON Schema, at /type"), ("none.json", "cannot read the schema")):
        with pytest.raises(ConfigError, match=message):
            codec("json", JsonSettings(registry=True, schema_file=file), context)


async def test_a_source_of_a_test_writes_and_reads_its_own(source):
    made = source(schema=ORDER)
    assert made.decode(made.encode({"id": 1})) == {"id": 1}
    document = {"any": 1}
    assert source().decode(document) is document


@pytest.mark.parametrize("given", ["json", {"json": None}, {"json": {}}])
def test_json_alone_stays_two_functions(given):
    made = TypeAdapter(TopicFormat).validate_python(given)
    assert made == Format("json") == "json"
    assert type(made.codec()) is PlainCodec
    assert made.codec().decode is decode


def test_chains_do_not_take_it_for_plain_json(registry, tmp_path):
    text = """
name: p
schema_registry: {{url: "http://127.0.0.1:1"}}
source: {{log: {{topic: in, format: {read}}}}}
sink: {{log: {{topic: out, format: {write}}}}}
"""

    def written(read, write):
        """Python's source of the chain."""
        config = load_pipeline_text(
            text.format(read=read, write=write), tmp_path / "p.yaml", Registry.default(), {}, ServiceConfig()
        )
        [part] = build_plan(config).parts
        codecs = codecs_of((*part.sources, *part.sinks), tmp_path, registry)
        return compile_chains(part, {}, codecs)[0, config.sources[0].id].source

    framed = "{json: {registry: true}}"
    schema = "{json: {registry: true, schema: {type: object}}}"
    plain = written("json", "json")
    assert "encode_json" not in plain
    assert "decode_json" not in plain
    assert "decode_json" in written(framed, "json")
    assert "encode_json" in written("json", schema)
    assert {"decode_json", "encode_json"} <= set(written(framed, schema).replace("(", " ").split())

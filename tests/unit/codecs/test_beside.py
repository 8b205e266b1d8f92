"""Keys and headers in formats of their own: any JSON value there and back, with errors that quote nothing."""

from __future__ import annotations

import io
from pathlib import Path

import fastavro
import msgspec
import pytest

from streamd.codecs.beside import Beside, HeaderReaders, codecs_beside, key_of
from streamd.codecs.codec import CodecContext
from streamd.codecs.schema_registry import RegisteredSchema
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError, ExtractError, LoadError
from streamd.sinks.log import LogSinkConfig
from streamd.sources.log import LogSourceConfig

KEY = {
    "type": "record",
    "name": "Key",
    "fields": [{"name": "shop", "type": "long"}, {"name": "user", "type": "string"}],
}
SHOP = {"proto": "shop.proto", "message": "shop.Order"}
FOLDER = Path(__file__).parent


def beside(form, headers=None, kind=LogSinkConfig):
    written = {} if kind is LogSourceConfig else dict.fromkeys(headers or {}, "1")
    given = {"headers": written} if written else {}
    settings = kind.model_validate({"topic": "t", "key_format": form, "header_formats": headers or {}, **given})
    about = CodecContext("out", "sink", "t", base_dir=FOLDER)
    return Beside("out", settings, dict(codecs_beside("out", settings, about)))


@pytest.mark.parametrize("value", ["ada", "", "é", 5, -1, 2.5, True, [1, "x"], {"user": "ada", "shop": 1}])
@pytest.mark.parametrize("form", ["json", {"msgpack": {}}])
def test_a_key_may_be_any_value(form, value):
    one = beside(form)
    assert one.decode_key(one.encode_key(value)) == value


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ("string", "ada"),
        ("long", 1 << 40),
        ("int", -5),
        ("boolean", True),
        ("double", 0.5),
        ({"type": "bytes"}, "AAE="),
        (["null", "string"], "x"),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B"),
        (KEY, {"shop": 1, "user": "ada"}),
    ],
)
def test_a_key_of_avro_may_be_of_a_primitive_schema(schema, value):
    one = beside({"avro": {"schema": schema}})
    data = one.encode_key(value)
    assert one.decode_key(data) == value
    read = fastavro.schemaless_reader(io.BytesIO(data), fastavro.parse_schema(schema), None)
    assert read == (b"\x00\x01" if value == "AAE=" else value)


def test_a_key_of_protobuf_is_a_message():
    one = beside({"protobuf": {"proto": "shop.proto", "message": "shop.Order"}})
    document = one.decode_key(b"")
    assert isinstance(document, dict)
    assert one.encode_key(document) == b""
    with pytest.raises(LoadError, match=r"^the record's key does not fit the Protobuf message"):
        one.encode_key("4711")


def test_equal_keys_have_equal_bytes_whatever_the_order_of_their_names():
    for form in ("json", {"msgpack": {}}, {"avro": {"schema": KEY}}):
        one = beside(form)
        assert one.encode_key({"shop": 1, "user": "a"}) == one.encode_key({"user": "a", "shop": 1})


def test_no_key_is_no_value():
    for form in ("json", "bytes", {"msgpack": {}}, {"avro": {"schema": "string"}}):
        one = beside(form)
        assert one.decode_key(None) is None
        assert one.encode_key(None) is None


def test_a_key_of_bytes_is_its_bytes():
    one = beside("bytes")
    assert one.decode_key(b"\xff") == one.encode_key(b"\xff") == b"\xff"
    assert one.encode_key("é") == b"\xc3\xa9"
    with pytest.raises(LoadError, match=r"^the record's key is a number, expected bytes or text$"):
        one.encode_key(4711)


@pytest.mark.parametrize(
    ("form", "data", "message"),
    [
        ("json", b'{"card": 4711', "the record's key: not valid JSON at byte"),
        ({"msgpack": {}}, b"\xc1 4711", "the record's key: not valid MessagePack"),
        ({"msgpack": {}}, msgspec.msgpack.encode({1: 4711}), "the record's key: .*a key that is no text"),
        ({"avro": {"schema": "string"}}, b"\x08471", "the record's key: not Avro of its schema: it ends too early"),
        ({"avro": {"schema": "long"}}, b"\x024711", "the record's key: not Avro of its schema: 4 bytes are left over"),
    ],
)
def test_a_key_that_cannot_be_read_is_an_extract_error_without_its_contents(form, data, message):
    with pytest.raises(ExtractError, match=message) as caught:
        beside(form).decode_key(data)
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize(
    ("form", "value", "message"),
    [
        ("json", {"a": {4711}}, "the record's key cannot be written as JSON"),
        ({"msgpack": {}}, {"a": 4711 << 80}, "the record's key cannot be written as MessagePack"),
        (
            {"avro": {"schema": "long"}},
            "4711",
            "key does not fit the Avro schema: expected a long, got text",
        ),
    ],
)
def test_a_key_that_cannot_be_written_is_a_load_error_without_its_contents(form, value, message):
    with pytest.raises(LoadError, match=message) as caught:
        beside(form).encode_key(value)
    assert "4711" not in str(caught.value)


def test_headers_are_decoded_by_name_and_the_last_of_a_name_wins():
    one = beside("text", {"a": "json", "b": {"msgpack": {}}, "plain": "text"}, LogSourceConfig)
    readers = HeaderReaders(one.header_decoders)
    headers = [("a", b"{"), ("a", b'{"x":1}'), ("b", b"\x05"), ("c", b"text"), ("none", None)]
    assert readers.of(None)(headers) == {"a": {"x": 1}, "b": 5, "c": "text", "none": None}
    assert readers.of({"a"})(headers)["b"] == "\x05"
    assert readers.of({"c"}) is None
    with pytest.raises(ExtractError, match=r"^the record's header `a`: not valid JSON"):
        readers.of({"a"})([("a", b"{")])


def test_a_keys_bytes_go_on_where_both_formats_are_the_same_or_the_sink_takes_bytes():
    json, text, raw = beside("json"), beside("text"), beside("bytes")
    long, string = beside({"avro": {"schema": "long"}}), beside({"avro": {"schema": "string"}})
    assert json.key_passes(json.key)
    assert text.key_passes(None)
    assert long.key_passes(long.key)
    assert raw.key_passes(None)
    assert raw.key_passes(long.key)
    for write, read in ((json, text), (text, json), (long, string), (json, long), (text, raw)):
        assert not write.key_passes(read.key)


def test_text_has_no_codec():
    settings = LogSourceConfig.model_validate({"topic": "t", "key_format": "text", "header_formats": {"a": "text"}})
    assert not dict(codecs_beside("in", settings, CodecContext()))
    assert key_of("in") == "in key"


@pytest.mark.parametrize(
    ("written", "column", "message"),
    [
        ("key_format: csv", 17, "`key_format` of sink `log` must be one of text, json, bytes, avro, msgpack, protobuf"),
        ("key_format: {avro: {scema: 1}}", 25, "unknown key `scema` in format `avro`"),
        ("header_formats: {a: {avro: {scema: 1}}}", 33, "unknown key `scema` in format `avro`"),
        ("header_formats: {a: jsn}", 25, "`header_formats.a` of sink `log` must be one of text, json"),
        ("header_formats: {a: {jsn: {}}}", 26, "unknown format `jsn` as `a` of sink `log`"),
        ("header_formats: {other: json}", 22, "expected one of `headers`: a header that the record came with goes on"),
        ("header_formats: {other: {msgpack: {}}}", 22, "expected one of `headers`"),
    ],
)
def test_mistakes_are_told_where_they_stand(tmp_path, written, column, message):
    sink = f"sink:\n  log:\n    topic: out\n    headers: {{a: '1'}}\n    {written}\n"
    text = f"name: p\nsource: {{log: {{topic: in}}}}\n{sink}"
    with pytest.raises(ConfigError) as caught:
        load_pipeline_text(text, tmp_path / "p.yaml", Registry.default(), {}, ServiceConfig())
    (found,) = caught.value.diagnostics
    assert message.removeprefix("expected ") in f"{found.message} {found.expected}"
    assert (found.place.line, found.place.column) == (7, column)


def test_a_key_may_be_text_in_another_encoding():
    one = beside({"text": {"encoding": "latin-1"}})
    assert one.encode_key("é") == b"\xe9"
    assert one.decode_key(b"\xe9") == "é"
    assert one.encode_key({"b": 1, "a": "é"}) == b'{"a":"\xe9","b":1}'
    with pytest.raises(LoadError, match=r"^the record's key has no latin-1 form at character 0"):
        one.encode_key("\u20ac4711")
    assert one.key_passes(one.key)
    assert not one.key_passes(None)


class OneSchema:
    """What a codec asks, with one schema of JSON."""

    def __init__(self):
        self.subjects = []

    async def by_id(self, number):
        return RegisteredSchema(number, '{"type": "integer"}', "JSON") if number == 7 else None

    async def register(self, subject, schema, kind, references=()):
        self.subjects.append(subject)
        return RegisteredSchema(7, schema, kind)


async def test_a_key_of_json_may_lie_behind_the_id_of_its_schema():
    registry = OneSchema()
    form = {"json": {"registry": True, "validate": True}}
    source = LogSourceConfig.model_validate({"topic": "t", "key_format": form}).key_format.codec(
        CodecContext("in", "source", "t", "key", registry=registry)
    )
    form["json"] |= {"schema": {"type": "integer"}}
    sink = LogSinkConfig.model_validate({"topic": "t", "key_format": form}).key_format.codec(
        CodecContext("out", "sink", "t", "key", registry=registry)
    )
    await sink.prepare()
    assert sink.encode(5) == b"\x00\x00\x00\x00\x075"
    with pytest.raises(ExtractError, match="not known yet"):
        source.decode(sink.encode(5))
    assert await source.learn()
    assert source.decode(sink.encode(5)) == 5
    with pytest.raises(ExtractError, match="does not fit schema 7"):
        source.decode(b'\x00\x00\x00\x00\x07"x"')
    with pytest.raises(LoadError, match="does not fit the JSON Schema"):
        sink.encode("x")
    assert registry.subjects == ["t-key"]

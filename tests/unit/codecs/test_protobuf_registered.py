"""Protobuf behind schema ids: the wire format, which schema reads, what is registered. The registry is in memory."""

from __future__ import annotations

from base64 import b64encode

import pytest
from google.protobuf import descriptor_pb2

from streamd.codecs import CodecContext, codec
from streamd.codecs.protobuf import registered, schema
from streamd.codecs.protobuf.settings import ProtobufSettings
from streamd.codecs.schema_registry import Reference
from streamd.errors import ConfigError, ExtractError, LoadError, NotFoundError, UnavailableError
from streamd.testing.schema_registry import MemorySchemaRegistry

LINE = 'syntax = "proto3";\npackage shop;\nmessage Line { string sku = 1; int32 count = 2; }\n'
ORDER = """syntax = "proto3";
package shop;
import "parts/line.proto";
import "google/protobuf/timestamp.proto";
message Head { string x = 1; }
message Order {
  map<string, string> tags = 4;
  message Note { string text = 1; }
  int64 id = 1;
  repeated Line lines = 2;
  google.protobuf.Timestamp at = 3;
}
"""
DOCUMENT = {"id": 7, "lines": [{"sku": "a", "count": 2}], "at": "2026-01-05T09:00:00Z", "tags": {}}
# id = 7, and a line whose sku is a and whose count is 2.
BYTES = b"\x08\x07\x12\x05\x0a\x01a\x10\x02"


class Registry(MemorySchemaRegistry):
    """Counts what it is asked, and can be out of reach."""

    def __init__(self):
        super().__init__()
        self.asked, self.down = [], False

    async def by_id(self, schema_id):
        self.asked.append(schema_id)
        if self.down:
            raise UnavailableError("the schema registry cannot be reached")
        return await super().by_id(schema_id)


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "line.proto").write_text(LINE)
    (tmp_path / "order.proto").write_text(ORDER)
    return tmp_path


@pytest.fixture
def source(registry, folder):
    def make(**settings):
        context = CodecContext("in", "source", "t", base_dir=folder, registry=registry)
        return codec("protobuf", ProtobufSettings(registry=True, **settings), context)

    return make


@pytest.fixture
def sink(registry, folder):
    async def make(**settings):
        context = CodecContext("out", "sink", "t", base_dir=folder, registry=registry)
        given = {"proto": "order.proto", "message": "shop.Order", **settings}
        made = codec("protobuf", ProtobufSettings(registry=True, **given), context)
        await made.prepare()
        return made

    return make


@pytest.fixture
async def order_id(registry):
    """The id of the order's schema, as another producer has registered it."""
    line = await registry.register("parts/line.proto", LINE, "PROTOBUF")
    reference = Reference("parts/line.proto", "parts/line.proto", line.version, LINE)
    return (await registry.register("t-value", ORDER, "PROTOBUF", [reference])).id


@pytest.fixture
def no_compiler(monkeypatch):
    """As on a machine that has none."""
    monkeypatch.setattr(schema, "compiler", lambda: None)
    monkeypatch.setattr(registered, "compiler", lambda: None)


async def learnt(made, call, value):
    """As the engine does: what failed is tried again when something is known that was not."""
    try:
        return call(value)
    except (ExtractError, LoadError):
        if not await made.learn():
            raise
        return call(value)


def framed(number, numbers, message=BYTES):
    return b"\x00" + number.to_bytes(4) + numbers + message


async def test_a_sink_registers_its_text_with_what_it_imports_first(sink, registry):
    made = await sink()
    found = await registry.latest("t-value")
    assert (found.schema, found.type) == (ORDER, "PROTOBUF")
    assert found.references == (Reference("parts/line.proto", "parts/line.proto", 1, LINE),)
    data = made.encode(DOCUMENT)
    # Order is the second message of its file: a list of one number, 1, both in zigzag.
    assert data[:7] == b"\x00" + found.id.to_bytes(4) + b"\x02\x02"
    assert made.decode(data) == DOCUMENT


@pytest.mark.parametrize(
    ("message", "numbers"), [("shop.Head", b"\x00"), ("shop.Order", b"\x02\x02"), ("shop.Order.Note", b"\x04\x02\x00")]
)
async def test_the_numbers_of_a_message(sink, message, numbers):
    """Of messages that are within others, those for the entries of a map do not count, as in Confluent's Java."""
    made = await sink(message=message)
    assert made.encode({})[5:] == numbers
    assert made.decode(made.encode({})) is not None


async def test_a_source_reads_what_others_wrote_by_their_schemas(source, registry, order_id):
    made = source()
    assert await learnt(made, made.decode, framed(order_id, b"\x02\x02")) == {
        "id": 7, "lines": [{"sku": "a", "count": 2}], "tags": {}
    }  # fmt: skip
    assert made.decode(framed(order_id, b"\x00", b"\x0a\x01y")) == {"x": "y"}
    assert made.decode(framed(order_id, b"\x02\x00", b"\x0a\x01y")) == {"x": "y"}, "the first, written out"
    assert made.decode(framed(order_id, b"\x04\x02\x00", b"\x0a\x01y")) == {"text": "y"}
    assert registry.asked == [order_id]
    assert not await made.learn()


async def test_a_source_that_names_a_message_takes_no_other(source, order_id):
    made = source(message="shop.Order")
    assert (await learnt(made, made.decode, framed(order_id, b"\x02\x02")))["id"] == 7
    with pytest.raises(ExtractError, match=r"^a message shop\.Head was written, expected shop\.Order$"):
        made.decode(framed(order_id, b"\x00", b"\x0a\x01y"))


async def test_documents_are_of_the_message_that_the_source_gives(source, order_id, folder):
    (folder / "mine.proto").write_text('syntax = "proto3";\npackage shop;\nmessage Order { int64 number = 1; }\n')
    made = source(proto="mine.proto", message="shop.Order")
    assert await learnt(made, made.decode, framed(order_id, b"\x02\x02")) == {"number": 7}
    with pytest.raises(ExtractError, match="was written, expected"):
        made.decode(framed(order_id, b"\x00"))


@pytest.mark.parametrize(
    "numbers",
    [b"", b"\x02", b"\x02\x08", b"\x01\x00", b"\x02\x01", b"\x04\x02\x02", b"\xff\xff\xff\xff\xff\x7f", b"\x80"],
)
async def test_numbers_that_name_no_message_are_the_records_error(source, order_id, numbers):
    made = source()
    with pytest.raises(ExtractError, match=r"not Protobuf (of|behind the id of) its schema"):
        await learnt(made, made.decode, framed(order_id, numbers, b""))


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x00\x00\x01", b"\x01\x00\x00\x00\x01\x00", b'{"id": 4711}'])
async def test_what_has_no_id_in_front_is_not_asked_for(source, registry, data):
    made = source()
    with pytest.raises(ExtractError, match="expected a zero byte and the four bytes of an id"):
        made.decode(data)
    assert not await made.learn()
    assert registry.asked == []


async def test_a_registry_out_of_reach_leaves_the_want_for_the_next_attempt(source, registry, order_id):
    made, data = source(), framed(order_id, b"\x02\x02")
    registry.down = True
    for _ in range(2):
        with pytest.raises(ExtractError):
            made.decode(data)
        with pytest.raises(UnavailableError):
            await made.learn()
    registry.down = False
    assert (await learnt(made, made.decode, data))["id"] == 7


async def test_schemas_that_cannot_be_used_are_the_records_error(source, registry):
    outside = Reference("../../evil.proto", "evil", 1, LINE)
    await registry.register("evil", LINE, "PROTOBUF")
    await registry.register("a", "message {", "PROTOBUF")
    await registry.register("b", ORDER, "PROTOBUF", [outside])
    await registry.register("c", '"string"', "AVRO")
    made = source()
    for number, message in (
        (2, "cannot be compiled"),
        (3, "no path below a folder"),
        (4, "of AVRO, expected PROTOBUF"),
    ):
        with pytest.raises(ExtractError, match=message):
            await learnt(made, made.decode, framed(number, b"\x00"))


async def test_descriptors_in_base64_need_no_compiler(source, registry, folder, monkeypatch):
    files = schema.files_of(schema.compiled(folder / "order.proto", [folder]), folder)
    line, order = (b64encode(files[n].SerializeToString()).decode() for n in ("parts/line.proto", "order.proto"))
    await registry.register("parts/line.proto", line, "PROTOBUF")
    reference = Reference("parts/line.proto", "parts/line.proto", 1, line)
    number = (await registry.register("t-value", order, "PROTOBUF", [reference])).id
    made = source()
    monkeypatch.setattr(registered, "compiler", lambda: None)
    assert (await learnt(made, made.decode, framed(number, b"\x02\x02")))["id"] == 7


async def test_without_a_compiler_records_are_read_as_the_configured_message(source, order_id, folder, no_compiler):
    with pytest.raises(ConfigError, match=r"have to be compiled, and there is no `protoc`.*`descriptor` and `message`"):
        source()
    file = descriptor_pb2.FileDescriptorProto(name="own.proto", package="shop", syntax="proto3")
    file.message_type.add(name="Order").field.add(name="id", number=1, type=3, label=1)
    (folder / "own.desc").write_bytes(descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString())
    made = source(descriptor="own.desc", message="shop.Order")
    assert await learnt(made, made.decode, framed(order_id, b"\x02\x02")) == {"id": 7}


@pytest.mark.parametrize(
    ("settings", "subject"),
    [
        ({}, "t-value"),
        ({"subject_strategy": "record_name"}, "shop.Order"),
        ({"subject_strategy": "topic_record_name"}, "t-shop.Order"),
        ({"subject": "mine"}, "mine"),
    ],
)
async def test_the_subject_is_named_by_the_strategy(sink, registry, settings, subject):
    await sink(**settings)
    assert (await registry.latest(subject)).schema == ORDER


async def test_without_registering_the_schema_has_to_be_there(sink, registry, order_id):
    made = await sink(register=False)
    assert made.encode({"id": 7})[1:5] == order_id.to_bytes(4)
    with pytest.raises(NotFoundError, match="'other' of the schema registry does not have the sink's schema"):
        await sink(register=False, subject="other")
    with pytest.raises(NotFoundError, match="'none' of the schema registry has no version"):
        await sink(register=False, subject="none", proto=None, message=None)


async def test_without_a_schema_of_its_own_a_sink_writes_by_the_latest(sink, registry, order_id):
    first = await sink(register=False, proto=None, message=None)
    assert first.encode({"x": "y"}) == framed(order_id, b"\x00", b"\x0a\x01y")
    order = await sink(register=False, proto=None)
    assert order.decode(order.encode(DOCUMENT)) == DOCUMENT
    with pytest.raises(ConfigError, match=r"has no message shop\.Nothing"):
        await sink(register=False, proto=None, message="shop.Nothing")
    await registry.register("avro", '"string"', "AVRO")
    with pytest.raises(ConfigError, match="'avro' of the schema registry is of AVRO, expected PROTOBUF"):
        await sink(register=False, proto=None, message=None, subject="avro")


async def test_what_a_sink_lacks_is_told_when_it_is_made(sink, registry):
    with pytest.raises(ConfigError, match="a sink needs a schema"):
        await sink(proto=None)
    with pytest.raises(ConfigError, match="give the sink `proto` in place of `descriptor`"):
        await sink(proto=None, descriptor="order.desc")
    settings = ProtobufSettings(registry=True)
    made = codec("protobuf", settings, CodecContext("in", "source", "t"))
    with pytest.raises(ConfigError, match=r"add `schema_registry: \{url: …\}`"):
        await made.prepare()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "or `registry: true`"),
        ({"proto": "a", "message": "M", "subject": "s"}, "subject: only with registry: true"),
        ({"registry": True, "proto": "a"}, "message: expected the full name"),
        ({"registry": True, "proto": "a", "descriptor": "b", "message": "M"}, "expected one of the two"),
        ({"registry": True, "message": "M", "subject_strategy": "record_name"}, "record_name needs a schema"),
        ({"registry": True, "register": False, "compatibility": "FULL"}, "only with register: true"),
    ],
)
def test_settings_that_do_not_fit_together(settings, message):
    with pytest.raises(ValueError, match=message):
        ProtobufSettings(**settings)


async def test_fields_that_the_message_lacks_fail_or_are_left_out(sink):
    made = await sink(on_schema_change="ignore")
    assert made.decode(made.encode({"id": 1, "other": 2}))["id"] == 1
    assert made.left_out() == 1
    with pytest.raises(LoadError, match="field `other`: is no field of the message"):
        (await sink()).encode({"id": 1, "other": 2})


async def test_a_source_of_a_test_writes_and_reads_its_own_message(source):
    made = source(proto="order.proto", message="shop.Order")
    assert made.decode(made.encode(DOCUMENT)) == DOCUMENT
    assert source().decode(DOCUMENT) is DOCUMENT, "without a message the document goes as it is"

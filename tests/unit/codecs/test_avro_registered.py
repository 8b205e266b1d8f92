"""Avro behind schema ids: what is asked of a registry and when, and how schemas grow. The registry is in memory."""

from __future__ import annotations

import json

import pytest

from streamd.codecs import CodecContext, codec, registered
from streamd.codecs.avro.evolution import evolved, united, untold
from streamd.codecs.avro.schema import Schema
from streamd.codecs.avro.settings import AvroSettings
from streamd.codecs.avro.values import Forms
from streamd.codecs.avro.writing import Writing
from streamd.codecs.schema_registry import IncompatibleSchemaError, Reference
from streamd.errors import ConfigError, ExtractError, LoadError, NotFoundError, UnavailableError
from streamd.testing.schema_registry import MemorySchemaRegistry

ID = {"name": "id", "type": "long"}
V1 = {"type": "record", "name": "shop.Order", "fields": [ID]}
INNER = {"type": "record", "name": "I", "fields": [{"name": "n", "type": "int", "default": 0}]}
V2 = {**V1, "fields": [ID, {"name": "user", "type": ["null", "string"], "default": None}]}


class Registry(MemorySchemaRegistry):
    """Counts what it is asked, and can be out of reach or refuse."""

    def __init__(self):
        super().__init__()
        self.asked = []
        self.down = self.strict = self.refuses_once = False
        # A version that somebody else registers just before the next one that is registered here.
        self.first = None

    async def by_id(self, schema_id):
        self.asked.append(schema_id)
        if self.down:
            raise UnavailableError("the schema registry cannot be reached")
        return await super().by_id(schema_id)

    async def register(self, subject, schema, kind, references=()):
        if self.down:
            raise UnavailableError("the schema registry cannot be reached")
        if self.first is not None and await self.latest(subject):
            first, self.first = self.first, None
            await super().register(subject, json.dumps(first), kind)
            if self.refuses_once:
                raise IncompatibleSchemaError("it refuses the schema")
        if self.strict and await self.find(subject, schema, kind) is None and await self.latest(subject):
            raise IncompatibleSchemaError("it refuses the schema")
        return await super().register(subject, schema, kind, references)


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def source(registry):
    def make(**settings):
        return codec(
            "avro", AvroSettings(registry=True, **settings), CodecContext("in", "source", "t", registry=registry)
        )

    return make


@pytest.fixture
def sink(registry):
    async def make(**settings):
        context = CodecContext("out", "sink", "t", registry=registry)
        made = codec("avro", AvroSettings(registry=True, **settings), context)
        await made.prepare()
        return made

    return make


async def learnt(made, call, value):
    """As the engine does: what failed is tried again when something is known that was not."""
    try:
        return call(value)
    except (ExtractError, LoadError):
        if not await made.learn():
            raise
        return call(value)


async def test_a_source_asks_for_each_id_once_and_before_anything_goes_on(source, sink, registry):
    out, made = await sink(schema=V1), source()
    data = out.encode({"id": 1})
    with pytest.raises(ExtractError, match="the schema 1 is not known yet"):
        made.decode(data)
    assert registry.asked == []
    assert await made.learn()
    assert not await made.learn()
    assert [made.decode(data) for _ in range(3)] == [{"id": 1}] * 3
    assert registry.asked == [1]


async def test_a_registry_out_of_reach_leaves_the_want_for_the_next_attempt(source, sink, registry):
    out, made = await sink(schema=V1), source()
    data = out.encode({"id": 1})
    registry.down = True
    for _ in range(2):
        with pytest.raises(ExtractError):
            made.decode(data)
        with pytest.raises(UnavailableError):
            await made.learn()
    registry.down = False
    assert await learnt(made, made.decode, data) == {"id": 1}


async def test_an_id_that_nobody_has_is_the_records_error_and_asked_again_later(source, sink, registry, monkeypatch):
    made = source()
    with pytest.raises(ExtractError, match=r"no schema with the id 1$"):
        await learnt(made, made.decode, b"\x00\x00\x00\x00\x01\x02")
    assert not await made.learn()
    out = await sink(schema=V1)
    with pytest.raises(ExtractError):
        await learnt(made, made.decode, out.encode({"id": 1}))
    now = registered.time.monotonic()
    monkeypatch.setattr(registered.time, "monotonic", lambda: now + registered.ASKED_AGAIN_AFTER + 1)
    assert await learnt(made, made.decode, out.encode({"id": 1})) == {"id": 1}
    assert registry.asked == [1, 1]


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x00\x00\x01", b"\x01\x00\x00\x00\x01\x02", b'{"id": 4711}'])
async def test_what_has_no_id_in_front_is_not_asked_for(source, registry, data):
    made = source()
    with pytest.raises(ExtractError, match="expected a zero byte and the four bytes of an id") as caught:
        made.decode(data)
    assert "4711" not in str(caught.value)
    assert not await made.learn()


async def test_documents_have_the_schema_that_the_source_asks_for(source, sink):
    out, made = await sink(schema=V1), source(schema=V2)
    assert await learnt(made, made.decode, out.encode({"id": 1})) == {"id": 1, "user": None}
    other = {**V1, "fields": [{"name": "id", "type": "string"}]}
    unfit = source(schema=other)
    with pytest.raises(
        ExtractError,
        match="cannot be used: what it wrote cannot be read with the schema asked for: `id`: a long was written",
    ):
        await learnt(unfit, unfit.decode, out.encode({"id": 1}))


async def test_schemas_of_other_kinds_and_ones_that_are_none_are_the_records_error(source, registry):
    await registry.register("a", "{}", "JSON")
    await registry.register("b", '"Missing"', "AVRO")
    made = source()
    for number, message in ((1, "of JSON, expected AVRO"), (2, "names a type 'Missing'")):
        with pytest.raises(ExtractError, match=message):
            await learnt(made, made.decode, b"\x00" + number.to_bytes(4) + b"\x02")


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
    made = await sink(schema=V1, **settings)
    assert (await registry.latest(subject)).id == 1
    assert made.encode({"id": 1}) == b"\x00\x00\x00\x00\x01\x02"


async def test_without_registering_the_schema_has_to_be_there(sink, registry):
    with pytest.raises(NotFoundError, match="'t-value' of the schema registry does not have the sink's schema"):
        await sink(schema=V1, register=False)
    with pytest.raises(NotFoundError, match="has no version"):
        await sink(register=False)
    await registry.register("t-value", json.dumps(V2), "AVRO")
    made = await sink(register=False)
    assert made.decode(made.encode({"id": 1, "user": "a"})) == {"id": 1, "user": "a"}


async def test_a_sink_without_a_schema_or_a_registry_is_refused(registry):
    with pytest.raises(ConfigError, match="a sink needs a schema"):
        codec("avro", AvroSettings(registry=True), CodecContext("out", "sink", "t", registry=registry))
    made = codec("avro", AvroSettings(registry=True, schema=V1), CodecContext("out", "sink", "t"))
    with pytest.raises(ConfigError, match=r"add `schema_registry: \{url: …\}`"):
        await made.prepare()


async def test_a_schema_grows_before_the_record_that_needs_it_is_written(sink, registry):
    made = await sink(schema=V1, on_schema_change="evolve")
    document = {"id": 1, "user": "a", "total": 2.5, "tags": ["x"], "at": {"city": "b", "zip": 5}}
    with pytest.raises(LoadError, match="field `user`: is no field of the schema"):
        made.encode(document)
    assert await made.learn()
    data = made.encode(document)
    assert data[:5] == b"\x00\x00\x00\x00\x02"
    assert made.decode(data) == document
    assert made.decode(made.encode({"id": 2})) == {"id": 2, "user": None, "total": None, "tags": None, "at": None}
    assert not await made.learn()


async def test_who_meets_the_same_field_later_takes_the_version_that_is_there(sink, registry):
    first, second = [await sink(schema=V1, on_schema_change="evolve") for _ in range(2)]
    one = await learnt(first, first.encode, {"id": 1, "user": "a"})
    assert await learnt(second, second.encode, {"id": 1, "user": "a"}) == one
    both = await learnt(second, second.encode, {"id": 1, "user": "a", "note": "b"})
    assert second.decode(both) == {"id": 1, "user": "a", "note": "b"}
    assert (await registry.latest("t-value")).id == 3


async def test_what_no_schema_can_hold_is_the_records_error_and_is_not_tried_again(sink):
    made = await sink(schema=V1, on_schema_change="evolve")
    for _ in range(2):
        with pytest.raises(LoadError, match="field `id`: expected a long, got text"):
            await learnt(made, made.encode, {"id": "4711"})
    assert not await made.learn()


async def test_a_version_that_the_registry_refuses_is_the_records_error(sink, registry):
    made = await sink(schema=V1, on_schema_change="evolve")
    registry.strict = True
    with pytest.raises(
        LoadError, match="field `user`: is no field of the schema; its schema cannot evolve: it refuses"
    ):
        await learnt(made, made.encode, {"id": 1, "user": "a"})
    assert made.encode({"id": 1}) == b"\x00\x00\x00\x00\x01\x02"


async def test_what_the_registry_refused_is_tried_again_after_a_while(sink, registry, monkeypatch):
    made = await sink(schema=V1, on_schema_change="evolve")
    registry.strict = True
    for _ in range(2):
        with pytest.raises(LoadError, match="its schema cannot evolve"):
            await learnt(made, made.encode, {"id": 1, "user": "a"})
    assert not await made.learn(), "not at once"
    registry.strict = False
    now = registered.time.monotonic()
    monkeypatch.setattr(registered.time, "monotonic", lambda: now + registered.ASKED_AGAIN_AFTER + 1)
    data = await learnt(made, made.encode, {"id": 1, "user": "a"})
    assert made.decode(data) == {"id": 1, "user": "a"}


async def test_a_version_that_comes_in_between_is_put_together_with_ones_own(sink, registry):
    made = await sink(schema=V1, on_schema_change="evolve")
    other = {**V1, "fields": [ID, {"name": "note", "type": ["null", INNER], "default": None}]}
    registry.first = other
    data = await learnt(made, made.encode, {"id": 1, "user": "a"})
    latest = json.loads((await registry.latest("t-value")).schema)
    assert {field["name"] for field in latest["fields"]} == {"id", "user", "note"}
    assert made.decode(data) == {"id": 1, "user": "a", "note": None}
    assert made.decode(made.encode({"id": 1, "note": {"n": 2}})) == {"id": 1, "user": None, "note": {"n": 2}}


async def test_who_is_refused_because_another_came_first_begins_from_that_version(sink, registry):
    made = await sink(schema=V1, on_schema_change="evolve")
    wider = {**V1, "fields": [{"name": "id", "type": "double"}]}
    registry.first, registry.refuses_once = wider, True
    data = await learnt(made, made.encode, {"id": 1, "user": "a"})
    latest = json.loads((await registry.latest("t-value")).schema)
    assert [field["name"] for field in latest["fields"]] == ["id", "user"]
    assert latest["fields"][0]["type"] == "double"
    assert made.decode(data) == {"id": 1.0, "user": "a"}


async def test_a_schema_that_refers_to_others_grows_with_its_references(sink, registry):
    made = await sink(schema=V1, on_schema_change="evolve")
    city = json.dumps({"type": "record", "name": "shop.City", "fields": [{"name": "name", "type": "string"}]})
    await registry.register("city", city, "AVRO")
    reference = Reference("shop.City", "city", 1, city)
    fields = [ID, {"name": "city", "type": ["null", "shop.City"], "default": None}]
    await registry.register("t-value", json.dumps({**V1, "fields": fields}), "AVRO", [reference])
    document = {"id": 1, "city": {"name": "b"}, "user": "a"}
    assert made.decode(await learnt(made, made.encode, document)) == document
    latest = await registry.latest("t-value")
    assert latest.references == (reference,)
    assert [field["name"] for field in json.loads(latest.schema)["fields"]] == ["id", "city", "user"]
    with pytest.raises(LoadError, match=r"field `city.zip`: is no field of the schema"):
        await learnt(made, made.encode, {"id": 1, "city": {"name": "b", "zip": 5}})


@pytest.mark.parametrize(
    ("ours", "theirs", "names"),
    [
        ([ID, {"name": "a", "type": "int"}], [ID], ["id", "a"]),
        ([ID], [ID, {"name": "a", "type": "int", "default": 0}], ["id", "a"]),
        ([ID], [{"name": "x", "type": "Missing"}], None),
    ],
)
def test_two_schemas_are_put_together(ours, theirs, names):
    own = Schema(json.dumps({**V1, "fields": ours}))
    if names is None:
        named = json.dumps({"type": "enum", "name": "shop.Missing", "symbols": ["A"]})
        assert united(own, Schema(json.dumps({**V1, "fields": theirs}), [named])) is own, "what it names is not there"
        return
    both = united(own, Schema(json.dumps({**V1, "fields": theirs})))
    assert [field["name"] for field in both.data["fields"]] == names
    assert (both is own) == (names == ["id", "a"] and len(theirs) == 1)


async def test_a_registry_out_of_reach_while_a_schema_grows_loses_nothing(sink, registry):
    made = await sink(schema=V1, on_schema_change="evolve")
    registry.down = True
    with pytest.raises(LoadError):
        made.encode({"id": 1, "user": "a"})
    with pytest.raises(UnavailableError):
        await made.learn()
    registry.down = False
    assert made.decode(await learnt(made, made.encode, {"id": 1, "user": "a"}))["user"] == "a"


async def test_a_field_of_which_no_value_tells_the_type_waits_for_one_that_does(sink, registry):
    made = await sink(schema=V1, on_schema_change="evolve")
    assert made.decode(made.encode({"id": 1, "x": None, "y": [], "z": {"a": [None]}})) == {"id": 1}
    assert made.left_out() == 3
    assert (await learnt(made, made.encode, {"id": 1, "x": 5}))[:5] == b"\x00\x00\x00\x00\x02"


@pytest.mark.parametrize("change", ["fail", "ignore"])
async def test_new_fields_fail_or_are_left_out(sink, registry, change):
    made = await sink(schema=V1, on_schema_change=change)
    document = {"id": 1, "user": "a"}
    if change == "ignore":
        assert made.decode(made.encode(document)) == {"id": 1}
        assert made.left_out() == 1
    else:
        with pytest.raises(LoadError, match="field `user`: is no field of the schema"):
            await learnt(made, made.encode, document)
    assert (await registry.latest("t-value")).id == 1


@pytest.mark.parametrize(
    ("fields", "document", "grown"),
    [
        ([("a", "int")], {"a": 2**40}, {"a": "long"}),
        ([("a", "int")], {"a": 0.5}, {"a": "double"}),
        ([("a", "long")], {"a": 0.5}, {"a": "double"}),
        ([("a", ["null", "int"])], {"a": 2**40}, {"a": ["null", "long"]}),
        ([("a", "string")], {"a": None}, {"a": ["null", "string"]}),
        ([("a", INNER)], {"a": {"n": 1, "m": True}}, None),
        ([("a", ["null", INNER])], {"a": {"n": 2**40}}, None),
        ([], {"x": [1, 0.5, None]}, {"x": ["null", {"type": "array", "items": ["null", "double"]}]}),
        ([("a", "string")], {"a": 1}, "never"),
        ([("a", "int")], {"a": 2**70}, {"a": "double"}),
        ([("a", "int")], {"a": 2**64 - 1}, "never"),
        ([("a", "long")], {"a": 2**63 + 1}, "never"),
        ([], {"x": 2**64 - 1}, "never"),
        ([("a", "long")], {"a": 5.0}, "never"),
        ([], {"not a name": 1}, "never"),
        ([], {"x": {"y": None, "z": 1}}, None),
        ([("a", {"type": "int", "logicalType": "date"})], {"a": 2**40}, "never"),
    ],
)
def test_how_a_schema_grows(fields, document, grown):
    of = {"type": "record", "name": "R", "fields": [{"name": name, "type": of} for name, of in fields]}
    made = evolved(Schema(json.dumps(of)), [document], Forms())
    if grown == "never":
        assert made is None
        return
    Writing(made, Forms(), untold).encode(document)
    if grown is not None:
        assert {field["name"]: field["type"] for field in made.data["fields"]} == grown

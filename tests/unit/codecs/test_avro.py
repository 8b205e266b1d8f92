"""The format avro with a schema of its own: what documents are, what is wrong with some, what settings mean."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from streamd.codecs import CodecContext, Undecodable, codec
from streamd.codecs.avro.settings import AvroSettings
from streamd.codecs.avro.writing import zigzag
from streamd.errors import ConfigError, ExtractError, LoadError

USER = {"type": "record", "name": "User", "fields": [{"name": "name", "type": "string"}]}
ORDER = {
    "type": "record",
    "name": "shop.Order",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "count", "type": "int", "default": 1},
        {"name": "user", "type": ["null", USER], "default": None},
        {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []},
    ],
}  # fmt: skip


def one(of, **settings):
    """A codec of records with one field `v`."""
    schema = {"type": "record", "name": "R", "fields": [{"name": "v", "type": of}]}
    return codec("avro", AvroSettings(schema=schema, **settings))


def order(**settings):
    return codec("avro", AvroSettings(schema=ORDER, **settings))


def logical(of, name, **more):
    return {"type": of, "logicalType": name, **more}


def test_fields_that_a_document_lacks_have_their_defaults():
    made = order()
    assert made.decode(made.encode({"id": 1})) == {"id": 1, "count": 1, "user": None, "tags": []}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "field `id`: is missing, and the schema has no default"),
        ({"id": "4711"}, "field `id`: expected a long, got text"),
        ({"id": True}, "field `id`: expected a long, got a boolean"),
        ({"id": 4711.5}, "field `id`: expected a long, got a number with a fraction"),
        ({"id": float("nan")}, "field `id`: expected a long, got a number with a fraction"),
        ({"id": 2.0**53 + 2}, "field `id`: expected a long, got a number with a point beyond 2^53"),
        ({"id": 1, "count": 2.0**31}, "field `count`: expected an int, got a whole number beyond 32 bits"),
        ({"id": 1, "total": 2**64 - 1}, "field `total`: is no field of the schema, and a whole number beyond 64 bits"),
        ({"id": 2**63}, "field `id`: expected a long, got a whole number beyond 64 bits"),
        ({"id": 1, "count": 2**31}, "field `count`: expected an int, got a whole number beyond 32 bits"),
        ({"id": 1, "user": {"name": None}}, "field `user.name`: expected a string, got null"),
        ({"id": 1, "user": {"name": "4711", "age": 4711}}, "field `user.age`: is no field of the schema"),
        ({"id": 1, "user": "4711"}, "field `user`: expected one of null, shop.User, got text"),
        ({"id": 1, "tags": ["a", 4711]}, "field `tags.1`: expected a string, got a whole number"),
        ({"id": 1, "tags": "4711"}, "field `tags`: expected a list, got text"),
        ({"id": 1, "total": 4711}, "field `total`: is no field of the schema"),
        ({"id": 1, "tags": ["\ud800"]}, "field `tags.0`: a text holds half a surrogate pair"),
        ([4711], "expected a record, got a list"),
    ],
)
def test_a_document_that_does_not_fit_is_told_with_its_field_and_without_its_contents(document, message):
    with pytest.raises(LoadError) as caught:
        order().encode(document)
    assert message in str(caught.value)
    assert "4711" not in str(caught.value)


def test_fields_that_the_schema_lacks_can_be_left_out_and_are_counted():
    made = order(on_schema_change="ignore")
    data = made.encode({"id": 1, "total": 5, "user": {"name": "a", "age": 3}})
    assert made.decode(data)["user"] == {"name": "a"}
    assert (made.left_out(), made.left_out()) == (2, 0)


@pytest.mark.parametrize(
    ("of", "settings", "document", "reads"),
    [
        (logical("long", "timestamp-millis"), {}, "2026-01-31T12:00:00Z", 1769860800000),
        (logical("long", "timestamp-millis"), {}, "2026-01-31T13:00:00+01:00", 1769860800000),
        (logical("long", "timestamp-millis"), {}, 1769860800000, 1769860800000),
        (logical("long", "timestamp-millis"), {"timestamps": "iso"}, -1, "1969-12-31T23:59:59.999Z"),
        (logical("long", "timestamp-micros"), {}, 1769860800000.25, 1769860800000.25),
        (logical("long", "timestamp-micros"), {"timestamps": "iso"}, 1, "1970-01-01T00:00:00.001000Z"),
        (logical("long", "timestamp-nanos"), {}, 1769860800000, 1769860800000),
        (logical("long", "timestamp-nanos"), {}, 1769860800000.25, 1769860800000.25),
        (logical("long", "timestamp-nanos"), {}, "2026-01-31T13:00:00.00025+01:00", 1769860800000.25),
        (
            logical("long", "timestamp-nanos"), {"timestamps": "iso"},
            "2026-01-31T12:00:00.123456789Z", "2026-01-31T12:00:00.123456789Z",
        ),
        (logical("long", "timestamp-nanos"), {"timestamps": "iso"}, 1769860800000.12, "2026-01-31T12:00:00.000120000Z"),
        (logical("long", "timestamp-nanos"), {"timestamps": "iso"}, -1, "1969-12-31T23:59:59.999000000Z"),
        (
            logical("long", "local-timestamp-nanos"), {},
            "1969-12-31T23:59:59.999999999", "1969-12-31T23:59:59.999999999",
        ),
        (logical("long", "local-timestamp-nanos"), {}, 5, "1970-01-01T00:00:00.005000000"),
        (logical("long", "local-timestamp-millis"), {}, "2026-01-31T12:00:00", "2026-01-31T12:00:00.000"),
        (logical("int", "date"), {}, "1969-12-31", "1969-12-31"),
        (logical("int", "time-millis"), {}, "12:30:00.5", "12:30:00.500"),
        (logical("bytes", "decimal", precision=5, scale=2), {}, 1.5, "1.50"),
        (logical("bytes", "decimal", precision=5, scale=2), {}, "-0.01", "-0.01"),
        (logical("bytes", "decimal", precision=5, scale=2), {"decimals": "float"}, "1.5", 1.5),
        ({"type": "fixed", "name": "D", "size": 8, "logicalType": "decimal", "precision": 5, "scale": 0}, {}, -7, "-7"),
        (
            {"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}, {},
            {"months": 1, "milliseconds": 5}, {"months": 1, "days": 0, "milliseconds": 5},
        ),
        (
            {"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}, {},
            "12345678-1234-5678-1234-567812345678", "12345678-1234-5678-1234-567812345678",
        ),
        ({"type": "string", "logicalType": "unheard-of"}, {}, "a", "a"),
        (logical("bytes", "decimal", precision=1, scale=5), {}, "AQI=", "AQI="),
        (["null", "string", "bytes"], {}, "AQI=", "AQI="),
        (["null", "double", "long"], {}, 5, 5),
        (["null", "float", "double"], {}, 0.1, 0.1),
        (["string", "bytes"], {"unions": "tagged"}, {"bytes": "AQI="}, {"bytes": "AQI="}),
    ],
)  # fmt: skip
def test_values_that_json_has_no_word_for(of, settings, document, reads):
    made = one(of, **settings)
    got = made.decode(made.encode({"v": document}))["v"]
    assert got == reads
    assert type(got) is type(reads)


@pytest.mark.parametrize(
    ("of", "value", "message"),
    [
        (logical("long", "timestamp-millis"), "4711 o'clock", "expected a time as ISO 8601 text"),
        (logical("long", "timestamp-millis"), 4711.25, "no finer than the type"),
        (logical("long", "timestamp-millis"), "2026-01-31T12:00:00.000471Z", "finer than milliseconds"),
        (logical("long", "timestamp-millis"), None, "expected a time in ms"),
        (logical("long", "timestamp-micros"), "2026-01-31T12:00:00.000000471Z", "finer than microseconds"),
        (logical("long", "local-timestamp-micros"), "2026-01-31T12:00:00.000000471", "finer than microseconds"),
        (logical("long", "time-micros"), "12:00:00.000000471", "finer than microseconds"),
        (logical("long", "timestamp-nanos"), "2026-01-31T12:00:00.0000000004711Z", "finer than nanoseconds"),
        (logical("long", "timestamp-nanos"), "2300-01-31T12:00:00Z", "beyond 64 bits"),
        (logical("long", "timestamp-nanos"), None, "expected a time in ms"),
        (logical("long", "local-timestamp-nanos"), "2026-01-31T12:00:00Z", "without a zone, this one has one"),
        (logical("long", "timestamp-micros"), 2**62, "beyond 64 bits"),
        (logical("long", "local-timestamp-millis"), "2026-01-31T12:00:00Z", "without a zone, this one has one"),
        (logical("int", "date"), "4711", "expected a date as text"),
        (logical("int", "time-millis"), "47:11", "expected a time of day"),
        (logical("bytes", "decimal", precision=3, scale=1), "4711", "up to 3 digits, 1 of them behind the point"),
        (logical("bytes", "decimal", precision=3, scale=1), "4.711", "up to 3 digits"),
        (logical("bytes", "decimal", precision=3, scale=1), "NaN", "up to 3 digits"),
        (logical("bytes", "decimal", precision=3, scale=1), True, "as text or a number"),
        (logical("string", "uuid"), "4711", "expected a UUID"),
        ("bytes", "4711é", "expected bytes as base64 text"),
        ({"type": "fixed", "name": "F", "size": 3}, "AQI=", "expected 3 bytes, got 2"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "4711", "expected a symbol of the enum E, got another text"),
        ({"type": "map", "values": "int"}, {"4711": "a"}, "field `v.{}`: expected an int, got text"),
        ("float", 1e300, "beyond its range"),
        ("boolean", "4711", "expected a boolean, got text"),
        ("null", 4711, "expected null, got a whole number"),
    ],
)
def test_values_that_do_not_fit_their_type(of, value, message):
    with pytest.raises(LoadError) as caught:
        one(of).encode({"v": value})
    assert message in str(caught.value)
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"", "ends too early"),
        (b"\x02", "ends too early"),
        (b"\x02\x02\x00\x00\x00", "1 bytes are left over"),
        (b"\x02\x02\x08\x00", "not Avro of its schema"),
        (None, "no value"),
        ({"id": 1}, "expected bytes holding Avro"),
        (Undecodable("too long"), "too long"),
    ],
)
def test_bytes_that_are_no_record_are_an_extract_error(value, message):
    with pytest.raises(ExtractError, match=message):
        order().decode(value)


@pytest.mark.parametrize("index", [-1, -2, -3, -5, -(2**40), -(2**63), 3, 2**62])
@pytest.mark.parametrize("levels", [0, 100])
def test_a_number_of_a_symbol_or_of_a_branch_that_there_is_not_is_an_extract_error(index, levels):
    """Python would count a negative one from the end. Long values of a schema that holds itself have another reader."""
    enum = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
    fields = [
        {"name": "e", "type": enum},
        {"name": "u", "type": ["null", "long"]},
        {"name": "in", "type": ["null", "R"]},
    ]
    made = codec("avro", AvroSettings(schema={"type": "record", "name": "R", "fields": fields}))
    around = (b"\x00\x02" + zigzag(2**62) + b"\x02") * levels
    for broken in (zigzag(index) + b"\x02\x04\x00", b"\x00" + zigzag(index) + b"\x04\x00", b"\x00\x00" + zigzag(index)):
        with pytest.raises(
            ExtractError, match="it names a type of a union, or a symbol of an enum, that the schema does not have"
        ):
            made.decode(around + broken)
    assert made.decode(around + b"\x02\x02\x04\x00")


UNION_OF_RECORDS = [
    {"type": "record", "name": "A", "fields": [{"name": "id", "type": "long"}]},
    {
        "type": "record",
        "name": "B",
        "fields": [{"name": "id", "type": "long"}, {"name": "name", "type": ["null", "string"], "default": None}],
    },
]


@pytest.mark.parametrize(
    ("value", "reads", "left_out"),
    [
        ({"id": 1}, {"id": 1}, 0),
        ({"id": 1, "name": "x"}, {"id": 1, "name": "x"}, 0),
        ({"id": 1, "name": "x", "more": 1}, {"id": 1, "name": "x"}, 1),
        ({"id": 1, "more": 1}, {"id": 1}, 1),
    ],
)
def test_of_records_in_a_union_the_one_is_written_that_leaves_out_the_fewest_fields(value, reads, left_out):
    made = one(UNION_OF_RECORDS, on_schema_change="ignore")
    assert made.decode(made.encode({"v": value})) == {"v": reads}
    assert made.left_out() == left_out


def test_fields_of_a_record_that_does_not_fit_are_not_counted_as_left_out():
    strict = {
        "type": "record",
        "name": "S",
        "fields": [{"name": "in", "type": UNION_OF_RECORDS[0]}, {"name": "n", "type": "int"}],
    }
    made = one([strict, {"type": "map", "values": {"type": "map", "values": "long"}}], on_schema_change="ignore")
    value = {"in": {"id": 1, "other": 2}}
    assert made.decode(made.encode({"v": value})) == {"v": value}
    assert made.left_out() == 0


def test_times_of_another_unit_are_the_same_moment(tmp_path):
    for family, of in (("local-timestamp", "long"), ("time", "int"), ("timestamp", "long")):
        wider = logical("long", f"{family}-micros")
        written = {"type": "record", "name": "R", "fields": [{"name": "v", "type": logical(of, f"{family}-millis")}]}
        (tmp_path / "w.avsc").write_text(json.dumps(written))
        wanted = {"type": "record", "name": "R", "fields": [{"name": "v", "type": wider}]}
        read = codec("avro", AvroSettings(schema=wanted, writer_schema_file="w.avsc"), CodecContext(base_dir=tmp_path))
        plain = codec("avro", AvroSettings(schema=written))
        text = {"time": "00:00:05.000", "timestamp": 5000}.get(family, "1970-01-01T00:00:05.000")
        assert read.decode(plain.encode({"v": text})) == {"v": text}


def test_a_schema_of_a_file_and_the_schema_that_records_were_written_with(tmp_path):
    old = {
        "type": "record",
        "name": "Order",
        "fields": [{"name": "id", "type": "int"}, {"name": "gone", "type": "int"}],
    }
    (tmp_path / "new.avsc").write_text(json.dumps(ORDER))
    (tmp_path / "old.avsc").write_text(json.dumps(old))
    context = CodecContext(base_dir=tmp_path)
    made = codec("avro", AvroSettings(schema_file="new.avsc", writer_schema_file="old.avsc"), context)
    data = codec("avro", AvroSettings(schema=old)).encode({"id": 1, "gone": 2})
    assert made.decode(data) == {"id": 1, "count": 1, "user": None, "tags": []}


def test_records_of_the_sinks_own_schema_pass_as_they_are_and_others_do_not():
    same, other = order(), order(timestamps="iso")
    assert same.passes(order())
    assert other.passes(same)
    assert not same.passes(one("int"))
    assert not same.passes(codec("json"))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"cannot read the schema .*s\.avsc: No such file"),
        ({"s.avsc": b"\xff"}, "not UTF-8"),
        ({"s.avsc": b"{"}, r"s\.avsc: not an Avro schema in JSON"),
        ({"s.avsc": b'{"type": "record"}'}, r"s\.avsc: not"),
        ({"s.avsc": b'"Other"'}, "names a type 'Other' that it does not define"),
        ({"s.avsc": b'{"type":"enum","name":"E","symbols":["A","A"]}'}, "not a valid Avro schema"),
    ],
)
def test_a_schema_that_cannot_be_used_is_told_with_its_file(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        codec("avro", AvroSettings(schema_file="s.avsc"), CodecContext(base_dir=tmp_path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "expected a schema: `schema`, `schema_file`, or `registry: true`"),
        ({"schema": ORDER, "schema_file": "a"}, "expected one of the two"),
        ({"schema": ORDER, "register": False}, "register: only with registry: true"),
        ({"schema": ORDER, "on_schema_change": "evolve"}, "evolve needs registry: true"),
        ({"registry": True, "writer_schema_file": "a"}, "writer_schema_file: only without registry"),
        ({"schema": 5}, "expected an Avro schema, as YAML or as JSON text"),
        ({"schema": "{"}, "not JSON at character 1"),
        ({"schema": {"type": "rekord"}}, "names a type"),
    ],
)
def test_settings_that_do_not_fit_together(settings, message):
    with pytest.raises(ValidationError) as caught:
        AvroSettings(**settings)
    assert message in str(caught.value)


NODE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}


@pytest.mark.parametrize("levels", [900, 3_000, 100_000])
def test_a_value_that_is_nested_without_end_is_an_error_of_its_record(levels):
    nodes = codec("avro", AvroSettings(schema=NODE))
    data = b"\x02" * levels + b"\x00"
    if levels < 1000:
        assert nodes.decode(data)["next"]["next"]["next"] is not None
        return
    with pytest.raises(ExtractError, match="nested too deeply"):
        nodes.decode(data)


def test_a_long_value_of_a_schema_that_holds_itself_is_read_all_the_same():
    fields = [{"name": "text", "type": "string"}, {"name": "at", "type": logical("long", "timestamp-micros")}]
    tree = {"type": "record", "name": "Tree", "fields": [*fields, {"name": "next", "type": ["null", "Tree"]}]}
    trees = codec("avro", AvroSettings(schema=tree))
    document = {"text": "x" * 5000, "at": 1.5, "next": {"text": "y", "at": 2, "next": None}}
    assert trees.decode(trees.encode(document)) == document


@pytest.mark.parametrize(
    "items",
    ["null", {"type": "fixed", "name": "F", "size": 0}, {"type": "record", "name": "E", "fields": []}],
)
def test_an_array_of_items_without_bytes_is_refused_since_it_could_claim_any_number_of_them(items):
    with pytest.raises(ConfigError, match="items that take no bytes"):
        one({"type": "array", "items": items})
    one({"type": "array", "items": ["null", "int"]})


def test_a_count_that_the_bytes_cannot_hold_is_an_error_of_its_record():
    numbers = one({"type": "array", "items": "int"})
    for count in (b"\x80\x80\x80\x80\x10", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"):
        with pytest.raises(ExtractError, match="ends too early"):
            numbers.decode(count + b"\x02")


TREE = {"type": "record", "name": "Tree", "fields": [{"name": "inner", "type": ["null", "Tree"]}]}
HEDGE = {"type": "record", "name": "Tree", "fields": [{"name": "inner", "type": {"type": "array", "items": "Tree"}}]}
# Each is within itself through the other.
PAIR = {
    "type": "record",
    "name": "A",
    "fields": [
        {"name": "b", "type": {"type": "record", "name": "B", "fields": [{"name": "inner", "type": ["null", "A"]}]}}
    ],
}
WITHIN = {"type": "record", "name": "R", "fields": [{"name": "itself", "type": "R"}]}


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        (TREE, b"\x02" * 300_000 + b"\x00"),
        (HEDGE, b"\x02" * 300_000 + b"\x00" * 300_001),
        (PAIR, b"\x02" * 300_000 + b"\x00"),
    ],
)
def test_whatever_is_within_itself_without_end_is_an_error_of_its_record(schema, data):
    with pytest.raises(ExtractError, match="nested too deeply"):
        codec("avro", AvroSettings(schema=schema)).decode(data)


def test_a_record_that_always_holds_itself_is_refused_with_the_schema():
    with pytest.raises(ConfigError, match="has no values"):
        codec("avro", AvroSettings(schema=WITHIN))


def test_what_is_within_itself_keeps_its_fields_after_one_that_was_nested_too_deeply():
    made = codec("avro", AvroSettings(schema=TREE))
    document = None
    for _ in range(200):
        document = {"inner": document}
    for _ in range(5):
        with pytest.raises(ExtractError, match="nested too deeply"):
            made.decode(b"\x02" * 10_000 + b"\x00")
        assert made.decode(made.encode(document)) == document


def test_a_field_that_is_within_itself_and_that_nobody_wants_is_bounded_as_well(tmp_path):
    (tmp_path / "old.avsc").write_text(json.dumps({"type": "record", "name": "R", "fields": [
        {"name": "tree", "type": TREE}, {"name": "v", "type": "int"},
    ]}))  # fmt: skip
    settings = AvroSettings(
        schema={"type": "record", "name": "R", "fields": [{"name": "v", "type": "int"}]}, writer_schema_file="old.avsc"
    )
    made = codec("avro", settings, CodecContext(base_dir=tmp_path))
    assert made.decode(b"\x02\x02\x00\x06") == {"v": 3}
    with pytest.raises(ExtractError, match="nested too deeply"):
        made.decode(b"\x02" * 300_000 + b"\x00\x06")


def test_a_document_that_is_nested_too_deeply_is_an_error_of_its_record():
    document = None
    for _ in range(900):
        document = {"inner": document}
    with pytest.raises(LoadError, match="nested too deeply"):
        codec("avro", AvroSettings(schema=TREE)).encode(document)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["timestamp-millis", "timestamp-micros", "timestamp-nanos"])
def test_what_is_no_number_is_no_time(name, value):
    with pytest.raises(LoadError, match="expected a time"):
        one(logical("long", name)).encode({"v": value})


@pytest.mark.parametrize(
    "value", ["1E+9999999", "1E+999990", "-1e400", "1E-9999999", "NaN", "-Infinity", 1e300, "1." + "0" * 2000 + "1"]
)
def test_a_decimal_that_is_far_from_fitting_is_refused_at_once(value):
    with pytest.raises(LoadError, match="expected a decimal number with up to 9 digits"):
        one(logical("bytes", "decimal", precision=9, scale=2)).encode({"v": value})


@pytest.mark.parametrize(
    ("value", "reads"), [("0E+9999999", "0.00"), ("-0", "0.00"), ("9999999.99", "9999999.99"), ("-0.01", "-0.01")]
)
def test_decimals_at_the_edges_of_their_precision(value, reads):
    made = one(logical("bytes", "decimal", precision=9, scale=2))
    assert made.decode(made.encode({"v": value})) == {"v": reads}


def test_a_time_of_day_has_no_zone():
    with pytest.raises(LoadError, match="without a zone"):
        one(logical("int", "time-millis")).encode({"v": "12:30:00+02:00"})


def test_a_schema_that_is_nested_without_end_is_none():
    with pytest.raises(ValidationError, match="nested too deeply"):
        AvroSettings(schema='{"type":"array","items":' * 50_000 + '"int"' + "}" * 50_000)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"name": "a", "type": "int", "default": "x"}, "`a`: its default is not an int"),
        ({"name": "a", "type": ["null", "string"], "default": 5}, "`a`: its default is none of the union's types"),
    ],
)
def test_a_default_that_is_none_is_told_before_anything_runs(field, message):
    with pytest.raises(ConfigError, match=message):
        codec("avro", AvroSettings(schema={"type": "record", "name": "R", "fields": [field]}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subject_strategy": "record_name"}, "subject_strategy: record_name needs a schema"),
        ({"register": False, "on_schema_change": "evolve"}, "evolve registers schemas"),
        ({"register": False, "compatibility": "FULL"}, "compatibility: only with register: true"),
    ],
)
def test_settings_of_a_registry_that_contradict_each_other(settings, message):
    with pytest.raises(ValidationError, match=message):
        AvroSettings(registry=True, **settings)

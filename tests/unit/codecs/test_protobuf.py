"""Protobuf: documents as Protobuf's own JSON has them, held against json_format, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from streamd.codecs import CodecContext, Undecodable, codec
from streamd.codecs.protobuf import schema
from streamd.codecs.protobuf.schema import message_class
from streamd.codecs.protobuf.settings import ProtobufSettings
from streamd.errors import ConfigError, ExtractError, LoadError

HERE = Path(__file__).parent
AT_HOME = CodecContext(base_dir=HERE)


def made(**settings):
    given = {"proto": "shop.proto", "message": "shop.Order", **settings}
    return codec("protobuf", ProtobufSettings(**given), AT_HOME)


ORDER = message_class(ProtobufSettings(proto="shop.proto", message="shop.Order"), HERE)
PLAIN, BARE = made(), made(defaults=False, field_names="json")

_INT32, _INT64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
_TEXT = st.text(max_size=8)
_LINE = st.recursive(
    st.fixed_dictionaries({}, optional={"sku": _TEXT, "quantity": _INT32}),
    lambda inner: st.fixed_dictionaries({"parts": st.lists(inner, max_size=2)}, optional={"sku": _TEXT}),
    max_leaves=4,
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)
_SECONDS = st.integers(-62135596800, 253402300799)
_MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "order_id": _INT64,
        "user": _TEXT,
        "amount": st.floats(),
        "ratio": st.floats(width=32),
        "paid": st.booleans(),
        "signature": st.binary(max_size=8),
        "small": st.integers(0, 2**32 - 1),
        "large": st.integers(0, 2**64 - 1),
        "zigzag": _INT32,
        "fixed": st.integers(0, 2**64 - 1),
        "kind": st.integers(-2, 5),
        "note": _TEXT,
        "rank": _INT32,
        "lines": st.lists(_LINE, max_size=3),
        "numbers": st.lists(_INT64, max_size=3),
        "kinds": st.lists(st.integers(0, 4), max_size=3),
        "weights": st.lists(st.floats(), max_size=3),
        "counts": st.dictionaries(_TEXT, _INT64, max_size=3),
        "flags": st.dictionaries(st.booleans(), _TEXT, max_size=2),
        "blobs": st.dictionaries(_TEXT, st.binary(max_size=4), max_size=2),
        "cash": _INT32,
        "line": _LINE,
        "from": _TEXT,
        "named": _TEXT,
        "total": _INT64.map(lambda n: {"value": n}),
        "score": st.floats().map(lambda n: {"value": n}),
        "alias": _TEXT.map(lambda t: {"value": t}),
        "blob": st.binary(max_size=4).map(lambda t: {"value": t}),
        "created_at": st.builds(
            lambda s, n: {"seconds": s, "nanos": n}, _SECONDS, st.sampled_from([0, 5, 250_000_000, 999_999_999])
        ),
        "took": st.integers(-10_000, 10_000).map(lambda s: {"seconds": s}),
    },
)


def as_numbers(document):
    """The JSON of json_format with whole numbers of 64 bits as numbers."""
    out = dict(document)
    for name in ("order_id", "orderId", "large", "fixed", "total"):
        if isinstance(out.get(name), str):
            out[name] = int(out[name])
    if "numbers" in out:
        out["numbers"] = [int(number) for number in out["numbers"]]
    if "counts" in out:
        out["counts"] = {key: int(value) for key, value in out["counts"].items()}
    return out


@given(_MESSAGES, _JSON)
def test_documents_are_what_json_format_makes_of_the_message(parts, anything):
    message = ORDER(**parts)
    json_format.ParseDict(anything, message.anything)
    message.extra["x"] = 1.5
    message.by_number[7].sku = "seven"
    data = message.SerializeToString()
    pool = ORDER.DESCRIPTOR.file.pool
    bare = json_format.MessageToDict(message, descriptor_pool=pool)
    whole = json_format.MessageToDict(
        message,
        descriptor_pool=pool,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    assert BARE.decode(data) == as_numbers(bare)
    assert PLAIN.decode(data) == as_numbers(whole)
    for each in (PLAIN, BARE):
        again = ORDER.FromString(each.encode(each.decode(data)))
        assert equal(again, message)


def equal(one, other):
    """Equal messages; numbers that are none are equal here."""
    return json_format.MessageToJson(one, sort_keys=True) == json_format.MessageToJson(other, sort_keys=True)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_document_or_refused(data):
    try:
        document = PLAIN.decode(data)
    except ExtractError:
        return
    assert isinstance(document, dict)


def test_times_are_text_or_milliseconds():
    message = ORDER()
    message.created_at.FromMilliseconds(1_769_860_800_250)
    data = message.SerializeToString()
    assert PLAIN.decode(data)["created_at"] == "2026-01-31T12:00:00.250Z"
    assert made(timestamps="ms").decode(data)["created_at"] == 1_769_860_800_250
    for given_as in (1_769_860_800_250, 1_769_860_800_250.0, "2026-01-31T13:00:00.250+01:00"):
        assert PLAIN.encode({"created_at": given_as}) == data


def test_an_any_of_a_known_type_is_there_and_back():
    line = message_class(ProtobufSettings(proto="shop.proto", message="shop.Line"), HERE)
    message = ORDER()
    message.any.type_url, message.any.value = "type.googleapis.com/shop.Line", line(sku="A").SerializeToString()
    data = message.SerializeToString()
    assert BARE.decode(data)["any"] == {"@type": "type.googleapis.com/shop.Line", "sku": "A"}
    assert BARE.encode(BARE.decode(data)) == data
    message.any.type_url = "type.googleapis.com/shop.Secret4711"
    with pytest.raises(ExtractError, match="has no JSON form") as caught:
        PLAIN.decode(message.SerializeToString())
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff", "its bytes make no message"),
        (b"\x12\x05ab", "its bytes make no message"),
        (b"\x12\x02\xff\xff", "is not UTF-8"),
        (b"\x12\xff\xff\xff\xff\x0f4711", "its bytes make no message"),
        (b"\xc2\x01\x0c\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x10\x01", "has no JSON form"),
        (None, "no value"),
        (Undecodable("too long"), "^too long$"),
    ],
)
def test_what_is_no_message_is_refused_without_its_contents(data, message):
    with pytest.raises(ExtractError, match=message) as caught:
        PLAIN.decode(data)
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"order_id": True}, "field `order_id`: expected a whole number, got a boolean"),
        ({"order_id": "47.11"}, "field `order_id`: expected a whole number, got text"),
        ({"order_id": 1 << 63}, "field `order_id`: expected a whole number of 64 bits"),
        ({"small": -4711}, "field `small`: expected a whole number of 32 bits without a sign"),
        ({"amount": "4711"}, "field `amount`: expected a number, got text"),
        ({"amount": 10**400}, "a number of 64 bits"),
        ({"ratio": 1e300}, "a number of 32 bits"),
        ({"paid": 1}, "field `paid`: expected a boolean, got a whole number"),
        ({"user": b"4711"}, "field `user`: expected text, got bytes"),
        ({"user": "4711\ud800"}, "no UTF-8 form"),
        ({"signature": "4711!"}, "expected bytes as base64 text"),
        ({"kind": "K4711"}, "expected a name of the enum shop.Kind, got another text"),
        ({"lines": [{}, {"quantity": "x"}]}, "field `lines.1.quantity`: expected a whole number"),
        ({"lines": [None]}, "field `lines.0`: expected an object, got null"),
        ({"lines": {}}, "field `lines`: expected a list, got an object"),
        ({"by_number": {"4711": {"nope": 1}}}, r"field `by_number.{}.nope`: is no field of the message"),
        ({"flags": {"yes": "4711"}}, "expected true or false"),
        ({"nope": 4711}, "field `nope`: is no field of the message"),
        ({"card": "4711", "cash": 1}, "another field of the oneof `payment` is there as well"),
        ({"order_id": 1, "orderId": 4711}, "is there by both of its names"),
        ({"created_at": "4711"}, "field `created_at`: expected a time in ms"),
        ({"created_at": 10**18}, "field `created_at`: expected a time in ms"),
        ({"took": "4711"}, "expected the JSON of a google.protobuf.Duration, got text"),
        ({"extra": {"a": {4711}}}, "expected the JSON of a google.protobuf.Struct"),
    ],
)
def test_what_does_not_fit_is_a_load_error_without_its_contents(document, message):
    with pytest.raises(LoadError, match=message) as caught:
        PLAIN.encode(document)
    assert "4711" not in str(caught.value)


def test_null_is_a_field_that_is_not_there_and_other_texts_are_taken_as_protobuf_does():
    nulls = {"user": None, "note": None, "lines": None, "cash": None}
    assert PLAIN.encode({**nulls, "card": "c"}) == PLAIN.encode({"card": "c"})
    assert (
        PLAIN.encode({"order_id": "-5", "small": 3.0, "amount": "Infinity"})
        == ORDER(order_id=-5, small=3, amount=math.inf).SerializeToString()
    )


def test_fields_that_the_message_lacks_may_be_left_out_and_are_counted():
    lenient = made(on_schema_change="ignore")
    assert lenient.encode({"user": "u", "nope": 1, "lines": [{"x": 1}]}) == PLAIN.encode({"user": "u", "lines": [{}]})
    assert (lenient.left_out(), lenient.left_out()) == (2, 0)


def test_a_descriptor_set_does_as_well_and_may_lack_what_google_has(tmp_path):
    data = schema.compiled(HERE / "shop.proto", [HERE])
    (tmp_path / "shop.desc").write_bytes(data)
    settings = ProtobufSettings(descriptor="shop.desc", message="shop.Line")
    lines = codec("protobuf", settings, CodecContext(base_dir=tmp_path))
    assert lines.decode(lines.encode({"sku": "A"})) == {"sku": "A", "quantity": 0, "parts": []}
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    own = FileDescriptorSet(file=[f for f in FileDescriptorSet.FromString(data).file if f.name == "shop.proto"])
    assert schema.found(own.SerializeToString(), "shop.Order", tmp_path).DESCRIPTOR.full_name == "shop.Order"


def test_what_cannot_be_used_is_said_when_the_pipeline_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "bad.proto").write_text("message {")
    (tmp_path / "bad.desc").write_bytes(b"\xff\xff")
    context = CodecContext(base_dir=tmp_path)
    for given_as, told in (
        ({"descriptor": "none.desc"}, "cannot read the descriptor set"),
        ({"descriptor": "bad.desc"}, "is no descriptor set"),
        ({"proto": "none.proto"}, "there is none"),
        ({"proto": "bad.proto"}, r"bad.proto:1:9"),
        (
            {"proto": str(HERE / "shop.proto"), "message": "shop.Nope"},
            "has no message 'shop.Nope'; there are shop.Line",
        ),
        ({"proto": str(HERE / "shop.proto"), "message": "google.protobuf.Struct"}, "fields of its own"),
    ):
        with pytest.raises(ConfigError, match=told):
            codec("protobuf", ProtobufSettings(**{"message": "shop.Order", **given_as}), context)
    monkeypatch.setattr(schema.shutil, "which", lambda name: None)
    monkeypatch.setattr(schema.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"install it, or streamd\[protoc\]"):
        schema.compiled(HERE / "shop.proto", [HERE])


def test_a_required_field_has_to_be_there(tmp_path):
    (tmp_path / "old.proto").write_text('syntax = "proto2"; message Old { required int32 a = 1; optional Old b = 2; }')
    old = codec("protobuf", ProtobufSettings(proto="old.proto", message="Old"), CodecContext(base_dir=tmp_path))
    assert old.decode(old.encode({"a": 1, "b": {"a": 2}})) == {"a": 1, "b": {"a": 2}}
    with pytest.raises(ExtractError, match="a required field is missing"):
        old.decode(b"")
    with pytest.raises(LoadError, match="a required field is missing"):
        old.encode({"b": {}})

"""MessagePack: maps there and back, what JSON has no word for, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.codecs import Undecodable, codec
from streamd.codecs.msgpack import MsgpackSettings
from streamd.errors import ExtractError, LoadError

MSGPACK = codec("msgpack")
pack = msgspec.msgpack.encode

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), _VALUES, max_size=6))
def test_any_json_document_survives_the_way_there_and_back(document):
    assert MSGPACK.decode(MSGPACK.encode(document)) == document


def test_bytes_and_extensions_are_base64_text():
    data = pack({"a": b"\xff\x00", "b": [{"c": b"x"}], "e": msgspec.msgpack.Ext(5, b"\x01\x02")})
    found = MSGPACK.decode(data)
    assert found == {"a": "/wA=", "b": [{"c": "eA=="}], "e": {"type": 5, "data": "AQI="}}


@pytest.mark.parametrize(
    ("moment", "ms", "iso"),
    [
        (datetime(2026, 1, 31, 12, tzinfo=UTC), 1769860800000, "2026-01-31T12:00:00Z"),
        (datetime(2026, 1, 31, 12, 0, 0, 250_000, UTC), 1769860800250, "2026-01-31T12:00:00.250Z"),
        (datetime(1969, 12, 31, 23, 59, 59, 999_500, UTC), -0.5, "1969-12-31T23:59:59.999500Z"),
    ],
)
def test_a_timestamp_is_milliseconds_or_text(moment, ms, iso):
    data = pack({"t": moment})
    assert MSGPACK.decode(data) == {"t": ms}
    assert codec("msgpack", MsgpackSettings(timestamps="iso")).decode(data) == {"t": iso}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not valid MessagePack: Input data was truncated"),
        (pack({"card": 4711}) + b"\x01", "trailing characters"),
        (pack({"card": 4711})[:-1], "truncated"),
        (pack(4711), "must be a MessagePack map"),
        (pack([4711]), "must be a MessagePack map"),
        (pack({4711: 1}), "with texts as keys"),
        (pack({b"4711": 1}), "with texts as keys"),
        (pack({"a": [{4711: 1}]}), "a key that is no text"),
        (b"\x81\xa1a\x81\x81\x01\x01\x01", "map keys must be hashable"),
        (b"\x81\xa1a\xa5\xff4711", "is not UTF-8"),
        (b"\x81\xa1a\xc1", "invalid opcode"),
        (b"\x81\xa1a\xdd\x7f\xff\xff\xff", "truncated"),
        (b"\xdf\xff\xff\xff\xff", "truncated"),
        (b"\x81\xa1a\xc6\xff\xff\xff\xff", "truncated"),
        (b"\x81\xa1a" + b"\x91" * 100_000, "nested too deeply"),
        (b"\x81\xa1a\xc7\x0c\xff\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff", "timestamp in it is out of range"),
        (None, "no value"),
        (Undecodable("too long"), r"^too long$"),
    ],
)
def test_what_is_no_record_is_refused_without_its_contents(data, message):
    with pytest.raises(ExtractError, match=message) as caught:
        MSGPACK.decode(data)
    assert "4711" not in str(caught.value)


def test_what_msgpack_cannot_hold_is_a_load_error():
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for document, message in (
        ({"a": 1 << 64}, "can't serialize ints"),
        ({"a": "\ud800"}, "no UTF-8 form"),
        ({"a": object()}, "type object is unsupported"),
        ({"a": deep}, "nested too deeply"),
    ):
        with pytest.raises(LoadError, match=message):
            MSGPACK.encode(document)
    while deep:
        deep = deep.pop()


def test_a_sink_writes_bytes_of_a_python_stage_as_bin():
    assert MSGPACK.encode({"a": b"\xff"}) == pack({"a": b"\xff"})

"""Any key goes through a chain and comes back as it was, in each format; equal keys have equal bytes."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.codecs.beside import Beside, codecs_beside
from streamd.codecs.codec import CodecContext
from streamd.errors import ExtractError
from streamd.plan.runtime_names import to_key
from streamd.sinks.kafka import KafkaSinkConfig

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LONG = st.integers(-(2**63), 2**63 - 1)
SCALAR = st.one_of(TEXT, LONG, st.booleans(), st.floats(allow_nan=False, allow_infinity=False))
VALUE = st.recursive(
    SCALAR, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3))
)
RECORD = {
    "type": "record",
    "name": "Key",
    "fields": [{"name": "id", "type": "long"}, {"name": "of", "type": ["null", "string"], "default": None}],
}
RECORDS = st.fixed_dictionaries({"id": LONG, "of": st.one_of(st.none(), TEXT)})

TEXTS = {"avro": {"schema": "string"}}


def beside(form: Any) -> Any:
    settings = KafkaSinkConfig.model_validate({"topic": "t", "key_format": form})
    return Beside("out", settings, dict(codecs_beside("out", settings, CodecContext())))


def turned(value: Any) -> Any:
    """The same value with the names of its objects in another order."""
    if isinstance(value, dict):
        return {name: turned(value[name]) for name in reversed(value)}
    return [turned(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("form", ["json", {"msgpack": {}}])
@given(value=VALUE)
def test_any_json_value_is_a_key(form: Any, value: Any) -> None:
    one = beside(form)
    data = one.encode_key(value)
    assert one.decode_key(data) == value
    assert one.encode_key(turned(value)) == data


@pytest.mark.parametrize(
    ("schema", "values"), [("string", TEXT), ("long", LONG), ("boolean", st.booleans()), (RECORD, RECORDS)]
)
@given(data=st.data())
def test_a_key_of_an_avro_schema_is_what_fastavro_reads(
    schema: Any, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    one, value = beside({"avro": {"schema": schema}}), data.draw(values)
    written = one.encode_key(value)
    assert one.decode_key(written) == value
    assert one.encode_key(turned(value)) == written
    assert fastavro.schemaless_reader(io.BytesIO(written), fastavro.parse_schema(schema), None) == value


@given(value=VALUE)
def test_a_key_without_a_format_is_text_or_json(value: Any) -> None:
    data = to_key(value)
    assert data == (value.encode() if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
    assert isinstance(value, str) or json.loads(data or b"") == value


@pytest.mark.parametrize(
    "form", ["json", {"msgpack": {}}, {"avro": {"schema": RECORD}}, {"avro": {"schema": "string"}}]
)
@given(data=st.binary(max_size=40))
def test_junk_as_a_key_is_a_value_or_an_extract_error(form: Any, data: bytes) -> None:
    one = beside(form)
    try:
        value = one.decode_key(data)
    except ExtractError as error:
        value = str(error)
        assert value.startswith("the record's key: ")
    assert isinstance(value, dict | list | str | int | float | bool | None)


@given(data=st.one_of(st.binary(max_size=8), TEXT.map(lambda text: beside(TEXTS).encode_key(text))))
def test_a_text_as_a_key_is_what_fastavro_reads_of_any_bytes(data: bytes) -> None:
    stream, one = io.BytesIO(data), beside(TEXTS)
    try:
        wanted = fastavro.schemaless_reader(stream, "string", None)
    except (EOFError, ValueError, OverflowError, IndexError):
        wanted = None
    if wanted is None or stream.tell() != len(data):
        with pytest.raises(ExtractError, match="the record's key: not Avro of its schema"):
            one.decode_key(data)
    else:
        assert one.decode_key(data) == wanted

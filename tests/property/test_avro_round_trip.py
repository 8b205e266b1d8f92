"""Any document of any schema comes back from Avro as it was, and fastavro reads the same from the same bytes."""

from __future__ import annotations

import io
import json
import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamd.codecs.avro.container import ContainerWriting
from streamd.codecs.avro.reading import reader
from streamd.codecs.avro.schema import Schema
from streamd.codecs.avro.values import Forms, base64_text
from streamd.codecs.avro.writing import Writing
from streamd.errors import ExtractError
from streamd.transport.files.blocks import AvroReading
from streamd.transport.files.lines import BEGINNING

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MOMENT = st.integers(-(2**40), 2**45)


def number(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


# (type, its values in a document)
PLAIN: list[tuple[Any, st.SearchStrategy[Any]]] = [
    ("boolean", st.booleans()),
    ("int", number(32)),
    ("long", number(64)),
    ("float", st.floats(width=32, allow_nan=False)),
    ("double", st.floats(allow_nan=False)),
    ("string", TEXT),
    ("bytes", st.binary(max_size=20).map(base64_text)),
    ({"type": "long", "logicalType": "timestamp-millis"}, MOMENT),
    ({"type": "int", "logicalType": "date"}, st.dates().map(date.isoformat)),
    ({"type": "string", "logicalType": "uuid"}, st.uuids().map(str)),
    (
        {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 3},
        st.integers(-(10**12) + 1, 10**12 - 1).map(lambda n: format(Decimal(n).scaleb(-3), "f")),
    ),
    (
        {"type": "int", "logicalType": "time-millis"},
        st.times().map(lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000).isoformat("milliseconds")),
    ),
    ({"type": "long", "logicalType": "time-micros"}, st.times().map(lambda t: t.isoformat("microseconds"))),
    (
        {"type": "long", "logicalType": "local-timestamp-micros"},
        st.datetimes().map(lambda moment: moment.isoformat(timespec="microseconds")),
    ),
]

NUMBERS = ("int", "long", "float", "double")


@st.composite
def types(draw: st.DrawFn, names: list[int], deep: int = 0) -> tuple[Any, st.SearchStrategy[Any]]:
    """A type and the documents' values of it."""
    shapes = ["plain", "plain", "named"] + ([] if deep > 2 else ["array", "map", "record", "optional", "union"])
    shape = draw(st.sampled_from(shapes))
    names.append(0)
    name = f"N{len(names)}"
    if shape == "plain":
        return draw(st.sampled_from(PLAIN))
    if shape == "named":
        if draw(st.booleans()):
            return {"type": "enum", "name": name, "symbols": ["A", "B", "C"]}, st.sampled_from("ABC")
        size = draw(st.integers(1, 5))
        return {"type": "fixed", "name": name, "size": size}, st.binary(min_size=size, max_size=size).map(base64_text)
    if shape == "union":
        # Of several numbers that a value could be, fastavro takes the first, which may round it.
        named = st.sampled_from([p for p in PLAIN if isinstance(p[0], str)])
        kinds = draw(st.lists(named, min_size=1, unique_by=lambda p: "number" if p[0] in NUMBERS else p[0]))
        return ["null", *(of for of, _ in kinds)], st.one_of(st.none(), *(values for _, values in kinds))
    if shape == "record":
        return draw(records(names, deep + 1))
    of, values = draw(types(names, deep + 1))
    if shape == "array":
        return {"type": "array", "items": of}, st.lists(values, max_size=3)
    if shape == "map":
        return {"type": "map", "values": of}, st.dictionaries(TEXT, values, max_size=3)
    if isinstance(of, list):
        return of, values
    return ["null", of], st.none() | values


@st.composite
def records(draw: st.DrawFn, names: list[int], deep: int = 0) -> tuple[Any, st.SearchStrategy[Any]]:
    names.append(0)
    name = f"N{len(names)}"
    # One within another has fields: arrays of items without bytes are refused.
    fields = [(f"f{n}", *draw(types(names, deep))) for n in range(draw(st.integers(1 if deep else 0, 4)))]
    schema = {"type": "record", "name": name, "fields": [{"name": n, "type": of} for n, of, _ in fields]}
    return schema, st.fixed_dictionaries({n: values for n, _, values in fields})


@st.composite
def documents(draw: st.DrawFn) -> tuple[Schema, Any]:
    schema, values = draw(records([]))
    return Schema(json.dumps(schema)), draw(values)


@given(documents())
def test_a_document_comes_back_as_it_was(case):
    schema, document = case
    tagged = Forms(unions="tagged")
    data = Writing(schema, Forms()).encode(document)
    read = reader(schema, None, Forms())(data, 0)
    # A union of types that look alike may take another of them, so that a text of bytes is one; it then stays so.
    assert read == document
    again = reader(schema, None, tagged)(data, 0)
    assert Writing(schema, tagged).encode(again) == data


@given(documents())
def test_fastavro_reads_what_was_written_and_we_read_what_it_writes(case):
    schema, document = case
    data = Writing(schema, Forms()).encode(document)
    parsed = fastavro.parse_schema(json.loads(schema.text))
    theirs = fastavro.schemaless_reader(io.BytesIO(data), parsed, None)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parsed, theirs)
    assert reader(schema, None, Forms())(out.getvalue(), 0) == document


@st.composite
def files(draw: st.DrawFn) -> tuple[Schema, list[Any], list[int]]:
    """A schema, documents of it, and how many go into each block."""
    schema, values = draw(records([]))
    sizes = draw(st.lists(st.integers(1, 4), max_size=4))
    made = [draw(values) for _ in range(sum(sizes))]
    return Schema(json.dumps(schema)), made, sizes


def read_file(data: bytes, size: int) -> list[Any]:
    cutter = AvroReading(None, Forms(), 1_000_000).cutter(Path("in.avro"), BEGINNING, lambda size: data[:size])
    found: list[Any] = []
    for at in range(0, len(data), size):
        found += cutter.feed(data[at : at + size]).values
        while cutter.waiting:
            found += cutter.feed(b"").values
    cutter.finish()
    return found


@given(files(), st.sampled_from(["null", "deflate", "snappy", "bzip2"]), st.integers(1, 5000))
def test_a_file_comes_back_as_it_was_and_is_one_for_fastavro_and_back(case, codec, size):
    schema, documents, sizes = case
    made, writing, rest = ContainerWriting(schema, codec), Writing(schema, Forms()), list(documents)
    data = made.header
    for count in sizes:
        data += made.block([writing.encode(document) for document in rest[:count]])
        del rest[:count]
    assert read_file(data, size) == documents
    theirs = list(fastavro.reader(io.BytesIO(data)))
    out = io.BytesIO()
    fastavro.writer(out, json.loads(schema.text), theirs, codec, sync_interval=50)
    assert read_file(out.getvalue(), size) == documents


@given(documents(), st.data())
def test_bytes_that_are_damaged_are_an_error_or_another_document_and_nothing_else(case, data):
    schema, document = case
    written = bytearray(Writing(schema, Forms()).encode(document))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(written)))
        written[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        found = reader(schema, None, Forms())(bytes(written), 0)
    except ExtractError:
        return
    assert found.keys() == document.keys()


@given(MOMENT, st.integers(0, 999))
@example(8_796_093_022_208, 1)
@example(8_796_093_022_206, 999)
@example(-8_796_093_022_206, 999)
def test_microseconds_are_exact_as_ms_until_2248_and_as_text(milliseconds, micros):
    of = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "t", "type": {"type": "long", "logicalType": "timestamp-micros"}}],
    }
    schema = Schema(json.dumps(of))
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds, microseconds=micros)
    data = Writing(schema, Forms()).encode({"t": moment.isoformat()})
    for forms in (Forms(), Forms(timestamps="iso")):
        # Beyond 2⁴³ ms a float has no bits left for microseconds.
        if forms.timestamps == "iso" or not micros or abs(milliseconds) + 1 < 2**43:
            read = reader(schema, None, forms)(data, 0)
            assert Writing(schema, forms).encode(read) == data
    iso = reader(schema, None, Forms(timestamps="iso"))(data, 0)["t"]
    assert datetime.fromisoformat(iso) == moment


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_pass_a_double(value):
    schema = Schema(json.dumps({"type": "record", "name": "R", "fields": [{"name": "d", "type": "double"}]}))
    read = reader(schema, None, Forms())(Writing(schema, Forms()).encode({"d": value}), 0)["d"]
    assert str(read) == str(value)

"""Avro object container files, cut into records: what fastavro wrote, and what is damaged."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import fastavro
import pytest

from streamd.codecs import Undecodable
from streamd.codecs.avro.container import MOST_BLOCK_BYTES, parse_header
from streamd.codecs.avro.schema import Schema
from streamd.codecs.avro.values import Forms
from streamd.codecs.avro.writing import zigzag
from streamd.errors import FatalError
from streamd.transport.files import blocks
from streamd.transport.files.blocks import AvroReading
from streamd.transport.files.lines import BEGINNING

PATH = Path("in.avro")
SCHEMA = {"type": "record", "name": "Order", "fields": [{"name": "n", "type": "long"}]}
SCHEMA_TEXT = '{"type": "record", "name": "Order", "fields": [{"name": "n", "type": "long"}]}'
CODECS = ["null", "deflate", "snappy", "zstandard", "bzip2"]


def container(count, codec="null", schema=SCHEMA, records=None, **settings):
    file = io.BytesIO()
    records = [{"n": n} for n in range(count)] if records is None else records
    if codec in ("snappy", "zstandard"):
        from streamd.codecs.avro.container import ContainerWriting

        plain = io.BytesIO(container(count, records=records, schema=schema, **settings))
        made = ContainerWriting(Schema(SCHEMA_TEXT), codec)
        return made.header + b"".join(
            made.block([zigzag(record["n"]) for record in block]) for block in fastavro.block_reader(plain)
        )
    fastavro.writer(file, schema, records, codec, **{"sync_interval": 30, **settings})
    return file.getvalue()


def cut(data, size=None, spot=BEGINNING, max_bytes=1000, target=None, forms=None):
    """All records, in pieces of so many bytes; with the spot behind each."""
    cutter = AvroReading(target, forms or Forms(), max_bytes).cutter(PATH, spot, lambda size: data[:size])
    rest, found = data[spot[0] :], []
    pieces = [rest[at : at + (size or len(rest) or 1)] for at in range(0, len(rest), size or len(rest) or 1)]
    for piece in pieces:
        lines = cutter.feed(piece)
        while True:
            found += [(value, lines.spot(at + 1)) for at, value in enumerate(lines.values)]
            if not cutter.waiting:
                break
            lines = cutter.feed(b"")
    assert cutter.finish().values == []
    return found


def values(data, **settings):
    return [value for value, _ in cut(data, **settings)]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [1, 7, 100, None])
def test_records_are_the_same_however_the_bytes_come(codec, size):
    assert values(container(100, codec), size=size) == [{"n": n} for n in range(100)]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("parts", [(2000, 1024 * 1024, 20_000), (3, 10, 2), (1, 1, 0)])
def test_every_spot_is_one_to_go_on_from(monkeypatch, codec, parts):
    for name, value in zip(("_RECORDS", "_BYTES", "_WHOLE_RECORDS"), parts, strict=True):
        monkeypatch.setattr(blocks, name, value)
    data = container(50, codec)
    found = cut(data)
    assert [value["n"] for value, _ in found] == list(range(50))
    for number, (_, spot) in enumerate(found, 1):
        assert spot[2] == number
        assert [value["n"] for value in values(data, spot=spot)] == list(range(number, 50))


def test_the_files_of_other_writers_with_snappy_are_read():
    file = io.BytesIO()
    fastavro.writer(file, SCHEMA, [{"n": n} for n in range(100)], "snappy")
    assert values(file.getvalue()) == [{"n": n} for n in range(100)]


def test_a_file_without_records_and_one_without_bytes():
    assert values(container(0)) == []
    assert values(b"") == []


def test_the_reader_has_a_schema_of_its_own():
    target = Schema(
        '{"type": "record", "name": "Order", "fields": [{"name": "m", "aliases": ["n"], "type": "double"}, '
        '{"name": "kind", "type": "string", "default": "sale"}]}'
    )
    assert values(container(2), target=target) == [{"m": 0.0, "kind": "sale"}, {"m": 1.0, "kind": "sale"}]


KINDS = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["a", "b"]}},
        {"name": "n", "type": "long"},
    ],
}


def test_a_record_that_cannot_be_resolved_is_an_error_of_its_own():
    target = Schema(
        '{"type": "record", "name": "Order", "fields": [{"name": "n", "type": "long"}, '
        '{"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["a"]}}]}'
    )
    records = [{"kind": "ab"[n % 2], "n": n} for n in range(4)]
    found = values(container(0, schema=KINDS, records=records), target=target)
    assert found[::2] == [{"n": 0, "kind": "a"}, {"n": 2, "kind": "a"}]
    assert all(isinstance(value, Undecodable) for value in found[1::2])
    assert "enum `Kind` does not have the symbol" in found[1].reason
    assert found[3].raw == b"\x02\x06"


def test_where_no_record_can_be_resolved_each_is_an_error():
    target = Schema('{"type": "record", "name": "Order", "fields": [{"name": "other", "type": "long"}]}')
    found = values(container(3), target=target)
    assert [value.raw for value in found] == [b"\x00", b"\x02", b"\x04"]
    assert "`other`: was not written, and has no default" in found[0].reason


def test_a_text_that_is_not_utf_8_and_a_record_that_is_too_long():
    schema = {"type": "record", "name": "T", "fields": [{"name": "t", "type": "bytes"}]}
    data = container(0, schema=schema, records=[{"t": b"ok"}, {"t": b"\xff"}, {"t": b"x" * 500}, {"t": b"ok"}])
    data = data.replace(b'"bytes"', b'"string"')
    meta = parse_header_of_text(data)
    found = values(meta, max_bytes=100)
    assert (found[0], found[3]) == ({"t": "ok"}, {"t": "ok"})
    assert found[1].reason == "not Avro of its schema: a text in it is not UTF-8"
    assert "more than 100 bytes" in found[2].reason
    assert len(found[2].raw) == 100


def parse_header_of_text(data):
    """The header again, its schema's length put right after `bytes` became `string`."""
    at = data.index(b"avro.schema") + len("avro.schema")
    size = data[at] & 0x7F | data[at + 1] << 7
    return data[:at] + zigzag((size >> 1) + 1) + data[at + 2 :]


def test_a_value_that_is_no_record():
    found = values(container(0, schema="long", records=[7]))
    assert (found[0].reason, found[0].raw) == ("the Avro value is no record", b"\x0e")


def error(data, **settings):
    with pytest.raises(FatalError) as caught:
        cut(data, **settings)
    return str(caught.value)


@pytest.mark.parametrize("data", [b"{}", b"Obj\x02abc", b"PK\x03\x04", b"\x00" * 100])
def test_a_file_that_is_no_avro(data):
    assert error(data) == "in.avro is no Avro object container file: it does not begin with `Obj` and a byte of 1"


@pytest.mark.parametrize("codec", CODECS)
def test_wherever_a_file_is_cut_off_it_says_so(codec):
    data = container(40, codec)
    whole = {0, parse_header(data, PATH).size} | {spot[0] for _, spot in cut(data)}
    for size in range(1, len(data)):
        if size in whole:
            assert len(cut(data[:size])) <= 40
        else:
            assert f"is cut off: it ends inside {'its header' if size < min(whole - {0}) else 'the block'}" in error(
                data[:size]
            )


@pytest.mark.parametrize("codec", CODECS)
def test_no_damaged_byte_hangs_or_crashes(codec):
    data = container(30, codec)
    for at in range(len(data)):
        for change in (0x01, 0x80, 0xFF):
            damaged = data[:at] + bytes([data[at] ^ change]) + data[at + 1 :]
            # Whatever else it raises fails this test. Some bytes are as good as what they were.
            with suppress(FatalError):
                assert all(value.__class__ in (dict, Undecodable) for value in values(damaged))


def test_a_wrong_sync_marker_is_told_with_its_block():
    data = container(3, sync_interval=16000)
    start = parse_header(data, PATH).size
    assert error(data[:-1] + bytes([data[-1] ^ 1])) == (
        f"in.avro is damaged from byte {start} on, as an Avro file: the block that begins there does not end with the "
        "file's sync marker"
    )


def block(count, records, sync, size=None):
    return zigzag(count) + zigzag(len(records) if size is None else size) + records + sync


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda sync: block(2, b"\x02", sync), "cannot be read: not Avro of its schema: it ends too early"),
        (lambda sync: block(1, b"\x02\x02", sync), "1 bytes are left over behind the records"),
        (lambda sync: block(-1, b"\x02", sync), "a block claims -1 records"),
        (lambda sync: block(1, b"\x02", sync, size=MOST_BLOCK_BYTES + 1), "expected at most"),
        (lambda sync: block(1, b"\x02", sync, size=-5), "a block claims 1 records in -5 bytes"),
        (lambda sync: block(2**62, b"\x02", sync), "claims 4611686018427387904 records in 1 bytes"),
        (lambda sync: b"\xff" * 30, "does not begin with its number of records"),
    ],
)
def test_a_block_that_says_what_it_does_not_hold(made, message):
    data = container(0)
    assert message in error(data + made(data[-16:]))


def test_a_compressed_block_that_would_fill_all_memory():
    from streamd.codecs.avro.container import ContainerWriting

    made = ContainerWriting(Schema(SCHEMA_TEXT), "deflate")
    data = made.header + made.block([b"\x00" * (MOST_BLOCK_BYTES + 1)])
    assert len(data) < 1_000_000
    assert f"more than {MOST_BLOCK_BYTES} bytes when decompressed" in error(data)


def test_an_unknown_codec_and_a_schema_that_is_none():
    data = container(1)
    assert "'nil1' inside, expected one of null, deflate, snappy, zstandard, bzip2" in error(
        data.replace(b"null", b"nil1")
    )
    assert "the schema in its header cannot be used" in error(data.replace(b'"long"', b'"lang"'))

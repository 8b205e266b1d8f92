"""Records one behind the other: MessagePack and Protobuf, cut anywhere, too long, too deep and damaged."""

from __future__ import annotations

import io
import random
from contextlib import suppress
from pathlib import Path

import msgpack
import pytest
from google.protobuf.proto import serialize_length_prefixed
from google.protobuf.struct_pb2 import Struct

from demo.malformed import mutated
from streamd.codecs import Format, Undecodable
from streamd.codecs.format import framing_of
from streamd.codecs.protobuf.frames import MOST_MESSAGE_BYTES
from streamd.codecs.varint import varint
from streamd.errors import FatalError
from streamd.transport.files.frames import FrameCutter

PATH = Path("in.bin")
FORMATS = ["msgpack", "protobuf"]
DOCUMENTS = [{"n": n, "text": "x" * (n * 37 % 301), "list": [n, None, {"deep": [True]}]} for n in range(60)]


def message(document):
    made = Struct()
    made.update(document)
    return made


def one(form, document):
    """A record's own bytes."""
    return msgpack.packb(document) if form == "msgpack" else message(document).SerializeToString()


def framed(form, documents):
    """A file as the formats' own libraries write it."""
    out = io.BytesIO()
    for document in documents:
        if form == "msgpack":
            out.write(msgpack.packb(document))
        else:
            serialize_length_prefixed(message(document), out)
    return out.getvalue()


def records(form):
    return [one(form, document) for document in DOCUMENTS]


def cutter(form, offset=0, max_bytes=1000):
    return FrameCutter(framing_of(Format(form)), PATH, offset, max_bytes)


def cut(form, data, size=None, offset=0, max_bytes=1000):
    """All records of a file from a byte on, which comes in pieces of so many bytes: (value, start, spot behind it)."""
    cutting, found = cutter(form, offset, max_bytes), []
    size = size or len(data) or 1
    pieces = [data[at : at + size] for at in range(offset, len(data), size)]
    for lines in [*map(cutting.feed, pieces), cutting.feed(b""), cutting.finish()]:
        found += [(value, lines.starts[at], lines.spot(at + 1)) for at, value in enumerate(lines.values)]
    assert cutting.spot == (len(data), 0, 0)
    return found


def values(form, data, **settings):
    return [value for value, _, _ in cut(form, data, **settings)]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 1000, None])
def test_records_are_the_same_however_the_bytes_come(form, size):
    assert values(form, framed(form, DOCUMENTS), size=size) == records(form)


@pytest.mark.parametrize("form", FORMATS)
def test_every_spot_is_one_to_go_on_from(form):
    data = framed(form, DOCUMENTS)
    found = cut(form, data)
    assert [start for _, start, _ in found] == [0, *(spot[0] for _, _, spot in found[:-1])]
    for number, (_, _, spot) in enumerate(found, 1):
        assert values(form, data, offset=spot[0], size=50) == records(form)[number:]


@pytest.mark.parametrize("form", FORMATS)
def test_frames_are_packed_as_the_library_writes_them(form):
    assert framing_of(Format(form)).pack(records(form)) == framed(form, DOCUMENTS)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", [1, 100, None])
def test_wherever_a_file_is_cut_off_its_last_record_is_an_error_with_its_byte(form, size):
    data = framed(form, DOCUMENTS[:5])
    ends = [spot[0] for _, _, spot in cut(form, data)]
    for length in range(1, len(data)):
        found = cut(form, data[:length], size=size)
        whole = sum(end <= length for end in ends)
        assert [value for value, _, _ in found[:whole]] == records(form)[:whole]
        if length in ends:
            assert len(found) == whole
            continue
        [(value, start, spot)] = found[whole:]
        assert (start, spot) == ([0, *ends][whole], (length, 0, 0))
        assert (value.raw, value.cut) == (data[start:length], False)
        assert value.reason == (
            f"the file ends inside the record that begins at byte {start}: {length - start} bytes of it are there"
        )


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", [1, 9, 1000, None])
@pytest.mark.parametrize("long", [{"t": "x" * 5000}, {"t": ["x" * 60] * 90}, {"t": [0] * 3000}])
def test_a_record_that_is_too_long_is_an_error_of_its_own(form, size, long):
    data = framed(form, [{"n": 1}, long, {"n": 2}, long, long, {"n": 3}])
    found = values(form, data, size=size, max_bytes=300)
    raw = one(form, long)
    assert [value for value in found if value.__class__ is bytes] == [one(form, {"n": n}) for n in (1, 2, 3)]
    for value in (found[1], found[3], found[4]):
        assert value.reason == (
            f"the record has more than 300 bytes (max_record_bytes): it has {len(raw)}, of which the first 300 are kept"
        )
        assert (value.raw, value.cut) == (raw[:300], True)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", [1, 10, None])
def test_a_record_of_just_as_many_bytes_as_may_be_is_one(form, size):
    document = {"t": "x" * 200}
    length = len(one(form, document))
    data = framed(form, [document] * 3)
    assert values(form, data, size=size, max_bytes=length) == [one(form, document)] * 3
    assert {value.__class__ for value in values(form, data, size=size, max_bytes=length - 1)} == {Undecodable}


@pytest.mark.parametrize("form", FORMATS)
def test_a_long_record_that_the_file_ends_in_is_an_error_with_its_beginning(form):
    data = framed(form, [{"n": 1}, {"t": "x" * 200_000}])
    found = cut(form, data[:-10], size=1000)
    start = found[0][2][0]
    assert found[1][0].reason.endswith(f"begins at byte {start}: {len(data) - 10 - start} bytes of it are there")
    assert found[1][0].cut
    assert data[start:].startswith(found[1][0].raw)


@pytest.mark.parametrize("form", FORMATS)
def test_a_long_record_is_not_held(form):
    cutting = cutter(form)
    data = framed(form, [{"t": "x" * 3_000_000}, {"n": 1}])
    for at in range(0, len(data), 1000):
        found = cutting.feed(data[at : at + 1000])
        assert len(cutting._data) <= 1016
    assert found.values[-1] == one(form, {"n": 1})


@pytest.mark.parametrize("size", [1, 100, None])
@pytest.mark.parametrize("depth", [500, 1023, 1024, 5000])
def test_messagepack_that_is_nested_deeply_is_one_record_all_the_same(size, depth):
    deep = b"\x81\xa1d" * depth + b"\x01"
    parts = [one("msgpack", {"n": 1}), deep, one("msgpack", {"n": 2}), deep, one("msgpack", {"n": 3})]
    assert values("msgpack", b"".join(parts), size=size, max_bytes=100_000) == parts


def every_kind():
    """A MessagePack value for each first byte that begins one."""
    for first in range(256):
        head = bytes([first])
        if 0x80 <= first <= 0x8F:
            yield head + b"\xa1k\x01" * (first & 15)
        elif 0x90 <= first <= 0x9F:
            yield head + b"\x01" * (first & 15)
        elif 0xA0 <= first <= 0xBF:
            yield head + b"x" * (first & 31)
    for data in (None, False, True, 200, 60_000, 2**31, 2**63, -100, -3000, -(2**31), -(2**63), 1.5):
        yield msgpack.packb(data)
    yield msgpack.packb(1.5, use_single_float=True)
    for size in (40, 300, 70_000):
        for data in ("x" * size, b"x" * size, [1] * size, dict.fromkeys(map(str, range(size)), 1)):
            yield msgpack.packb(data)
    for size in (1, 2, 4, 8, 16, 3, 300, 70_000):
        yield msgpack.packb(msgpack.ExtType(5, b"x" * size))


@pytest.mark.parametrize("size", [1000, None])
def test_every_kind_of_messagepack_value_ends_where_it_does_also_when_it_is_walked_through(size):
    kinds = list(every_kind())
    data = b"".join(kinds)
    assert values("msgpack", data, size=size, max_bytes=10**6) == kinds
    # Around each value there are so many levels that the library does not take it.
    deep = [b"\x91" * 1100 + kind for kind in kinds]
    assert values("msgpack", b"".join(deep), size=size, max_bytes=10**6) == deep


def error(form, data, **settings):
    with pytest.raises(FatalError) as caught:
        cut(form, data, **settings)
    return str(caught.value)


DAMAGE = {
    "msgpack": (b"\x81\xa1n\xc1", "as a file of MessagePack: a byte of 0xc1, which begins no value"),
    "protobuf": (varint(MOST_MESSAGE_BYTES + 1), "as a file of Protobuf: a length of more than 2147483647 bytes"),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", [1, None])
def test_what_can_be_no_frame_stops_the_reading_behind_all_that_is_before_it(form, size):
    damage, reason = DAMAGE[form]
    good = framed(form, DOCUMENTS)
    cutting, found = cutter(form), []
    data = good + damage + good
    size = size or len(data)

    def read_on():
        for at in range(0, len(data), size):
            found.extend(cutting.feed(data[at : at + size]).values)
        assert cutting.waiting
        cutting.feed(b"")

    with pytest.raises(FatalError, match=f"in.bin is damaged from byte {len(good)} on, {reason}"):
        read_on()
    assert found == records(form)
    assert cutting.spot == (len(good), 0, 0)


@pytest.mark.parametrize("lead", [b"\x91" * 2000, b"\xdd\x00\x00\x10\x00" + b"\x01" * 2000])
def test_damage_within_a_value_that_is_walked_through(lead):
    good = one("msgpack", {"n": 1})
    message = error("msgpack", good + lead + b"\xc1" + good, size=500)
    assert message == (
        f"in.bin is damaged from byte {len(good)} on, as a file of MessagePack: a byte of 0xc1, which begins no value"
    )


@pytest.mark.parametrize("data", [b"\xff" * 5, b"\x80" * 20, b"\xff\xff\xff\xff\x7f"])
def test_a_length_that_is_none(data):
    assert "damaged from byte 0 on, as a file of Protobuf" in error("protobuf", data)


@pytest.mark.parametrize(
    ("form", "data"),
    [
        ("msgpack", b"\xdb\xff\xff\xff\xff"),
        ("msgpack", b"\xc9\xff\xff\xff\xfe\x01"),
        ("msgpack", b"\xdd\xff\xff\xff\xff"),
        ("msgpack", b"\xdf\xff\xff\xff\xff"),
        ("protobuf", varint(MOST_MESSAGE_BYTES)),
    ],
)
def test_a_length_beyond_the_file_takes_no_memory_and_is_told(form, data):
    cutting = cutter(form)
    for _ in range(100):
        assert cutting.feed(data + b"\x00" * 10_000).values == [] or form == "msgpack"
        assert len(cutting._data) <= 1016
        data = b""
    [value] = cutting.finish().values
    assert value.reason.startswith("the file ends inside the record that begins at byte 0: 10000")


@pytest.mark.parametrize("form", FORMATS)
def test_no_mutated_file_hangs_or_crashes_and_every_byte_is_accounted_for(form):
    good, chance = framed(form, DOCUMENTS[:8]), random.Random(11)
    files = [
        good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :] for at in range(len(good)) for flip in (1, 0x80, 0xFF)
    ]
    files += [mutated(chance, [good]) for _ in range(300)]
    for data in files:
        for size in (97, None):
            with suppress(FatalError):
                # `cut` has each frame begin where the one before it ends, up to the end of the file.
                found = cut(form, data, size=size, max_bytes=200)
                assert [start for _, start, _ in found] == [0, *(spot[0] for _, _, spot in found)][: len(found)]
                assert {value.__class__ for value, _, _ in found} <= {bytes, Undecodable}


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_without_bytes_has_no_records(form):
    assert values(form, b"") == []

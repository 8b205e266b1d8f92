"""Finding the readable records in a response's bytes: aborted, incomplete, spoilt, old."""

from __future__ import annotations

import struct

import crc32c
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from streamd.errors import FatalError, TransientError
from streamd.transport.kafka.records import FetchedRecords

COMMIT, ABORT = b"\0\0\0\1", b"\0\0\0\0"
TRANSACTIONAL, CONTROL = 0x10, 0x20


def batch(base: int, values: list[bytes], producer: int = -1, attributes: int = 0, last: int | None = None) -> bytes:
    """A batch as it lies in the log; `last`: its last offset when records at its end were compacted away."""
    builder = DefaultRecordBatchBuilder(2, 0, bool(attributes & TRANSACTIONAL), producer, 0, 0, 1 << 20)
    for number, value in enumerate(values):
        key = value if attributes & CONTROL else None
        builder.append(number, 1000 + number, key, value, [])
    data = builder.build()
    struct.pack_into(">q", data, 0, base)
    struct.pack_into(">h", data, 21, attributes)
    if last is not None:
        struct.pack_into(">i", data, 23, last - base)
    struct.pack_into(">I", data, 17, crc32c.crc32c(bytes(data[21:])))
    return bytes(data)


def fetched(data: bytes, offset: int = 0, aborted: list[tuple[int, int]] | None = None, check: bool = True):
    return FetchedRecords(b"head" + data + b"tail", 4, 4 + len(data), offset, aborted, check, "t[0]")


def values(records: FetchedRecords, most: int = 1000) -> list[bytes | None]:
    return [record.value for record in records.take(most)]


def test_records_before_the_offset_are_left_out():
    data = batch(0, [b"0", b"1", b"2"]) + batch(3, [b"3", b"4"])
    found = fetched(data, 2)
    assert found.next_offset == 5
    assert values(found) == [b"2", b"3", b"4"]
    assert values(fetched(data, 3)) == [b"3", b"4"]


def test_an_incomplete_batch_at_the_end_waits_for_the_next_response():
    whole = batch(0, [b"0"])
    for cut in range(1, len(whole)):
        found = fetched(whole + batch(1, [b"1"])[:cut])
        assert found.next_offset == (2 if cut == len(batch(1, [b"1"])) else 1)
        assert values(found) == [b"0"]
    assert fetched(whole[:5]).next_offset == 0


def test_aborted_transactions_are_left_out_until_their_marker():
    data = (
        batch(0, [b"good"], 7, TRANSACTIONAL)
        + batch(1, [b"other's"], 8, TRANSACTIONAL)
        + batch(2, [COMMIT], 7, TRANSACTIONAL | CONTROL)
        + batch(3, [b"bad", b"bad"], 7, TRANSACTIONAL)
        + batch(5, [b"plain"], 7)
        + batch(6, [ABORT], 7, TRANSACTIONAL | CONTROL)
        + batch(7, [b"good again"], 7, TRANSACTIONAL)
        + batch(8, [ABORT], 8, TRANSACTIONAL | CONTROL)
        + batch(9, [COMMIT], 7, TRANSACTIONAL | CONTROL)
    )
    found = fetched(data, 0, [(7, 3), (8, 1)])
    assert found.next_offset == 10
    assert values(found) == [b"good", b"plain", b"good again"]
    assert found.position == 10, "the position passes trailing markers"
    everything = fetched(data, 0, None)
    assert len(everything.take(100)) == 6, "markers are no records for those who read everything"


def test_a_response_that_begins_within_an_aborted_transaction():
    data = batch(3, [b"bad"], 7, TRANSACTIONAL) + batch(4, [ABORT], 7, TRANSACTIONAL | CONTROL)
    found = fetched(data, 3, [(7, 1)])
    assert (values(found), found.position) == ([], 5)


def test_the_position_passes_records_that_were_compacted_away():
    data = batch(0, [b"0"], last=9) + batch(10, [b"10"], last=19)
    found = fetched(data)
    assert values(found, 1) == [b"0"]
    assert found.position == 1
    assert values(found, 2) == [b"10"]
    assert found.position == found.next_offset == 20


def test_a_batch_without_records_moves_the_position():
    found = fetched(batch(0, [b"x"])[:0] + _emptied(batch(5, [b"x"], last=7)), 5)
    assert (values(found), found.position) == ([], 8)


def _emptied(data: bytes) -> bytes:
    """As compaction leaves the last batch of a producer: a header alone."""
    head = bytearray(data[:61])
    struct.pack_into(">i", head, 8, 49)
    struct.pack_into(">i", head, 57, 0)
    struct.pack_into(">I", head, 17, crc32c.crc32c(bytes(head[21:])))
    return bytes(head)


def test_a_spoilt_batch_is_noticed_and_not_when_told_not_to_look():
    data = bytearray(batch(0, [b"value"]))
    data[-2] ^= 1
    with pytest.raises(TransientError, match=r"t\[0\] at offset 0 does not match its checksum"):
        fetched(bytes(data))
    assert len(fetched(bytes(data), check=False).take(10)) == 1


def test_a_batch_that_cannot_be_unpacked_is_an_error_and_keeps_the_position():
    data = bytearray(batch(0, [b"0"]) + batch(1, [b"1"]))
    second = len(batch(0, [b"0"]))
    data[second + 61] = 0x7E  # the length of its record
    struct.pack_into(">I", data, second + 17, crc32c.crc32c(bytes(data[second + 21 :])))
    found = fetched(bytes(data))
    assert values(found, 1) == [b"0"]
    with pytest.raises(TransientError, match="cannot be unpacked"):
        found.take(1)
    assert found.position == 1


def test_an_unknown_compression_is_an_error():
    with pytest.raises(FatalError, match="compressed"):
        fetched(batch(0, [b"0"], attributes=5)).take(1)


@pytest.mark.parametrize("magic", [0, 1])
def test_legacy_messages_are_read(magic):
    builder = LegacyRecordBatchBuilder(magic, 0, 1 << 20)
    for number in range(3):
        builder.append(number, 1000 + number, b"k%d" % number, b"v%d" % number)
    found = fetched(bytes(builder.build()), 1)
    records = found.take(10)
    assert [(r.key, r.value, r.offset, list(r.headers)) for r in records] == [
        (b"k1", b"v1", 1, []),
        (b"k2", b"v2", 2, []),
    ]
    assert [r.timestamp for r in records] == ([1001, 1002] if magic else [0, 0])
    assert found.position == 3


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=8),
    start=st.integers(0, 40),
    takes=st.lists(st.integers(1, 7), min_size=1, max_size=60),
)
def test_taking_in_pieces_gives_the_same_as_taking_all(sizes, start, takes):
    data, base = b"", 0
    for size in sizes:
        data += batch(base, [b"%d" % (base + number) for number in range(size)])
        base += size
    found = fetched(data, start)
    pieces: list[bytes | None] = []
    for most in takes:
        records = found.take(most)
        pieces += [record.value for record in records]
        assert found.position == max(start, start + len(pieces))
        if not records:
            break
    expected = [b"%d" % offset for offset in range(start, base)]
    assert pieces == expected[: len(pieces)]

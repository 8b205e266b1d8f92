"""Batches of records as bytes: one msgpack list each, `[[key, value, timestamp, headers], …]`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from streamd.record import Headers

# A batch is read and unpacked as a whole: large enough that only the records cost, small against a worker's memory.
BATCH_RECORDS = 2048
BATCH_BYTES = 512 * 1024

# The largest record. SQLite's own limit for one blob is 1 GB.
MAX_RECORD_BYTES = 16 * 1024 * 1024

# What a record costs beside its key and value, for memory limits.
RECORD_OVERHEAD = 16

OutputRow = tuple[bytes | None, bytes | None, int, Headers]


class LogRecord(msgspec.Struct, array_like=True, gc=False):
    """A record as the log gives it; a `RawRecord`. `offset` is not stored: it follows from the batch."""

    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: tuple[tuple[str, bytes | None], ...] = ()
    offset: int = -1


class PackedBatch(NamedTuple):
    """Records of one partition, ready to be stored."""

    topic: str
    partition: int
    records: int
    data: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[LogRecord])


def pack(topic: str, partition: int, rows: Sequence[OutputRow], size: int) -> Iterator[PackedBatch]:
    """Cut rows, `size` bytes in all, into batches."""
    step = max(1, min(BATCH_RECORDS, BATCH_BYTES * len(rows) // max(size, 1)))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        yield PackedBatch(topic, partition, len(part), _encoder.encode(part))


def unpack(data: bytes, base: int) -> list[LogRecord]:
    """The records of a batch whose first has offset `base`. Raises msgspec.DecodeError when the bytes are damaged."""
    records = _decoder.decode(data)
    for offset, record in enumerate(records, base):
        record.offset = offset
    return records

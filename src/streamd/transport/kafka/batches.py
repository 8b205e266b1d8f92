"""Encoding batches: aiokafka's Cython builder writes the records, the header is finished here.

The builder's own way to finish takes a software checksum over all records, 0.1 µs for each, and compresses at the
slowest levels. So it is made to hand over the bare records, which it does to whatever compresses them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from struct import Struct
from typing import Any, Final

import cramjam
import crc32c
from aiokafka.codec import snappy_encode
from aiokafka.record.default_records import DefaultRecordBatchBuilder

_MAGIC: Final = 2
_TRANSACTIONAL: Final = 0x10
_LENGTH_AT, _CHECKSUM_AT, _ATTRIBUTES_AT = 8, 17, 21
_AFTER_LENGTH: Final = 12  # the length counts what follows it
_INT32, _INT16, _UINT32 = Struct(">i"), Struct(">h"), Struct(">I")

CODECS: Final = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
_STAND_IN: Final = CODECS["gzip"]
_BUILDERS_MODULE: Final[Any] = sys.modules[DefaultRecordBatchBuilder.__module__]


def _lz4(data: bytes) -> bytes:
    # Brokers take no linked blocks (KIP-57).
    compressor = cramjam.lz4.Compressor(level=1, content_checksum=False, block_linked=False)
    compressor.compress(data)
    return bytes(compressor.finish())


_COMPRESS: Final[dict[int, Callable[[bytes], bytes]]] = {
    1: lambda data: bytes(cramjam.gzip.compress(data, level=6)),
    2: snappy_encode,
    3: _lz4,
    4: lambda data: bytes(cramjam.zstd.compress(data, level=3)),
}


def new_builder(size: int) -> Any:
    """A builder whose `append(number, timestamp, key, value, headers)` gives None once `size` bytes would be passed.

    The first record always fits. `number` counts from 0, `headers` is a list of tuples.
    """
    return DefaultRecordBatchBuilder(_MAGIC, _STAND_IN, False, -1, -1, 0, size)


def encode(
    builder: Any, codec: int, producer_id: int, producer_epoch: int, sequence: int, transactional: bool
) -> tuple[bytes | bytearray, ...]:
    """The batch in parts that belong one after the other. The builder is spent."""
    builder.set_producer_state(producer_id, producer_epoch, sequence)
    header, records = _finish(builder)
    if codec:
        compressed = _COMPRESS[codec](records)
        if len(compressed) < len(records):
            records = compressed
        else:
            codec = 0
    _INT32.pack_into(header, _LENGTH_AT, len(header) + len(records) - _AFTER_LENGTH)
    _INT16.pack_into(header, _ATTRIBUTES_AT, codec | (_TRANSACTIONAL if transactional else 0))
    checksum = crc32c.crc32c(records, crc32c.crc32c(header[_ATTRIBUTES_AT:]))
    _UINT32.pack_into(header, _CHECKSUM_AT, checksum)
    return header, records


def _finish(builder: Any) -> tuple[bytearray, bytes]:
    """The header, and the records as they are. Nothing else runs between the two assignments."""
    taken: list[bytes] = []

    def stand_in(data: bytes) -> bytes:
        taken.append(data)
        return b""

    compress = _BUILDERS_MODULE.gzip_encode
    _BUILDERS_MODULE.gzip_encode = stand_in
    try:
        header: bytearray = builder.build()
    finally:
        _BUILDERS_MODULE.gzip_encode = compress
    return header, taken[0]

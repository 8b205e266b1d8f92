"""Avro object container files: a header with the schema, then blocks of records, each with the header's sync marker.

What is wrong with a file is told with the byte at which it is, never with what the file holds.
"""

from __future__ import annotations

import bz2
import json
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from streamd.codecs.avro.schema import Schema
from streamd.codecs.avro.writing import zigzag
from streamd.errors import ConfigError, FatalError

MAGIC = b"Obj\x01"
SYNC_BYTES = 16
# What no header and no block of a sound file is longer than, compressed or not.
MOST_HEADER_BYTES = 16 * 1024 * 1024
MOST_BLOCK_BYTES = 128 * 1024 * 1024
# A record may take no bytes at all: more of these are no block.
_MOST_EMPTY_RECORDS = 1_000_000
# Two whole numbers of 64 bits.
_MOST_PREFIX_BYTES = 20

Bytes = bytes | bytearray
# Of (size, at): so many bytes of a file from there on, fewer at its end.
ReadAt = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class Header:
    """What a file begins with. `size` in bytes; `codec` is Avro's name of the compression in its blocks."""

    schema: Schema
    codec: str
    sync: bytes
    size: int


@dataclass(frozen=True, slots=True)
class BlockPrefix:
    """How many records a block has, how many bytes they take as they lie there, and how many this itself takes."""

    count: int
    data_bytes: int
    size: int

    @property
    def block_bytes(self) -> int:
        """The whole block, with its sync marker."""
        return self.size + self.data_bytes + SYNC_BYTES


class _UnfinishedError(Exception):
    """More bytes are needed."""


def damaged(path: Path, at: int, reason: str) -> NoReturn:
    """Raise the error for a file that is no sound container file from this byte on."""
    raise FatalError(f"{path} is damaged from byte {at} on, as an Avro file: {reason}")


def _long(data: Bytes, at: int) -> tuple[int, int]:
    """A whole number, and where it ends. Raises _UnfinishedError; ValueError when it has no end."""
    number = 0
    for index in range(10):
        if at + index >= len(data):
            raise _UnfinishedError
        byte = data[at + index]
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at + index + 1
    raise ValueError


def _sized(data: Bytes, at: int) -> tuple[bytes, int]:
    size, at = _long(data, at)
    if not 0 <= size <= MOST_HEADER_BYTES:
        raise ValueError
    if at + size > len(data):
        raise _UnfinishedError
    return bytes(data[at : at + size]), at + size


def parse_header(data: Bytes, path: Path) -> Header | None:
    """The header that a file's first bytes hold; None when more of them are needed. Raises FatalError."""
    if not MAGIC.startswith(data[: len(MAGIC)]):
        raise FatalError(f"{path} is no Avro object container file: it does not begin with `Obj` and a byte of 1")
    try:
        meta, at = _metadata(data)
        if at + SYNC_BYTES > len(data):
            raise _UnfinishedError
    except _UnfinishedError:
        if len(data) > MOST_HEADER_BYTES:
            damaged(path, 0, f"its header has no end within {MOST_HEADER_BYTES} bytes")
        return None
    except ValueError:
        damaged(path, 0, "its header is not what Avro's specification says")
    if "avro.schema" not in meta:
        damaged(path, 0, "its header has no schema")
    try:
        schema = Schema(meta["avro.schema"].decode())
    except (ConfigError, UnicodeDecodeError) as error:
        reason = str(error) if isinstance(error, ConfigError) else "it is not UTF-8 text"
        damaged(path, 0, f"the schema in its header cannot be used: {reason}")
    codec = meta.get("avro.codec", b"null").decode("utf-8", "replace") or "null"
    return Header(schema, codec, bytes(data[at : at + SYNC_BYTES]), at + SYNC_BYTES)


def _metadata(data: Bytes) -> tuple[dict[str, bytes], int]:
    """A map of bytes: blocks of pairs, the last of none."""
    meta: dict[str, bytes] = {}
    count, at = _long(data, len(MAGIC))
    while count:
        if count < 0:
            count, (_, at) = -count, _long(data, at)
        for _ in range(count):
            name, at = _sized(data, at)
            meta[name.decode()], at = _sized(data, at)
        count, at = _long(data, at)
    return meta, at


def header_of(read: ReadAt, path: Path) -> Header | None:
    """The header of a file that is there; None when the file ends within it. Raises FatalError."""
    size = 64 * 1024
    while True:
        data = read(size, 0)
        header = parse_header(data, path)
        if header is not None or len(data) < size:
            return header
        size *= 4


def parse_prefix(data: Bytes, at: int, path: Path) -> BlockPrefix | None:
    """What the bytes of a block begin with; None when more are needed. `at` is its place in the file."""
    try:
        count, end = _long(data, 0)
        size, end = _long(data, end)
    except _UnfinishedError:
        return None
    except ValueError:
        damaged(path, at, "a block does not begin with its number of records and its size")
    if count < 0 or not 0 <= size <= MOST_BLOCK_BYTES:
        damaged(path, at, f"a block claims {count} records in {size} bytes, expected at most {MOST_BLOCK_BYTES} bytes")
    return BlockPrefix(count, size, end)


def block_data(data: Bytes, prefix: BlockPrefix, header: Header, at: int, path: Path) -> bytes:
    """The records of a whole block, decompressed. Raises FatalError for a damaged one."""
    end = prefix.size + prefix.data_bytes
    if data[end : end + SYNC_BYTES] != header.sync:
        damaged(path, at, "the block that begins there does not end with the file's sync marker")
    try:
        records = _DECOMPRESS[header.codec](bytes(data[prefix.size : end]))
    except _TooLargeError:
        damaged(path, at, f"the block that begins there has more than {MOST_BLOCK_BYTES} bytes when decompressed")
    except Exception as error:
        # Each library has its own errors for bytes that it did not write.
        damaged(
            path, at, f"the block that begins there cannot be decompressed ({header.codec}): {type(error).__name__}"
        )
    if prefix.count > max(len(records), _MOST_EMPTY_RECORDS):
        damaged(path, at, f"the block that begins there claims {prefix.count} records in {len(records)} bytes")
    return records


def last_block(read: ReadAt, path: Path) -> tuple[int, int]:
    """(the byte behind the last whole block, the number of records up to there); zeros for a file without header.

    Raises FatalError for a damaged file.
    """
    header = header_of(read, path)
    if header is None:
        return 0, 0
    at, records = header.size, 0
    while prefix := parse_prefix(read(_MOST_PREFIX_BYTES, at), at, path):
        sync = read(SYNC_BYTES, at + prefix.size + prefix.data_bytes)
        if len(sync) < SYNC_BYTES:
            break
        if sync != header.sync:
            damaged(path, at, "the block that begins there does not end with the file's sync marker")
        at, records = at + prefix.block_bytes, records + prefix.count
    return at, records


# Compression within blocks.


class _TooLargeError(Exception):
    pass


def check_codec(codec: str, path: Path, *, reads: bool) -> None:
    """Raises FatalError for a compression that cannot be read, or else written, here."""
    if codec not in _DECOMPRESS:
        raise FatalError(f"{path} is compressed with {codec!r} inside, expected one of {', '.join(_DECOMPRESS)}")
    if reads and codec == "zstandard":
        try:
            import zstandard  # noqa: F401
        except ImportError:
            raise FatalError(f"reading {path} needs the extra for zstd: pip install 'streamd[zstd]'") from None


def _within(data: bytes) -> bytes:
    if len(data) > MOST_BLOCK_BYTES:
        raise _TooLargeError
    return data


def _inflated(data: bytes) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    records = _within(stream.decompress(data, MOST_BLOCK_BYTES + 1))
    if not stream.eof:
        raise EOFError
    return records


def _of_bzip2(data: bytes) -> bytes:
    stream = bz2.BZ2Decompressor()
    records = _within(stream.decompress(data, MOST_BLOCK_BYTES + 1))
    if not stream.eof:
        raise EOFError
    return records


def _of_snappy(data: bytes) -> bytes:
    import cramjam

    # It says first how large it becomes, and Avro puts a checksum behind it.
    if cramjam.snappy.decompress_raw_len(data[:-4]) > MOST_BLOCK_BYTES:
        raise _TooLargeError
    records = bytes(cramjam.snappy.decompress_raw(data[:-4]))
    if zlib.crc32(records) != int.from_bytes(data[-4:], "big"):
        raise ValueError
    return records


def _of_zstandard(data: bytes) -> bytes:
    import zstandard

    stream = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data, read_across_frames=True)
    return _within(stream.read(MOST_BLOCK_BYTES + 1))


def _deflated(data: bytes) -> bytes:
    stream = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


def _to_zstandard(data: bytes) -> bytes:
    import cramjam

    return bytes(cramjam.zstd.compress(data, 3))


def _to_snappy(data: bytes) -> bytes:
    import cramjam

    return bytes(cramjam.snappy.compress_raw(data)) + zlib.crc32(data).to_bytes(4, "big")


_DECOMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "null": _within,
    "deflate": _inflated,
    "snappy": _of_snappy,
    "zstandard": _of_zstandard,
    "bzip2": _of_bzip2,
}
_COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "null": lambda data: data,
    "deflate": _deflated,
    "snappy": _to_snappy,
    "zstandard": _to_zstandard,
    "bzip2": bz2.compress,
}


# Writing.


class ContainerWriting:
    """Makes a file's header, and blocks of records. Goes on with the sync marker and the codec of a file."""

    def __init__(self, schema: Schema, codec: str, sync: bytes | None = None) -> None:
        self.schema, self.codec = schema, codec
        self._sync = os.urandom(SYNC_BYTES) if sync is None else sync
        self._compress = _COMPRESS[codec]

    @property
    def header(self) -> bytes:
        """What a file begins with."""
        meta = {"avro.schema": self.schema.text.encode(), "avro.codec": self.codec.encode()}
        parts = [MAGIC, zigzag(len(meta))]
        for name, value in meta.items():
            parts += [zigzag(len(name)), name.encode(), zigzag(len(value)), value]
        return b"".join((*parts, b"\0", self._sync))

    def block(self, records: list[bytes]) -> bytes:
        """Records as one block; as several where they are too many bytes for one."""
        size = sum(map(len, records))
        if size > MOST_BLOCK_BYTES // 2 and len(records) > 1:
            half = len(records) // 2
            return self.block(records[:half]) + self.block(records[half:])
        data = self._compress(b"".join(records))
        return b"".join((zigzag(len(records)), zigzag(len(data)), data, self._sync))


def continued(own: Schema, read: ReadAt, length: int, path: Path) -> ContainerWriting:
    """What goes on with a file of so many bytes. Raises FatalError where it is another schema's, or not whole."""
    header = header_of(read, path)
    end, _ = last_block(read, path)
    if header is None or end != length:
        damaged(path, end, "it ends inside a block, or inside its header; nothing is appended to it")
    if _meaning(header.schema) != _meaning(own):
        raise FatalError(
            f"{path} is there already, with another schema, `{header.schema.name}`, than that of the sink, "
            f"`{own.name}`: move it away, or give the sink another path"
        )
    check_codec(header.codec, path, reads=False)
    return ContainerWriting(header.schema, header.codec, header.sync)


def _meaning(schema: Schema) -> str:
    """A schema without what does not change how values are written."""
    return json.dumps(_bare(schema.type), sort_keys=True)


_TOLD = ("type", "name", "symbols", "size", "logicalType", "precision", "scale")


def _bare(node: Any) -> Any:
    if isinstance(node, list):
        return [_bare(part) for part in node]
    if not isinstance(node, dict):
        return node
    bare = {key: node[key] for key in _TOLD if key in node}
    bare |= {key: _bare(node[key]) for key in ("items", "values") if key in node}
    if "fields" in node:
        bare["fields"] = [[field["name"], _bare(field["type"])] for field in node["fields"]]
    return bare if len(bare) > 1 else bare["type"]

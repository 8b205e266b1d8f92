"""Compressed files: found out by name, read as a stream with bounded memory, written as whole frames."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from streamd.errors import FatalError

Compression = Literal["none", "gzip", "zstd"]
CompressionSetting = Literal["auto", "none", "gzip", "zstd"]

# A zstd block of a few bytes can stand for 128 KiB: no more than this is given to the decoder at once, so that what
# comes out stays below 32 MiB whatever the file holds; with ordinary files it is some KiB.
_ZSTD_STEP = 1024
_ZSTD_ENOUGH = 256 * 1024

_ENDINGS: dict[str, Compression] = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}


class ByteStream(Protocol):
    """Decompressed bytes, front to back."""

    def read(self, size: int) -> bytes:
        """At most `size` bytes, b"" at the end. Raises FatalError when the file is damaged."""


def compression_of(path: Path, setting: CompressionSetting) -> Compression:
    """The compression that a setting means for a file."""
    return _ENDINGS.get(path.suffix.lower(), "none") if setting == "auto" else setting


def decompressed(raw: IO[bytes], compression: Compression, path: Path) -> ByteStream:
    """Read `raw` decompressed. `path` is for messages."""
    if compression == "gzip":
        return _GzipStream(raw, path)
    if compression == "zstd":
        return _ZstdStream(raw, path)
    return raw


class _GzipStream:
    def __init__(self, raw: IO[bytes], path: Path) -> None:
        self._file = gzip.GzipFile(fileobj=raw)
        self._path = path

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FatalError(f"{self._path} is not a whole gzip file: {error}") from None


class _ZstdStream:
    def __init__(self, raw: IO[bytes], path: Path) -> None:
        try:
            import zstandard
        except ImportError:
            raise FatalError(f"reading {path} needs the extra for zstd: pip install 'streamd[zstd]'") from None
        self._new: Callable[[], Any] = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj
        self._error = zstandard.ZstdError
        self._raw = raw
        self._path = path
        self._frame: Any = None
        self._input = b""
        self._ready = b""
        self._given = 0

    def read(self, size: int) -> bytes:
        if self._given >= len(self._ready):
            self._ready, self._given = self._more(), 0
        data = self._ready[self._given : self._given + size]
        self._given += len(data)
        return data

    def _more(self) -> bytes:
        parts: list[bytes] = []
        found = 0
        while found < _ZSTD_ENOUGH:
            if not self._input:
                self._input = self._raw.read(_ZSTD_STEP)
                if not self._input:
                    break
            parts.append(self._decode())
            found += len(parts[-1])
        if not found and self._frame is not None:
            raise FatalError(f"{self._path} is not a whole zstd file: it ends inside a frame")
        return b"".join(parts)

    def _decode(self) -> bytes:
        if self._frame is None:
            self._frame = self._new()
        data, self._input = self._input, b""
        try:
            part: bytes = self._frame.decompress(data)
        except self._error as error:
            raise FatalError(f"{self._path} is not a valid zstd file: {error}") from None
        if self._frame.eof:
            self._input = self._frame.unused_data
            self._frame = None
        return part


def compressed(data: bytes, compression: Compression) -> bytes:
    """The bytes as one whole gzip member or zstd frame: files of many of them read as one."""
    if compression == "gzip":
        return gzip.compress(data, 6, mtime=0)
    if compression == "zstd":
        import cramjam

        return bytes(cramjam.zstd.compress(data, 3))
    return data

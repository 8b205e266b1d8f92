"""Reads one file from a place to its end. Everything here blocks: call it in a thread, one call at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from streamd.errors import PositionLostError
from streamd.transport.files.compression import ByteStream, Compression, decompressed
from streamd.transport.files.lines import BEGINNING, Lines, NewCutter
from streamd.transport.files.place import FileIdentity, FilePlace, Head

# One read: large enough that its call is nothing, small enough that the records of it are no burden in memory.
CHUNK_BYTES = 256 * 1024


class BoundedFile:
    """A file that is read once, plain or compressed. Errors are OSError, and StreamdError for damaged files."""

    def __init__(self, path: Path, compression: Compression, new_cutter: NewCutter, place: FilePlace | None) -> None:
        self.path = path
        self.ended = False
        self._compression = compression
        self._cutter = new_cutter(BEGINNING if place is None else place.spot, self.beginning)
        self._place = place
        self._file: BinaryIO | None = None
        self._stream: ByteStream | None = None
        self._identity = FileIdentity(path, 0, Head())
        self._left = 0

    def step(self) -> tuple[Lines, FileIdentity] | None:
        """The next lines, possibly none, and the file they are from; None at the end."""
        if self.ended:
            return None
        stream = self._stream if self._stream is not None else self._open()
        if self._cutter.waiting:
            return self._cutter.feed(b""), self._identity
        data = stream.read(CHUNK_BYTES)
        self._measure()
        self.ended = not data
        return (self._cutter.feed(data) if data else self._cutter.finish()), self._identity

    def beginning(self, size: int) -> bytes:
        """The first bytes of the file, decompressed."""
        with self.path.open("rb") as file:
            return decompressed(file, self._compression, self.path).read(size)

    def left(self) -> int:
        """Bytes of the file, as it lies on disk, not yet read."""
        return self._left

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _open(self) -> ByteStream:
        file = self.path.open("rb", buffering=0 if self._compression == "none" else CHUNK_BYTES)
        place = self._place
        if place is not None and not place.has_head_of(file.fileno()):
            file.close()
            raise PositionLostError(f"{self.path} no longer begins as it did at the last checkpoint: it was replaced")
        status = os.fstat(file.fileno())
        head = Head()
        head.extend(file.fileno())
        self._identity = FileIdentity(self.path, status.st_ino, head, compressed=self._compression != "none")
        stream = decompressed(file, self._compression, self.path)
        if place is not None and place.offset:
            self._skip_to(place.offset, file, stream, status.st_size)
        self._file, self._stream = file, stream
        return stream

    def _skip_to(self, offset: int, file: BinaryIO, stream: ByteStream, size: int) -> None:
        if self._compression == "none":
            if size < offset:
                file.close()
                raise PositionLostError(f"{self.path} has {size} bytes, the position to go on from is {offset}")
            file.seek(offset)
            return
        left = offset
        while left > 0:
            skipped = stream.read(min(left, CHUNK_BYTES))
            if not skipped:
                file.close()
                raise PositionLostError(f"{self.path} ends {left} bytes before the position to go on from, {offset}")
            left -= len(skipped)

    def _measure(self) -> None:
        if self._file is not None:
            self._left = max(0, os.fstat(self._file.fileno()).st_size - self._file.tell())

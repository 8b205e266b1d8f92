"""Bytes to records that lie one behind the other in frames, in chunks, with the place of each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from streamd.codecs import Undecodable
from streamd.codecs.frames import Framing
from streamd.errors import FatalError
from streamd.transport.files.lines import KEPT_BYTES, Lines, Spot, too_long

# More than what stands before a record in its frame.
_BEFORE_RECORD = 16


class FrameCutter:
    """Cuts a stream of bytes that begins at byte `offset` of a file, where a frame does, into records.

    What is not whole yet is kept for the next `feed`, up to `max_bytes`: a longer record becomes Undecodable with its
    first KEPT_BYTES, and the rest of its bytes is thrown away as it comes. Where a frame ends only the frame itself
    says: behind one that cannot be one, nothing can be read. `feed` gives what is before it, then raises FatalError.
    """

    def __init__(self, framing: Framing, path: Path, offset: int, max_bytes: int) -> None:
        self._framing, self._path, self._max_bytes = framing, path, max_bytes
        self._frames = framing.frames()
        # Where the first frame begins that was not given yet; what is held of it and behind it.
        self._offset = offset
        self._data = bytearray()
        # How many bytes of that frame are held no longer, and its first.
        self._dropped = 0
        self._beginning = b""

    @property
    def waiting(self) -> bool:
        """Whether the next `feed` raises."""
        return bool(self._frames.damage)

    @property
    def spot(self) -> Spot:
        """Where to go on after all that was given."""
        return self._offset, 0, 0

    def feed(self, data: bytes) -> Lines:
        """The records that are whole with these bytes. Raises FatalError for a damaged file."""
        if self._frames.damage:
            raise FatalError(
                f"{self._path} is damaged from byte {self._offset} on, as a file of {self._framing.title}: "
                f"{self._frames.damage}"
            )
        new = len(self._data)
        self._data += data
        found = Lines()
        if frames := self._frames.find(self._data, new):
            self._take(frames, found)
        if len(self._data) > self._max_bytes + _BEFORE_RECORD:
            self._drop()
        found.end = self._offset
        return found

    def finish(self) -> Lines:
        """What is left when no more bytes will come: the beginning of a record, as Undecodable."""
        found = Lines()
        if size := self._dropped + len(self._data):
            raw = self._beginning or bytes(self._data[:KEPT_BYTES])
            reason = f"the file ends inside the record that begins at byte {self._offset}: {size} bytes of it are there"
            found.starts.append(self._offset)
            found.values.append(Undecodable(reason, raw, cut=len(raw) < size))
            self._offset += size
        self._frames, self._dropped, self._beginning = self._framing.frames(), 0, b""
        self._data.clear()
        found.end = self._offset
        return found

    def pass_over(self, chunks: Iterable[bytes]) -> Spot:
        """Where the last whole record ends in all these bytes. Raises FatalError for a damaged file."""
        for data in chunks:
            self.feed(data)
        self.feed(b"")
        return self.spot

    def _take(self, frames: list[tuple[int, int]], found: Lines) -> None:
        ends = [end for _, end in frames]
        data = bytes(memoryview(self._data)[: ends[-1]])
        del self._data[: ends[-1]]
        held_from = self._offset + self._dropped
        found.starts = [self._offset, *(held_from + end for end in ends[:-1])]
        values: list[Any] = [data[begin:end] for begin, end in frames]
        if max(map(len, values)) > self._max_bytes:
            values = [
                value if len(value) <= self._max_bytes else too_long(value, len(value), self._max_bytes)
                for value in values
            ]
        if self._dropped:
            begin, end = frames[0]
            values[0] = too_long(self._beginning[self._dropped + begin :], end - begin, self._max_bytes)
            self._dropped, self._beginning = 0, b""
        found.values = values
        self._offset = held_from + ends[-1]

    def _drop(self) -> None:
        count = self._frames.drop(self._data)
        self._beginning = self._beginning or bytes(self._data[:KEPT_BYTES])
        self._dropped += count
        del self._data[:count]

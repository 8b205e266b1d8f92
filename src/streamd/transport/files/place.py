"""Where one is in a file, and how to know that it is still the same file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec

from streamd.errors import PositionLostError
from streamd.transport.files.lines import Spot

# Enough to tell files apart; short enough to be there from the first lines on.
HEAD_BYTES = 1024


class FilePlace(msgspec.Struct, frozen=True, omit_defaults=True):
    """A position in a file. `offset` in (decompressed) bytes; `head` is the hash of its first `head_size` raw bytes.

    `index` and `number` are the rest of a `Spot` (lines.py), in files of blocks.
    """

    path: str
    offset: int = 0
    inode: int = 0
    head_size: int = 0
    head: str = ""
    ended: bool = False
    index: int = 0
    number: int = 0

    @property
    def spot(self) -> Spot:
        """Where in the file."""
        return self.offset, self.index, self.number

    @classmethod
    def of(cls, position: Any) -> FilePlace:
        """Of what `as_position` gave. Raises PositionLostError for anything else (another source had this id)."""
        try:
            return msgspec.convert(position, cls)
        except msgspec.ValidationError as error:
            raise PositionLostError(f"the position to go on from is not one of the file source: {error}") from None

    def as_position(self) -> dict[str, Any]:
        """A JSON value."""
        position: dict[str, Any] = msgspec.to_builtins(self)
        return position

    def has_head_of(self, descriptor: int) -> bool:
        """Whether the open file begins with the bytes that this one began with. True when none are known."""
        return self.head_size == 0 or head_hash(os.pread(descriptor, self.head_size, 0)) == self.head


def head_hash(head: bytes) -> str:
    """A short hash of a file's beginning."""
    return hashlib.blake2b(head, digest_size=12).hexdigest()


class Head:
    """The beginning of a file as it becomes known while the file is read."""

    __slots__ = ("_hashed", "bytes")

    def __init__(self, head: bytes = b"") -> None:
        self.bytes = head
        self._hashed: tuple[int, str] = (0, "")

    def extend(self, descriptor: int) -> None:
        """Read what is missing of the first HEAD_BYTES."""
        if len(self.bytes) < HEAD_BYTES:
            self.bytes = os.pread(descriptor, HEAD_BYTES, 0)

    def still_there(self, descriptor: int) -> bool:
        """Whether the file still begins like this: False when it was truncated and written anew."""
        return os.pread(descriptor, len(self.bytes), 0) == self.bytes

    def up_to(self, size: int) -> tuple[int, str]:
        """(size, hash) of the first `size` bytes, or of all that are known when these are fewer."""
        size = min(size, len(self.bytes))
        if self._hashed[0] != size:
            self._hashed = (size, head_hash(self.bytes[:size]) if size else "")
        return self._hashed


class FileIdentity:
    """One opened file, for the places in it."""

    __slots__ = ("compressed", "head", "inode", "path")

    def __init__(self, path: Path, inode: int, head: Head, *, compressed: bool = False) -> None:
        self.path, self.inode, self.head, self.compressed = path, inode, head, compressed

    def place_at(self, spot: Spot, *, ended: bool = False) -> FilePlace:
        """The place of a spot that was read up to. Of a compressed file as much as a block is known then."""
        offset, index, number = spot
        size, hashed = self.head.up_to(HEAD_BYTES if self.compressed and offset else offset)
        return FilePlace(str(self.path), offset, self.inode, size, hashed, ended, index, number)

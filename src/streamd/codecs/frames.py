"""The contract of frames: records that lie in a file one behind the other, with nothing between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


class Frames(Protocol):
    """Finds the frames in a file's bytes as they come. A frame is a record's bytes and what stands before them.

    `damage`: why no frame can begin behind the last one found; empty while one can. It stays.
    """

    damage: str

    def find(self, data: bytearray, new: int) -> list[tuple[int, int]]:
        """(where the record begins, where its frame ends) of all frames that end in `data`, in order.

        `data` begins with the first frame that was not found yet, or within it when its beginning was dropped: then the
        record begins at a negative index. From index `new` on it was in no call before. What was found is gone from it
        at the next call.
        """
        ...

    def drop(self, data: bytearray) -> int:
        """How many of these bytes, in which no frame ends, are needed no longer: they are gone at the next call."""
        ...


@dataclass(frozen=True, slots=True)
class Framing:
    """How a format's records lie in files. `title` is how messages call it, `pack` makes frames of records."""

    title: str
    frames: Callable[[], Frames]
    pack: Callable[[Sequence[bytes]], bytes] = b"".join

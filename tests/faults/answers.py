"""Where the error codes are in Kafka's answers to what streamd asks, so that a proxy can put others there."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Self

API_KEYS: Final = {
    "produce": 0,
    "fetch": 1,
    "list_offsets": 2,
    "metadata": 3,
    "offset_fetch": 9,
    "find_coordinator": 10,
    "join_group": 11,
    "heartbeat": 12,
    "sync_group": 14,
    "init_producer_id": 22,
    "epoch_end": 23,
    "add_partitions": 24,
    "add_offsets": 25,
    "end_txn": 26,
    "offsets": 28,
}

# (request, version) → offset of the one error code of the answer, the length of the frame not counted. The correlation
# id has 4 bytes, the throttle time that follows it 4 more.
_AT_8: Final = {
    ("fetch", 11), ("find_coordinator", 1), ("join_group", 5), ("heartbeat", 1), ("sync_group", 3),
    ("init_producer_id", 0), ("add_offsets", 0), ("end_txn", 0),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """A request's kind and version."""

    key: int
    version: int

    @classmethod
    def of(cls, frame: bytes) -> Self:
        """Of a request without its length."""
        return cls(*struct.unpack_from(">hh", frame))


def with_error(frame: bytes, asked: Asked, code: int) -> bytes:
    """The answer with an error code in every place where it has one that counts.

    Raises ValueError for an answer whose layout is not known here.
    """
    changed = bytearray(frame)
    for place in _places(frame, asked):
        struct.pack_into(">h", changed, place, code)
    return bytes(changed)


def _places(frame: bytes, asked: Asked) -> list[int]:
    name = next((name for name, key in API_KEYS.items() if key == asked.key), str(asked.key))
    if (name, asked.version) in _AT_8:
        return [8]
    match (name, asked.version):
        case ("offset_fetch", 7):
            return [len(frame) - 3]  # of the whole answer, before its tagged fields
        case ("add_partitions", 0):
            return _per_partition(frame, 8, 6)
        case ("offsets", 3):
            return _per_partition_compact(frame, 9)
        case ("produce", 8):
            return _produced(frame)
    raise ValueError(f"where the error is in an answer to {name} of version {asked.version} is not known")


def _text(frame: bytes, at: int) -> int:
    """The offset behind a string that may be null."""
    (size,) = struct.unpack_from(">h", frame, at)
    return at + 2 + max(size, 0)


def _count(frame: bytes, at: int) -> int:
    (count,) = struct.unpack_from(">i", frame, at)
    return int(count)


def _per_partition(frame: bytes, at: int, size: int) -> list[int]:
    places = []
    topics, at = _count(frame, at), at + 4
    for _ in range(topics):
        at = _text(frame, at)
        partitions, at = _count(frame, at), at + 4
        for _ in range(partitions):
            places.append(at + 4)
            at += size
    return places


def _per_partition_compact(frame: bytes, at: int) -> list[int]:
    """Lengths here are less than 127, so that each takes one byte."""
    places = []
    topics, at = frame[at] - 1, at + 1
    for _ in range(topics):
        at += frame[at]  # the length is written one higher, and counts its own byte with that
        partitions, at = frame[at] - 1, at + 1
        for _ in range(partitions):
            places.append(at + 4)
            at += 7
        at += 1
    return places


def _produced(frame: bytes) -> list[int]:
    places = []
    topics, at = _count(frame, 4), 8
    for _ in range(topics):
        at = _text(frame, at)
        partitions, at = _count(frame, at), at + 4
        for _ in range(partitions):
            places.append(at + 4)
            at += 4 + 2 + 8 + 8 + 8
            errors, at = _count(frame, at), at + 4
            for _ in range(errors):
                at = _text(frame, at + 4)
            at = _text(frame, at)
    return places

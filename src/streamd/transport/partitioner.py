"""Which partition a record goes to: Kafka's own choice by key, the same on every transport."""

from __future__ import annotations

import struct

# Distinct keys remembered per partitioner, about 100 bytes each. A full cache starts anew: hot keys are back at once.
CACHE_KEYS = 65_536

# Records without key that go to one partition before the next one's turn.
STICKY_RECORDS = 500


def murmur2(data: bytes) -> int:
    """The 32-bit hash that Kafka's Java client takes of a key. Unsigned."""
    size = len(data)
    h = (0x9747B28C ^ size) & 0xFFFFFFFF
    whole = size & ~3
    for k in struct.unpack_from(f"<{whole >> 2}I", data):
        k = (k * 0x5BD1E995) & 0xFFFFFFFF
        h = ((h * 0x5BD1E995) & 0xFFFFFFFF) ^ (((k ^ (k >> 24)) * 0x5BD1E995) & 0xFFFFFFFF)
    if whole != size:
        h = ((h ^ int.from_bytes(data[whole:], "little")) * 0x5BD1E995) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 0x5BD1E995) & 0xFFFFFFFF
    return h ^ (h >> 15)


class KeyedPartitions(dict[bytes, int]):
    """key → partition, as a dict: `partitions[key]` costs one lookup for a key seen before. Bounded."""

    __slots__ = ("count",)

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def __missing__(self, key: bytes) -> int:
        if len(self) >= CACHE_KEYS:
            self.clear()
        partition = self[bytes(key)] = (murmur2(key) & 0x7FFFFFFF) % self.count
        return partition


class Partitioner:
    """Partitions for the records of one task, over `count` partitions.

    Keyed records go where Kafka's default partitioner puts them. Records without key stay on one partition for
    `STICKY_RECORDS`, then go to the next; the first is chosen by `seed` (the task's partition), so that a task's choice
    depends on nothing but its own records.
    """

    __slots__ = ("_keyless", "_left", "by_key", "count")

    def __init__(self, count: int, seed: int = 0) -> None:
        if count < 1:
            raise ValueError(f"a topic has at least 1 partition, got {count}")
        self.count = count
        self.by_key = KeyedPartitions(count)
        self._keyless = seed % count
        self._left = STICKY_RECORDS

    def partition(self, key: bytes | None) -> int:
        """The partition of a record with this key."""
        if key is not None:
            return self.by_key[key]
        if self._left == 0:
            self._keyless = (self._keyless + 1) % self.count
            self._left = STICKY_RECORDS
        self._left -= 1
        return self._keyless

"""Which member of a group gets which partitions: together by number, in proportion to capacity, and moving little.

The leader of the group runs this for all. What a member had before travels in its join request as user data, with the
generation in which it had it, so that any member can lead and a late claim from an older generation loses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

# The name under which all members of a group must know this; a new one when the meaning of the user data changes.
NAME = "streamd-together-1"
NO_GENERATION = -1


@dataclass(frozen=True, slots=True)
class Claim:
    """What a member says when it joins: the partition numbers that it had, when, and how much it can carry."""

    generation: int = NO_GENERATION
    owned: frozenset[int] = field(default_factory=frozenset)
    capacity: int = 1


class _ClaimData(msgspec.Struct):
    g: int
    p: list[int]
    c: int = 1


def place(count: int, claims: Mapping[str, Claim]) -> dict[str, list[int]]:
    """Member → its partitions out of 0…count-1, each exactly once; empty without members.

    Numbers of partitions are in proportion to capacity, to within one. A partition stays with the member that had it in
    the newest generation, unless that member has more than its share. The same arguments give the same result.
    """
    if not claims:
        return {}
    had = _owners(count, claims)
    quota = _quotas(count, claims, {member: len(had[member]) for member in claims})
    placed = {member: sorted(had[member])[: quota[member]] for member in claims}
    taken = {partition for partitions in placed.values() for partition in partitions}
    free = iter([partition for partition in range(count) if partition not in taken])
    for member in sorted(claims):
        for _ in range(quota[member] - len(placed[member])):
            placed[member].append(next(free))
        placed[member].sort()
    return placed


def _owners(count: int, claims: Mapping[str, Claim]) -> dict[str, set[int]]:
    """Who had each partition last. Of two that claim it, the newer generation is right; else the first by name."""
    had: dict[str, set[int]] = {member: set() for member in claims}
    settled: set[int] = set()
    for member in sorted(claims, key=lambda member: (-claims[member].generation, member)):
        mine = {partition for partition in claims[member].owned if 0 <= partition < count} - settled
        had[member] = mine
        settled |= mine
    return had


def _quotas(count: int, claims: Mapping[str, Claim], had: Mapping[str, int]) -> dict[str, int]:
    """How many partitions each gets: its share rounded down, and what is left to those that then give up the least."""
    total = sum(max(1, claim.capacity) for claim in claims.values())
    weight = {member: max(1, claim.capacity) for member, claim in claims.items()}
    quota = {member: count * weight[member] // total for member in claims}
    rest = {member: count * weight[member] % total for member in claims}
    left = count - sum(quota.values())
    # Who has more than its share keeps one of them rather than moving it; a share without a rest is never exceeded.
    by_need = sorted(
        claims, key=lambda member: (rest[member] == 0, had[member] <= quota[member], -rest[member], member)
    )
    for member in by_need[:left]:
        quota[member] += 1
    return quota


class TogetherAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """`place` as Kafka's group protocol wants it: partition p of every topic goes to the same member.

    One instance per member: it holds what this member has, for the next join.
    """

    name = NAME

    def __init__(self, capacity: int = 1, remembered: Collection[int] = ()) -> None:
        self._claim = Claim(NO_GENERATION, frozenset(remembered), capacity)

    def metadata(self, topics: Iterable[str]) -> Any:
        """This member's part of a join request."""
        claim = self._claim
        data = msgspec.json.encode(_ClaimData(claim.generation, sorted(claim.owned), claim.capacity))
        return ConsumerProtocolMemberMetadata(0, sorted(topics), data)

    def assign(self, cluster: Any, members: Mapping[str, Any]) -> dict[str, Any]:
        """Every member's assignment; its user data holds {topic: how many partitions it has}, for all topics."""
        claims = {member: _claim(metadata.user_data) for member, metadata in members.items()}
        topics = {member: frozenset(metadata.subscription) for member, metadata in members.items()}
        every = sorted(set().union(*topics.values())) if topics else []
        counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in every}
        found: dict[str, dict[str, list[int]]] = {member: {} for member in members}
        # While a pipeline with other topics is rolled out, members differ: only those that read a topic can get it.
        for readers in sorted({tuple(sorted(m for m in members if topic in topics[m])) for topic in every}):
            together = [topic for topic in every if tuple(sorted(m for m in members if topic in topics[m])) == readers]
            placed = place(max(counts[topic] for topic in together), {member: claims[member] for member in readers})
            for member, partitions in placed.items():
                for topic in together:
                    found[member][topic] = [partition for partition in partitions if partition < counts[topic]]
        data = msgspec.json.encode(counts)
        return {
            member: ConsumerProtocolMemberAssignment(0, [(t, p) for t, p in sorted(parts.items()) if p], data)
            for member, parts in found.items()
        }

    def on_assignment(self, assignment: Any) -> None:
        """aiokafka's hook; it does not know the generation, `joined` does."""

    def joined(self, generation: int, partitions: Iterable[int]) -> None:
        """Remember what this member has since `generation`."""
        self._claim = Claim(generation, frozenset(partitions), self._claim.capacity)


def _claim(data: bytes | None) -> Claim:
    """A member's claim; nothing for data that is not ours, which costs moves but never correctness."""
    try:
        decoded = msgspec.json.decode(data or b"", type=_ClaimData)
    except msgspec.DecodeError:
        return Claim()
    return Claim(decoded.g, frozenset(decoded.p), decoded.c)


def topic_counts(data: bytes | None) -> dict[str, int]:
    """{topic: partitions} of an assignment's user data; empty for data that is not ours."""
    try:
        return msgspec.json.decode(data or b"", type=dict[str, int])
    except msgspec.DecodeError:
        return {}

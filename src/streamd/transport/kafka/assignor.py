"""Who gets which partitions, as Kafka's group protocol has it: what members say when they join, and what they are told.

The leader of the group decides for all (placement.py). What a member had before travels in its join request as user
data, with the generation in which it had it, so that any member can lead and a late claim from an older generation
loses. So does of which partitions it has a warm copy of the state: these come to it when nobody has them any more; and
where its HTTP server is, which the leader tells to all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

from streamd.transport.kafka.placement import NO_GENERATION, Claim, place
from streamd.transport.kafka.standby_placement import heirs, place_standbys

# The name under which all members of a group must know this; a new one when the meaning of the user data changes.
NAME = "streamd-together-1"
# What an assignment says besides {topic: its partitions}, under names that no topic can have.
_STANDBY, _COPIES, _NODE = "standby/", "standbys/copies", "node/"


class _ClaimData(msgspec.Struct):
    g: int
    p: list[int]
    c: int = 1
    s: int = 0
    w: list[int] = []
    a: str = ""


class TogetherAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """`place` as Kafka's group protocol wants it: partition p of every topic goes to the same member.

    One instance per member: it holds what this member has, for the next join.
    """

    name = NAME

    def __init__(
        self,
        capacity: int = 1,
        remembered: Collection[int] = (),
        copies: int = 0,
        warm: Callable[[], Collection[int]] = tuple,
        node: str = "",
    ) -> None:
        self._claim = Claim(NO_GENERATION, frozenset(remembered), capacity, copies, node=node)
        self._warm = warm

    def metadata(self, topics: Iterable[str]) -> Any:
        """This member's part of a join request."""
        claim = self._claim
        warm = sorted(self._warm())
        data = msgspec.json.encode(
            _ClaimData(claim.generation, sorted(claim.owned), claim.capacity, claim.copies, warm, claim.node)
        )
        return ConsumerProtocolMemberMetadata(0, sorted(topics), data)

    def assign(self, cluster: Any, members: Mapping[str, Any]) -> dict[str, Any]:
        """Every member's assignment; see `topic_counts`, `standbys_of` and `nodes_of` for what its user data holds."""
        claims = {member: _claim(metadata.user_data) for member, metadata in members.items()}
        topics = {member: frozenset(metadata.subscription) for member, metadata in members.items()}
        every = sorted(set().union(*topics.values())) if topics else []
        counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in every}
        found: dict[str, dict[str, list[int]]] = {member: {} for member in members}
        active: dict[str, set[int]] = {member: set() for member in members}
        # While a pipeline with other topics is rolled out, members differ: only those that read a topic can get it.
        for readers in sorted({tuple(sorted(m for m in members if topic in topics[m])) for topic in every}):
            together = [topic for topic in every if tuple(sorted(m for m in members if topic in topics[m])) == readers]
            placed = place(max(counts[topic] for topic in together), {member: claims[member] for member in readers})
            for member, partitions in placed.items():
                active[member].update(partitions)
                for topic in together:
                    found[member][topic] = [partition for partition in partitions if partition < counts[topic]]
        beside = _standbys(active, claims)
        nodes = Counter(_NODE + claim.node for claim in claims.values())
        return {
            member: ConsumerProtocolMemberAssignment(
                0, [(t, p) for t, p in sorted(parts.items()) if p], msgspec.json.encode(counts | beside[member] | nodes)
            )
            for member, parts in found.items()
        }

    def on_assignment(self, assignment: Any) -> None:
        """aiokafka's hook; it does not know the generation, `joined` does."""

    def joined(self, generation: int, partitions: Iterable[int]) -> None:
        """Remember what this member has since `generation`."""
        self._claim = replace(self._claim, generation=generation, owned=frozenset(partitions))


def _claim(data: bytes | None) -> Claim:
    """A member's claim; nothing for data that is not ours, which costs moves but never correctness."""
    try:
        decoded = msgspec.json.decode(data or b"", type=_ClaimData)
    except msgspec.DecodeError:
        return Claim()
    return Claim(decoded.g, frozenset(decoded.p), decoded.c, decoded.s, frozenset(decoded.w), decoded.a)


def _standbys(active: Mapping[str, set[int]], claims: Mapping[str, Claim]) -> dict[str, dict[str, int]]:
    """What each member is told of standby copies: its own, and how many there are of each partition at least."""
    copies = max((claim.copies for claim in claims.values()), default=0)
    # What a member had until now it has a copy of.
    warm = {member: claim.warm | claim.owned for member, claim in claims.items() if claim.copies}
    running = {
        member: replace(claims[member], generation=1, owned=frozenset(partitions), warm=warm.get(member, frozenset()))
        for member, partitions in active.items()
    }
    kept = place_standbys(active, warm, copies, heirs(running) if copies else {})
    fewest = min([copies, *(len(warm.keys() - {member}) for member, partitions in active.items() if partitions)])
    return {
        member: {_STANDBY + str(p): 1 for p in kept.get(member, ())} | ({_COPIES: fewest} if copies else {})
        for member in claims
    }


def topic_counts(data: bytes | None) -> dict[str, int]:
    """{topic: partitions} of an assignment's user data; empty for data that is not ours."""
    return {name: count for name, count in _told(data).items() if "/" not in name}


def standbys_of(data: bytes | None) -> tuple[frozenset[int], int]:
    """(partitions that this member is to keep copies of, how many copies each partition has) of the same."""
    told = _told(data)
    numbers = (name.removeprefix(_STANDBY) for name in told if name.startswith(_STANDBY))
    return frozenset(int(number) for number in numbers if number.isdecimal()), told.get(_COPIES, 0)


def nodes_of(data: bytes | None) -> dict[str, int]:
    """{what members say as `node`: how many say so} of the same, over all; empty when the leader does not tell."""
    return {name.removeprefix(_NODE): count for name, count in _told(data).items() if name.startswith(_NODE)}


def _told(data: bytes | None) -> dict[str, int]:
    try:
        return msgspec.json.decode(data or b"", type=dict[str, int])
    except msgspec.DecodeError:
        return {}

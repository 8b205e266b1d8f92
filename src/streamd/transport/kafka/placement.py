"""Which member of a group gets which partitions: in proportion to capacity, and moving little. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

NO_GENERATION = -1


@dataclass(frozen=True, slots=True)
class Claim:
    """What a member says when it joins: the partition numbers that it had, when, and how much it can carry.

    `copies`: how many standby copies of each partition's state there are to be, 0 from a member that keeps none.
    `warm`: of which partitions it has one. `node`: where its HTTP server is to be found (any text), empty without one.
    """

    generation: int = NO_GENERATION
    owned: frozenset[int] = field(default_factory=frozenset)
    capacity: int = 1
    copies: int = 0
    warm: frozenset[int] = field(default_factory=frozenset)
    node: str = ""


def place(
    count: int, claims: Mapping[str, Claim], busy: Mapping[str, int] = MappingProxyType({})
) -> dict[str, list[int]]:
    """Member → its partitions out of 0…count-1, each exactly once; empty without members.

    Numbers of partitions are in proportion to capacity, to within one. A partition stays with the member that had it in
    the newest generation, unless that member has more than its share; a free one goes to a member with a warm copy, if
    any has room. Of members that could all have one more, it is who has most copies of what is free, then who is
    least `busy`. The same arguments give the same result.
    """
    if not claims:
        return {}
    had = _owners(count, claims)
    quota = _quotas(count, claims, had, busy)
    needy = {member for member in claims if len(had[member]) < quota[member]}
    wanted = frozenset[int]().union(*(claims[member].warm for member in needy))
    placed = {m: sorted(had[m], key=lambda p: (p in wanted, p))[: quota[m]] for m in claims}
    taken = {partition for partitions in placed.values() for partition in partitions}
    left = [partition for partition in range(count) if partition not in taken]
    warmed = _warmed(left, {m: quota[m] - len(placed[m]) for m in claims}, claims)
    for partition, member in warmed.items():
        placed[member].append(partition)
    free = iter([partition for partition in left if partition not in warmed])
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


def _warmed(free: Iterable[int], room: Mapping[str, int], claims: Mapping[str, Claim]) -> dict[int, str]:
    """Which free partitions go to a member that has a warm copy: as many as can, when each has so much room."""
    given: dict[int, str] = {}

    def find(partition: int, seen: set[str]) -> bool:
        for member in sorted(claims):
            if partition not in claims[member].warm or member in seen:
                continue
            seen.add(member)
            theirs = [other for other, owner in given.items() if owner == member]
            if len(theirs) < room[member] or (room[member] > 0 and any(find(other, seen) for other in theirs)):
                given[partition] = member
                return True
        return False

    for partition in free:
        find(partition, set())
    return given


def _quotas(
    count: int, claims: Mapping[str, Claim], owned: Mapping[str, set[int]], busy: Mapping[str, int]
) -> dict[str, int]:
    """How many partitions each gets: its share rounded down, and what is left to those that then give up the least."""
    had = {member: len(partitions) for member, partitions in owned.items()}
    lost = set(range(count)).difference(*owned.values())
    warm = {member: len(claim.warm & lost) for member, claim in claims.items()}
    total = sum(max(1, claim.capacity) for claim in claims.values())
    weight = {member: max(1, claim.capacity) for member, claim in claims.items()}
    quota = {member: count * weight[member] // total for member in claims}
    rest = {member: count * weight[member] % total for member in claims}
    left = count - sum(quota.values())

    # Who has more than its share keeps one of them rather than moving it; a share without a rest is never exceeded.
    def need(member: str) -> tuple[bool, bool, int, int, int, str]:
        whole, fits = rest[member] == 0, had[member] <= quota[member]
        return whole, fits, -rest[member], -warm[member], busy.get(member, 0), member

    by_need = sorted(claims, key=need)
    for member in by_need[:left]:
        quota[member] += 1
    return quota

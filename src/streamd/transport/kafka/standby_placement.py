"""Which member of a group keeps standby copies of which partitions' state. Pure.

The leader of the group decides for all, after it is known who runs what.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet

from streamd.transport.kafka.placement import Claim, place


def heirs(claims: Mapping[str, Claim]) -> dict[int, str]:
    """{partition: the member that would get it if the one that runs it was lost}; empty with one member.

    `claims`: what each member runs as what it had last, and of what it has a copy. Of these as many as can be used are.
    """
    count = max((partition + 1 for claim in claims.values() for partition in claim.owned), default=0)
    found: dict[int, str] = {}
    busy = dict.fromkeys(claims, 0)
    for lost in sorted(claims):
        # Whose copies are many is not given more of them where others could have them as well.
        left = place(count, {member: claim for member, claim in claims.items() if member != lost}, busy)
        for member, given in left.items():
            new = claims[lost].owned.intersection(given)
            busy[member] += len(new)
            found |= dict.fromkeys(new, member)
    return found


def place_standbys(
    active: Mapping[str, Collection[int]], warm: Mapping[str, AbstractSet[int]], copies: int, heir: Mapping[int, str]
) -> dict[str, list[int]]:
    """Member → the partitions that it keeps copies of, for each member of `warm`: those that keep any.

    Each partition of `active` (member → what it runs) has `copies` of them, or as many as there are members of `warm`
    besides the one that runs it; none is where it runs. The first is with its `heir`, who gets it when that one is
    lost. Of others, `warm` says of what a member has a copy already: these stay with members that have not more than
    their share of all. The same arguments give the same result.
    """
    runs = {partition: member for member, partitions in active.items() for partition in partitions}
    kept: dict[str, set[int]] = {member: set() for member in sorted(warm)}
    share = -(-copies * len(runs) // max(1, len(kept)))
    first = {partition: member for partition, member in heir.items() if member in kept}
    for partition, member in first.items():
        kept[member].add(partition)

    def least(partition: int, member: str) -> tuple[bool, int, str]:
        """Who has a copy keeps it; else whoever has least to do."""
        return partition not in warm[member] or len(kept[member]) >= share, len(kept[member]), member

    for partition in sorted(runs):
        others = [member for member in kept if member not in (runs[partition], first.get(partition))]
        wanted = min(copies, sum(member != runs[partition] for member in kept)) - (partition in first)
        for member in sorted(others, key=lambda member: least(partition, member))[:wanted]:
            kept[member].add(partition)
    return {member: sorted(partitions) for member, partitions in kept.items()}

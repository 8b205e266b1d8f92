"""Which member of a group keeps standby copies of which partitions' state. Pure.

The leader of the group decides for all, after it is known who runs what.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet


def place_standbys(
    active: Mapping[str, Collection[int]], warm: Mapping[str, AbstractSet[int]], copies: int
) -> dict[str, list[int]]:
    """Member → the partitions that it keeps copies of, for each member of `warm`: those that keep any.

    Each partition of `active` (member → what it runs) has `copies` of them, or as many as there are members of `warm`
    besides the one that runs it; none is where it runs. `warm`: of what a member has a copy already. These stay, but
    where one member has two more than another that could have one of them. The same arguments give the same result.
    """
    runs = {partition: member for member, partitions in active.items() for partition in partitions}
    kept: dict[str, set[int]] = {member: set() for member in sorted(warm)}
    for partition in sorted(runs):
        others = [member for member in kept if member != runs[partition]]
        wanted = min(copies, len(others))
        # Who has a copy keeps it; else whoever has least to do.
        others.sort(key=lambda member: (partition not in warm[member], len(kept[member]), member))
        for member in others[:wanted]:
            kept[member].add(partition)
    while (move := _move(kept, runs, warm)) is not None:
        partition, here, there = move
        kept[here].remove(partition)
        kept[there].add(partition)
    return {member: sorted(partitions) for member, partitions in kept.items()}


def _move(
    kept: Mapping[str, AbstractSet[int]], runs: Mapping[int, str], warm: Mapping[str, AbstractSet[int]]
) -> tuple[int, str, str] | None:
    """(partition, from, to) that makes it more even; one of those that cost least. None: it is even."""
    by_number = sorted(kept, key=lambda member: (len(kept[member]), member))
    for there in by_number:
        for here in reversed(by_number):
            if len(kept[here]) < len(kept[there]) + 2:
                break
            could = [p for p in kept[here] if runs[p] != there and p not in kept[there]]
            if could:
                cheapest = min(could, key=lambda p: (p not in warm[there], p in warm[here], p))
                return cheapest, here, there
    return None

"""Whatever happens to a group: copies are never where the task runs, but where it would go, and stay where they are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamd.transport.kafka.placement import Claim, place
from streamd.transport.kafka.standby_placement import heirs, place_standbys

MEMBERS = [f"m{number}" for number in range(6)]
GROUPS = st.lists(st.sets(st.sampled_from(MEMBERS), min_size=1), min_size=1, max_size=6)


def placed_beside(
    active: dict[str, list[int]], warm: dict[str, frozenset[int]], copies: int, capacity: dict[str, int] | None = None
) -> dict[str, list[int]]:
    """The copies of a group whose members all keep some."""
    claims = {m: Claim(1, frozenset(active[m]), (capacity or {}).get(m, 1), copies, warm[m]) for m in active}
    return place_standbys(active, warm, copies, heirs(claims))


def check(active: dict[str, list[int]], kept: dict[str, list[int]], copies: int) -> None:
    runs = {partition: member for member, partitions in active.items() for partition in partitions}
    for partition, runner in runs.items():
        keepers = [member for member in kept if partition in kept[member]]
        assert runner not in keepers
        assert len(keepers) == min(copies, len(kept.keys() - {runner}))
    assert set().union(*map(set, kept.values())) <= runs.keys()


@given(
    count=st.integers(0, 24), group=st.sets(st.sampled_from(MEMBERS), min_size=1), copies=st.integers(1, 3),
    warm=st.dictionaries(st.sampled_from(MEMBERS), st.frozensets(st.integers(-1, 30))),
)  # fmt: skip
def test_copies_are_elsewhere_and_stay(
    count: int, group: set[str], copies: int, warm: dict[str, frozenset[int]]
) -> None:
    active = place(count, dict.fromkeys(group, Claim()))
    known = {member: warm.get(member, frozenset()) for member in group}
    kept = placed_beside(active, known, copies)
    check(active, kept, copies)
    assert kept == placed_beside(dict(reversed(active.items())), dict(reversed(known.items())), copies)
    again = placed_beside(active, {member: frozenset(found) for member, found in kept.items()}, copies)
    if copies == 1:
        assert again == kept, "what is in place stays there"


@given(
    count=st.integers(1, 24),
    groups=GROUPS,
    copies=st.integers(1, 2),
    capacity=st.lists(st.integers(1, 3), min_size=6, max_size=6),
)
def test_whatever_comes_and_goes_a_lost_members_partitions_go_where_copies_are(
    count: int, groups: list[set[str]], copies: int, capacity: list[int]
) -> None:
    can = dict(zip(MEMBERS, capacity, strict=True))
    placed: dict[str, list[int]] = {}
    kept: dict[str, list[int]] = {}
    for generation, group in enumerate(groups, 1):
        claims = {
            member: Claim(
                generation - 1, frozenset(placed.get(member, ())), can[member], copies, frozenset(kept.get(member, ()))
            )
            for member in group
        }
        gone = set(placed) - group
        before, placed = placed, place(count, claims)
        if len(gone) == 1 and not group - set(before):
            [lost] = gone
            runs = {p: member for member in group for p in placed[member]}
            assert all(p in kept[runs[p]] for p in before[lost])
        kept = placed_beside(placed, {m: claim.warm | claim.owned for m, claim in claims.items()}, copies, can)
        check(placed, kept, copies)


def test_with_two_members_the_other_one_has_all_copies() -> None:
    active = {"a": [0, 1, 2], "b": [3]}
    assert placed_beside(active, {"a": frozenset(), "b": frozenset()}, 2) == {"a": [3], "b": [0, 1, 2]}
    assert placed_beside({"a": [0, 1]}, {"a": frozenset()}, 1) == {"a": []}
    # Who keeps none is given none.
    claims = {member: Claim(1, frozenset(partitions)) for member, partitions in active.items()}
    assert place_standbys(active, {"a": frozenset()}, 1, heirs(claims)) == {"a": [3]}


def test_three_members_and_one_is_lost() -> None:
    claims = {
        "a": Claim(1, frozenset({0}), 1, 1, frozenset({2})),
        "c": Claim(1, frozenset({2}), 1, 1, frozenset({1})),
    }
    assert place(3, claims) == {"a": [0], "c": [1, 2]}


def test_a_member_that_comes_back_gets_what_it_has_copies_of() -> None:
    claims = {
        "new": Claim(-1, frozenset(), 1, 1, frozenset({0, 1})),
        "old": Claim(3, frozenset({0, 1, 2, 3}), 1, 1),
    }
    assert place(4, claims) == {"new": [0, 1], "old": [2, 3]}


def test_copies_are_spread_as_far_as_shares_let_them() -> None:
    """Each of three has as much as the others: so each gets as many copies, and of both others."""
    active = {"a": [0, 1], "b": [2, 3], "c": [4, 5]}
    kept = placed_beside(active, dict.fromkeys(active, frozenset()), 1)
    assert {member: len(found) for member, found in kept.items()} == {"a": 2, "b": 2, "c": 2}
    assert all(
        {member for member in active if set(active[member]) & set(found)} == active.keys() - {keeper}
        for keeper, found in kept.items()
    )

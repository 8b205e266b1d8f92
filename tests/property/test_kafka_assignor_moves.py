"""Whatever happens to a group: every partition has one owner, shares are fair, and nothing moves without need."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamd.transport.kafka.placement import Claim, place

MEMBERS = [f"m{number}" for number in range(8)]
steps = st.lists(st.sets(st.sampled_from(MEMBERS), min_size=1), min_size=1, max_size=6)


def check(count: int, claims: dict[str, Claim], placed: dict[str, list[int]]) -> None:
    assert sorted(partition for partitions in placed.values() for partition in partitions) == list(range(count))
    total = sum(claim.capacity for claim in claims.values())
    for member, claim in claims.items():
        exact = count * claim.capacity / total
        assert exact - 1 < len(placed[member]) < exact + 1


@given(count=st.integers(0, 40), groups=steps, capacity=st.lists(st.integers(1, 5), min_size=8, max_size=8))
def test_owners_are_unique_and_shares_fair(count: int, groups: list[set[str]], capacity: list[int]) -> None:
    placed: dict[str, list[int]] = {}
    for generation, group in enumerate(groups, 1):
        claims = {
            member: Claim(generation - 1, frozenset(placed.get(member, ())), capacity[MEMBERS.index(member)])
            for member in group
        }
        placed = place(count, claims)
        check(count, claims, placed)
        assert placed == place(count, dict(reversed(claims.items())))


@given(count=st.integers(1, 40), groups=steps)
def test_moves_are_as_few_as_a_fair_share_allows(count: int, groups: list[set[str]]) -> None:
    placed: dict[str, list[int]] = {}
    for generation, group in enumerate(groups, 1):
        before = {member: set(placed.get(member, ())) for member in group}
        placed = place(count, {member: Claim(generation - 1, frozenset(had)) for member, had in before.items()})
        share, extra = divmod(count, len(group))
        # With equal members the best that can be: the `extra` ones that have most may keep one more than the share.
        kept_at_best = sum(
            min(len(had), share + (rank < extra))
            for rank, had in enumerate(sorted(before.values(), key=len, reverse=True))
        )
        kept = sum(len(before[member] & set(placed[member])) for member in group)
        assert kept == kept_at_best


@given(
    count=st.integers(1, 20),
    claims=st.dictionaries(
        st.sampled_from(MEMBERS),
        st.builds(Claim, st.integers(-1, 5), st.frozensets(st.integers(-2, 30)), st.integers(1, 3)),
        min_size=1,
    ),
)
def test_claims_that_make_no_sense_do_no_harm(count: int, claims: dict[str, Claim]) -> None:
    check(count, claims, place(count, claims))


@given(count=st.integers(1, 60), members=st.integers(1, 7))
def test_a_join_moves_the_newcomers_share_and_a_leave_what_the_leaver_had(count: int, members: int) -> None:
    """Not one partition moves between those that were there; shares stay within one of each other."""
    group = MEMBERS[:members]
    before = place(count, {member: Claim() for member in group})
    claims = {member: Claim(9, frozenset(had)) for member, had in before.items()}
    joined = place(count, {**claims, "newcomer": Claim()})
    moved = {p for member in group for p in set(before[member]) - set(joined[member])}
    assert moved == set(joined["newcomer"])
    assert len(moved) <= -(-count // (members + 1))
    assert max(map(len, joined.values())) - min(map(len, joined.values())) <= 1
    left = place(count, {member: Claim(10, frozenset(joined[member])) for member in group})
    assert all(set(joined[member]) <= set(left[member]) for member in group)

"""Placing partitions on members: together, in proportion, and with few moves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

from streamd.transport.kafka.assignor import TogetherAssignor, nodes_of, standbys_of, topic_counts
from streamd.transport.kafka.placement import Claim, place


def cluster(**counts: int) -> Any:
    return SimpleNamespace(partitions_for_topic=lambda topic: set(range(counts[topic])) if topic in counts else None)


def join(assignor: TogetherAssignor, *topics: str) -> Any:
    encoded = assignor.metadata(topics).encode()
    return ConsumerProtocolMemberMetadata.decode(encoded)


def partitions(assignment: Any) -> dict[str, list[int]]:
    decoded = ConsumerProtocolMemberAssignment.decode(assignment.encode())
    return dict(decoded.assignment)


def test_nobody_gets_nothing() -> None:
    assert place(4, {}) == {}
    assert place(0, {"a": Claim()}) == {"a": []}


def test_shares_follow_capacity() -> None:
    placed = place(12, {"big": Claim(capacity=4), "small": Claim(capacity=2)})
    assert {member: len(found) for member, found in placed.items()} == {"big": 8, "small": 4}


def test_a_late_claim_loses() -> None:
    claims = {"zombie": Claim(3, frozenset({0, 1})), "owner": Claim(7, frozenset({0, 1}))}
    placed = place(4, claims)
    assert placed["owner"] == [0, 1]
    assert placed["zombie"] == [2, 3]


def test_a_restarted_node_gets_back_what_lies_on_its_disk_if_it_is_free() -> None:
    returning = Claim(-1, frozenset({4, 5}))
    placed = place(6, {"stayed": Claim(9, frozenset({0, 1, 2})), "returning": returning})
    assert placed["returning"] == [3, 4, 5]
    taken = place(6, {"stayed": Claim(9, frozenset({3, 4, 5})), "returning": returning})
    assert taken["stayed"] == [3, 4, 5]


def test_partition_p_of_every_topic_goes_to_one_member() -> None:
    one, two = TogetherAssignor(), TogetherAssignor()
    members = {"one": join(one, "orders", "payments"), "two": join(two, "payments", "orders")}
    assigned = one.assign(cluster(orders=5, payments=3), members)
    owners: dict[int, set[str]] = {}
    for member, assignment in assigned.items():
        for numbers in partitions(assignment).values():
            for number in numbers:
                owners.setdefault(number, set()).add(member)
    assert {number: len(members) for number, members in owners.items()} == dict.fromkeys(range(5), 1)
    assert topic_counts(assigned["one"].user_data) == {"orders": 5, "payments": 3}


def test_what_a_member_had_survives_the_next_join() -> None:
    one, two = TogetherAssignor(), TogetherAssignor()
    one.joined(4, [1, 3, 5])
    assigned = two.assign(cluster(orders=6), {"b": join(one, "orders"), "a": join(two, "orders")})
    assert partitions(assigned["b"]) == {"orders": [1, 3, 5]}
    assert partitions(assigned["a"]) == {"orders": [0, 2, 4]}


def test_a_topic_goes_only_to_members_that_read_it() -> None:
    old, new = TogetherAssignor(), TogetherAssignor()
    members = {"old": join(old, "orders"), "new": join(new, "orders", "users")}
    assigned = old.assign(cluster(orders=2, users=2), members)
    assert "users" not in partitions(assigned["old"])
    assert partitions(assigned["new"])["users"] == [0, 1]
    assert len(partitions(assigned["old"])["orders"]) == 1


def test_foreign_user_data_costs_moves_only() -> None:
    for data in (None, b"", b"\x00\x01", b"[]", msgspec.json.encode({"g": "x"})):
        stranger = ConsumerProtocolMemberMetadata(0, ["orders"], data)
        assert partitions(TogetherAssignor().assign(cluster(orders=2), {"m": stranger})["m"]) == {"orders": [0, 1]}
        assert topic_counts(data) == {}


def test_a_topic_that_is_gone_has_no_partitions() -> None:
    assigned = TogetherAssignor().assign(cluster(), {"m": join(TogetherAssignor(), "orders")})
    assert partitions(assigned["m"]) == {}


def told(assignment: Any) -> tuple[frozenset[int], int]:
    return standbys_of(ConsumerProtocolMemberAssignment.decode(assignment.encode()).user_data)


def test_copies_go_to_other_members_and_come_first_when_one_is_lost() -> None:
    warm: dict[str, set[int]] = {"a": set(), "b": set(), "c": set()}
    made = {name: TogetherAssignor(copies=1, warm=lambda name=name: warm[name]) for name in warm}

    def assign(*names: str) -> dict[str, Any]:
        found = made[names[0]].assign(cluster(t=6), {name: join(made[name], "t") for name in names})
        for name in names:
            made[name].joined(1, partitions(found[name]).get("t", []))
            warm[name] = set(told(found[name])[0])
        return found

    first = assign("a", "b", "c")
    assert topic_counts(ConsumerProtocolMemberAssignment.decode(first["a"].encode()).user_data) == {"t": 6}
    assert sorted(number for name in warm for number in warm[name]) == list(range(6))
    assert all(not warm[name] & set(partitions(first[name])["t"]) for name in warm)
    assert {told(found)[1] for found in first.values()} == {1}
    kept = {name: frozenset(found) for name, found in warm.items()}
    second = assign("b", "c")
    for number in partitions(first["a"])["t"]:
        [keeper] = [name for name in kept if number in kept[name]]
        assert number in partitions(second[keeper])["t"]
    third = assign("b")
    assert told(third["b"]) == (frozenset(), 0)


def test_a_member_that_keeps_none_is_given_none_and_an_old_one_is_understood() -> None:
    keeps, old = TogetherAssignor(copies=2, warm=lambda: [0, 3]), TogetherAssignor()
    members = {"keeps": join(keeps, "t"), "old": join(old, "t")}
    assert msgspec.json.decode(members["old"].user_data)["w"] == []
    found = keeps.assign(cluster(t=4), members)
    assert told(found["old"])[0] == frozenset()
    assert told(found["keeps"]) == (frozenset(partitions(found["old"])["t"]), 0), "nobody keeps those of the other"
    assert standbys_of(None) == (frozenset(), 0)
    assert standbys_of(b'{"t": 4}') == (frozenset(), 0)


def test_all_members_are_told_where_all_are() -> None:
    one, two, silent = TogetherAssignor(node="/http://a:1"), TogetherAssignor(node="/http://b:1"), TogetherAssignor()
    one.joined(3, [0])
    members = {name: join(member, "orders") for name, member in (("one", one), ("two", two), ("silent", silent))}
    for assignment in one.assign(cluster(orders=3), members).values():
        assert nodes_of(assignment.user_data) == {"/http://a:1": 1, "/http://b:1": 1, "": 1}
        assert topic_counts(assignment.user_data) == {"orders": 3}
        assert standbys_of(assignment.user_data) == (frozenset(), 0)
    assert nodes_of(msgspec.json.encode({"orders": 3})) == {}, "a leader that does not tell"

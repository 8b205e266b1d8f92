"""The oracle itself finds what it is there to find."""

from __future__ import annotations

import pytest

from faults.oracle import KEYS, document, expected_state, judge, remembered


def outputs_of(numbers, partitions=2):
    made = [[] for _ in range(partitions)]
    for n in numbers:
        found = document(n)
        made[found["key"] % partitions].append({**found, "double": 2 * found["number"]})
    return made


def test_what_came_once_and_in_order_is_exact():
    verdict = judge(300, outputs_of(range(300)), {0: 150, 1: 150}, {0: 150, 1: 150})
    assert verdict.exact
    assert (verdict.fed, verdict.came) == (300, 300)


@pytest.mark.parametrize(
    ("numbers", "fault"),
    [
        ([n for n in range(300) if n != 77], "lost"),
        ([*range(300), 299], "duplicated"),
        ([*range(KEYS, 300), *range(KEYS)], "disordered"),
        ([*range(301)], "wrong"),
    ],
)
def test_each_fault_is_named(numbers, fault):
    verdict = judge(300, outputs_of(numbers), {}, {})
    assert not verdict.exact
    assert getattr(verdict, fault) > 0


def test_a_lost_and_a_duplicated_record_do_not_make_up_for_each_other():
    verdict = judge(300, outputs_of([0, *range(299)]), {}, {})
    assert (verdict.came, verdict.lost, verdict.duplicated) == (300, 1, 1)


def test_a_key_in_two_partitions_is_seen():
    first, second = outputs_of(range(300))
    second.append(first.pop())
    assert judge(300, [first, second], {}, {}).scattered == 1


def test_a_position_behind_or_beyond_the_output_is_seen():
    outputs = outputs_of(range(300))
    assert judge(300, outputs, {0: 149}, {0: 150}).unread == {0: (149, 150)}
    assert judge(300, outputs, {}, {0: 150}).unread == {0: (None, 150)}
    assert not judge(300, outputs, {0: 151}, {0: 150}).exact


def test_a_record_that_stages_got_wrong_is_seen():
    outputs = outputs_of(range(300))
    outputs[0][5]["double"] += 1
    assert judge(300, outputs, {}, {}).wrong == 1


def counted_outputs(fed):
    outputs = outputs_of(range(fed))
    for found in (found for partition in outputs for found in partition):
        _, _, found["seen"], found["total"] = remembered(found["number"])
    return outputs


def test_state_that_is_right_is_exact():
    state = expected_state(301)
    assert state[0] == [10, 5, 6, 15]
    assert state[1] == [8, 4, 5, 10]
    assert judge(301, counted_outputs(301), {}, {}, state).exact


@pytest.mark.parametrize("field", ["seen", "total"])
def test_a_record_with_the_state_of_another_moment_is_seen(field):
    outputs = counted_outputs(300)
    outputs[1][70][field] += 1
    verdict = judge(300, outputs, {}, {}, expected_state(300))
    assert (verdict.miscounted, verdict.wrong, verdict.exact) == (1, 1, False)


def test_a_record_without_state_is_seen():
    outputs = counted_outputs(300)
    del outputs[0][7]["total"]
    assert judge(300, outputs, {}, {}, expected_state(300)).miscounted == 1


def test_a_changelog_behind_or_ahead_of_the_output_is_seen():
    for fed in (299, 301):
        verdict = judge(300, counted_outputs(300), {}, {}, expected_state(fed))
        assert not verdict.exact
        assert len(verdict.stale) == 1


def test_a_key_that_is_forgotten_or_invented_is_seen():
    state = expected_state(300)
    del state[3]
    state[KEYS] = remembered(0)
    assert judge(300, counted_outputs(300), {}, {}, state).stale == {3: None, KEYS: remembered(0)}


def test_state_is_not_looked_at_where_nothing_counts():
    assert judge(300, outputs_of(range(300)), {}, {}).exact


def test_at_least_once_allows_duplicates_and_nothing_else():
    twice = judge(300, outputs_of([*range(300), *range(200, 300)]), {}, {})
    assert twice.nothing_lost
    assert not twice.exact
    assert not judge(300, outputs_of(range(299)), {}, {}).nothing_lost
    assert not judge(300, outputs_of(range(300)), {0: 149}, {0: 150}).nothing_lost

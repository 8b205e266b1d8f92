"""The oracle itself finds what it is there to find."""

from __future__ import annotations

import pytest

from faults.oracle import KEYS, document, judge


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

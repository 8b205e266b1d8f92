"""What exactly-once means for a run, checked on what came out.

Record n of a run has key n mod KEYS and, in that key, number n div KEYS: so each (key, number) exists once, and all
that must come out is known from how many were fed, and so is what a stage that counts must say of each record, and
remember of each key in the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KEYS = 60


def document(n: int) -> dict[str, int]:
    """Record n, as it is fed."""
    return {"key": n % KEYS, "number": n // KEYS}


def remembered(last: int) -> list[int]:
    """What is kept of a key whose last number this is: its double, the number, how many there were, and their sum."""
    return [2 * last, last, last + 1, last * (last + 1) // 2]


def expected_state(fed: int) -> dict[int, list[int]]:
    """{key: what is kept of it} after that many records."""
    return {key: remembered((fed - 1 - key) // KEYS) for key in range(min(fed, KEYS))}


def partition_of(n: int, partitions: int) -> int:
    """The input partition of record n: a key is in one only."""
    return n % KEYS % partitions


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. `fed` and `came` in records; of all the others one is one too many.

    `disordered`: records that came after a later one of their key. `scattered`: keys in more than one partition.
    `wrong`: records that the stages got wrong; `miscounted`: those of them that have the wrong state of their key.
    `unread`: {input partition: (committed position, its end)} where these differ. `stale`: {key: what the changelog
    says} where it does not say what is recomputed from the input; None where it says nothing.
    """

    fed: int
    came: int
    lost: int
    duplicated: int
    disordered: int
    scattered: int
    wrong: int
    unread: Mapping[int, tuple[int | None, int]]
    miscounted: int = 0
    stale: Mapping[Any, Any] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether everything came out once, in order, and committed positions and state say so."""
        faults = self.lost + self.duplicated + self.disordered + self.scattered + self.wrong
        return not faults and not self.unread and not self.stale and self.fed == self.came

    @property
    def nothing_lost(self) -> bool:
        """Whether everything came out at least once, and the committed positions say so."""
        return not self.lost and not self.wrong and not self.scattered and not self.unread


def judge(
    fed: int,
    outputs: Sequence[Iterable[Mapping[str, Any]]],
    positions: Mapping[int, int],
    ends: Mapping[int, int],
    state: Mapping[Any, Any] | None = None,
) -> Verdict:
    """Judge a run. `outputs`: the documents of each output partition, in order; `positions` and `ends` of the input.

    `state`: {key: what is kept of it}, of a run that counts; its outputs then have to hold `seen` and `total`.
    """
    seen: Counter[tuple[int, int]] = Counter()
    newest: dict[int, int] = {}
    home: dict[int, int] = {}
    disordered = wrong = miscounted = 0
    scattered: set[int] = set()
    for partition, documents in enumerate(outputs):
        for found in documents:
            key, number = found["key"], found["number"]
            seen[key, number] += 1
            kept = remembered(number)
            miscounts = state is not None and [found.get("seen"), found.get("total")] != kept[2:]
            miscounted += miscounts
            wrong += miscounts or found.get("double") != kept[0]
            disordered += number < newest.get(key, -1)
            newest[key] = max(number, newest.get(key, -1))
            if home.setdefault(key, partition) != partition:
                scattered.add(key)
    expected = {(n % KEYS, n // KEYS) for n in range(fed)}
    recomputed, told = (expected_state(fed), state) if state is not None else ({}, {})
    return Verdict(
        fed=fed,
        came=seen.total(),
        lost=len(expected - seen.keys()),
        duplicated=sum(count - 1 for count in seen.values()),
        disordered=disordered,
        scattered=len(scattered),
        wrong=wrong + len(seen.keys() - expected),
        unread={p: (positions.get(p), end) for p, end in ends.items() if positions.get(p, 0) != end},
        miscounted=miscounted,
        stale={key: told.get(key) for key in {*recomputed, *told} if told.get(key) != recomputed.get(key)},
    )

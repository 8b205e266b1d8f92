"""What exactly-once means for a run, checked on what came out.

Record n of a run has key n mod KEYS and, in that key, number n div KEYS: so each (key, number) exists once, and all
that must come out is known from how many were fed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KEYS = 60


def document(n: int) -> dict[str, int]:
    """Record n, as it is fed."""
    return {"key": n % KEYS, "number": n // KEYS}


def partition_of(n: int, partitions: int) -> int:
    """The input partition of record n: a key is in one only."""
    return n % KEYS % partitions


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. `fed` and `came` in records; of all the others one is one too many.

    `disordered`: records that came after a later one of their key. `scattered`: keys in more than one partition.
    `wrong`: records that the stages got wrong. `unread`: {input partition: (committed position, its end)} where these
    differ.
    """

    fed: int
    came: int
    lost: int
    duplicated: int
    disordered: int
    scattered: int
    wrong: int
    unread: Mapping[int, tuple[int | None, int]]

    @property
    def exact(self) -> bool:
        """Whether everything came out once, in order, and the committed positions say so."""
        faults = self.lost + self.duplicated + self.disordered + self.scattered + self.wrong
        return not faults and not self.unread and self.fed == self.came


def judge(
    fed: int,
    outputs: Sequence[Iterable[Mapping[str, Any]]],
    positions: Mapping[int, int],
    ends: Mapping[int, int],
) -> Verdict:
    """Judge a run. `outputs`: the documents of each output partition, in order; `positions` and `ends` of the input."""
    seen: Counter[tuple[int, int]] = Counter()
    newest: dict[int, int] = {}
    home: dict[int, int] = {}
    disordered = wrong = 0
    scattered: set[int] = set()
    for partition, documents in enumerate(outputs):
        for found in documents:
            key, number = found["key"], found["number"]
            seen[key, number] += 1
            wrong += found.get("double") != 2 * number
            disordered += number < newest.get(key, -1)
            newest[key] = max(number, newest.get(key, -1))
            if home.setdefault(key, partition) != partition:
                scattered.add(key)
    expected = {(n % KEYS, n // KEYS) for n in range(fed)}
    return Verdict(
        fed=fed,
        came=seen.total(),
        lost=len(expected - seen.keys()),
        duplicated=sum(count - 1 for count in seen.values()),
        disordered=disordered,
        scattered=len(scattered),
        wrong=wrong + len(seen.keys() - expected),
        unread={p: (positions.get(p), end) for p, end in ends.items() if positions.get(p, 0) != end},
    )

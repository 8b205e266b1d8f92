"""The oracle of the fault tests, record by record: its memory grows with what went wrong, not with what came.

A key's records are numbered from 0, and come in order when nothing is wrong. So one number for each key is enough, the
one that comes next, and beside it those that were passed over and may still come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from faults.oracle import KEYS, Verdict, partition_of


class StreamJudge:
    """Takes each output partition's documents in order, the partitions mixed as they come. `came`: records so far.

    `running`: whether documents bear running totals (`seen`, `total`) that must be those of all numbers up to theirs.
    `newest` is by input partition: the last record of it that came.
    """

    def __init__(self, partitions: int, running: bool = False) -> None:
        self.came = 0
        self.newest = dict.fromkeys(range(partitions), -1)
        self._running = running
        self._partitions = partitions
        self._next: dict[int, int] = {}
        self._missing: dict[int, set[int]] = {}
        self._highest: dict[int, int] = {}
        self._home: dict[int, int] = {}
        self._duplicated = self._disordered = self._wrong = 0
        self._scattered: set[int] = set()

    def saw(self, partition: int, documents: Iterable[Mapping[str, Any]]) -> None:
        """Documents of one output partition."""
        for found in documents:
            key, number = found["key"], found["number"]
            self.came += 1
            self._wrong += not self._right(found, number)
            if self._home.setdefault(key, partition) != partition:
                self._scattered.add(key)
            self._place(key, number)
            n = number * KEYS + key
            origin = partition_of(n, self._partitions)
            if n > self.newest[origin]:
                self.newest[origin] = n

    @property
    def faults(self) -> int:
        """What is wrong for good by now: what is missing may still come."""
        return self._duplicated + self._disordered + self._wrong + len(self._scattered)

    def verdict(self, fed: int, positions: Mapping[int, int], ends: Mapping[int, int]) -> Verdict:
        """As `faults.oracle.judge` gives it, of everything seen, when `fed` records were fed."""
        lost = strange = 0
        for key in {*self._next, *range(min(fed, KEYS))}:
            expected = max(0, -(-(fed - key) // KEYS)) if 0 <= key < KEYS else 0
            upto = self._next.get(key, 0)
            missing = self._missing.get(key, set())
            lost += sum(number < expected for number in missing) + max(0, expected - upto)
            strange += max(0, upto - expected) - sum(number >= expected for number in missing)
        return Verdict(
            fed=fed,
            came=self.came,
            lost=lost,
            duplicated=self._duplicated,
            disordered=self._disordered,
            scattered=len(self._scattered),
            wrong=self._wrong + strange,
            unread={p: (positions.get(p), end) for p, end in ends.items() if positions.get(p, 0) != end},
        )

    def _place(self, key: int, number: int) -> None:
        """Note that a key's number came."""
        expected = self._next.get(key, 0)
        self._disordered += number < self._highest.get(key, -1)
        if number == expected:
            self._next[key] = number + 1
        elif number > expected:
            self._missing.setdefault(key, set()).update(range(expected, number))
            self._next[key] = number + 1
        elif number in self._missing.get(key, ()):
            self._missing[key].discard(number)
        else:
            self._duplicated += 1
        self._highest[key] = max(number, self._highest.get(key, -1))

    def _right(self, found: Mapping[str, Any], number: int) -> bool:
        if found.get("double") != 2 * number:
            return False
        if not self._running:
            return True
        return found.get("seen") == number + 1 and found.get("total") == number * (number + 1) // 2

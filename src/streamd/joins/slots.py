"""Rows that are kept for a while, by slots of time: what a stage works on, and the log of it in its store.

In memory a slot is {key: rows}. The store has for each slot batches of [key, row, key, row, …], one for each checkpoint
in which rows came: a row costs the changelog no record of its own, and one that is written is never written again.
Which rows have met somebody since stands in batches of their ids. A slot is forgotten as a whole.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, TypeAlias

from streamd.component.state import Store, Table, TimeTable

# [time, …]: what is kept of a record.
Kept: TypeAlias = list[Any]


class Batches:
    """The batches of each slot in one table of the store. Only the newest one of a slot grows."""

    def __init__(self, log: TimeTable) -> None:
        self.log = log
        self._newest: dict[int, tuple[int, list[Any]]] = {}

    def at(self, slot: int) -> list[Any]:
        """The batch of a slot to append to; a new one where the last is in the changelog already."""
        table = self.log[slot]
        number, batch = self._newest.get(slot, (-1, []))
        if not table.dirty:
            number, batch = number + 1, []
            table[number] = batch
            table.dirty.add(number)
            self._newest[slot] = number, batch
        return batch

    def restored(self, slot: int) -> Iterator[Any]:
        """What the changelog has of a slot, in order."""
        table: Table = self.log[slot]
        numbers = sorted(number for number, _ in table.scan() if isinstance(number, int))
        self._newest[slot] = (numbers[-1], []) if numbers else (-1, [])
        for number in numbers:
            yield from table[number]

    def drop(self, slot: int) -> None:
        """Forget a slot."""
        self.log.drop(slot)
        self._newest.pop(slot, None)


class Slots:
    """The rows of one side. `rows`: {slot: {key: rows}}; `added` and `met`: what the store has of them.

    With `flagged`, a row's second item is its id as long as it has met nobody, and then 0.
    """

    def __init__(self, store: Store, name: str, *, flagged: bool) -> None:
        self.rows: dict[int, dict[Hashable, list[Kept]]] = {}
        self.added = Batches(store.times(name))
        self.met = Batches(store.times(f"{name}_met")) if flagged else None
        self.last_id = 0

    def restored(self) -> None:
        """Read what the store has."""
        for slot in sorted(self.added.log):
            table = self.rows[slot] = {}
            met = set(self.met.restored(slot)) if self.met is not None and slot in self.met.log else set()
            # Of a row that met somebody before it was written, the id stands there alone.
            self.last_id = max(self.last_id, max(met, default=0))
            pairs = self.added.restored(slot)
            for key, row in zip(pairs, pairs, strict=True):
                table.setdefault(key[0].encode() if key.__class__ is list else key, []).append(row)
                if self.met is not None:
                    self.last_id = max(self.last_id, row[1])
                    row[1] = 0 if row[1] in met else row[1]

    def forget(self, bound: int, size: int) -> None:
        """Forget all slots of this size that end before `bound`."""
        for slot in [slot for slot in self.rows if slot + size <= bound]:
            del self.rows[slot]
            self.added.drop(slot)
            if self.met is not None:
                self.met.drop(slot)

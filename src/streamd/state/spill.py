"""Tables larger than memory: what was not used for long goes to the cold tier, and comes back when it is asked for.

Entries leave between two batches alone, after a checkpoint (the changelog has them then) or while state is restored. So
a kernel reads and changes values in place as if all were in memory, for as long as it does not keep one until the next
batch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterator
from itertools import islice
from typing import Any, Final

import orjson

from streamd.state.cold import ColdTier
from streamd.state.tables import Coder, DictTable, key_from, name_of

# What a key costs beside its own size and its value's: its place in the dict, and what allocating leaves unused.
_PLACE: Final = 110
_SAMPLE: Final = 16
_DEPTH: Final = 4


class SpillTable(DictTable):
    """`DictTable` of which a part may be in the cold tier.

    A name there counts only for a key that is neither in memory nor removed. `cold`: how many such there are, or more:
    keys that were set without a look at them are counted twice. `stored`: whether there ever was one.
    """

    __slots__ = ("_names", "_spill", "_unpack", "cold", "removed", "stored")

    def __init__(self, spill: Spill, prefix: bytes, pack: Coder | None, unpack: Coder | None, *, born: bool) -> None:
        super().__init__(born=born)
        self._spill, self._names, self._unpack = spill, prefix, unpack
        self.cold, self.stored = 0, False
        self.removed: set[Hashable] = set()
        spill.add(self, prefix, pack)

    def __missing__(self, key: Hashable) -> Any:
        if key in self.removed:
            return None
        if self.cold:
            found = self._spill.tier.get(self._names + name_of(key))
            if found is not None:
                self.cold -= 1
                value = self[key] = self._value(found)
                return value
        return super().__missing__(key)

    def remove(self, key: Hashable) -> None:
        """See `Table.remove`."""
        if self.cold and key not in self:
            self[key]  # so that it is counted
        super().remove(key)
        self.removed.add(key)

    def scan(self) -> Iterator[tuple[Hashable, Any]]:
        """See `Table.scan`."""
        yield from self.items()
        for key, value in self._beside():
            yield key, self._value(value)

    def written(self) -> Iterator[Hashable]:
        """See `DictTable.written`."""
        yield from super().written()
        for key, _ in self._beside():
            yield key

    def forget(self, key: Hashable) -> None:
        """See `DictTable.forget`."""
        super().forget(key)
        if self.stored:
            self._spill.tier.write([(self._names + name_of(key), None)])

    def dropped(self) -> None:
        """See `DictTable.dropped`."""
        self._spill.leave(self)
        if self.stored:
            self._spill.tier.drop(self._names)

    def gone(self) -> list[Hashable]:
        """See `DictTable.gone`: here a dirty key that is not in memory may be one that nobody has looked at."""
        gone = super().gone()
        stray = [key for key in gone if key not in self.removed]
        self.dirty.difference_update(stray)
        return [key for key in gone if key in self.removed] if stray else gone

    def settle(self) -> None:
        """The changes are durable: what was removed is removed in the cold tier too."""
        if self.removed:
            if self.stored:
                names = self._names
                self._spill.tier.write((names + name_of(key), None) for key in self.removed if key not in self)
            self.removed.clear()

    def evict(self, count: int, pack: Coder | None, *, spare: bool) -> int:
        """Move so many entries out, longest here first; gives how many went. `spare`: dirty ones go to the back."""
        dirty, victims = self.dirty, []
        for key in list(islice(self, count * (4 if spare else 1))):
            if spare and key in dirty:
                self[key] = self.pop(key)
            else:
                victims.append(key)
                if len(victims) == count:
                    break
        names, dumps, pop = self._names, orjson.dumps, self.pop
        if pack is None:
            self._spill.tier.write((names + name_of(key), dumps(pop(key))) for key in victims)
        else:
            self._spill.tier.write((names + name_of(key), dumps(pack(pop(key)))) for key in victims)
        self.cold, self.stored = self.cold + len(victims), True
        return len(victims)

    def _beside(self) -> Iterator[tuple[Hashable, bytes]]:
        if self.cold:
            for name, value in self._spill.tier.scan(self._names):
                key = key_from(name)
                if key not in self and key not in self.removed:
                    yield key, value

    def _value(self, found: bytes) -> Any:
        value = orjson.loads(found)
        return value if self._unpack is None else self._unpack(value)


class Spill:
    """Holds the tables of a task within a budget. `budget()`: bytes that they may have at the moment."""

    def __init__(self, tier: ColdTier, budget: Callable[[], int]) -> None:
        self.tier, self._budget = tier, budget
        self._tables: dict[int, tuple[SpillTable, bytes, Coder | None]] = {}
        # {name of a table, before the colon: bytes for each entry}
        self._weights: dict[bytes, float] = {}

    def add(self, table: SpillTable, prefix: bytes, pack: Coder | None) -> None:
        """A table that is to be held within the budget."""
        self._tables[id(table)] = (table, prefix[: prefix.index(b":")], pack)

    def leave(self, table: SpillTable) -> None:
        """A table that was dropped."""
        self._tables.pop(id(table), None)

    def fit(self) -> None:
        """Nothing is dirty but what the changelog has: move out what is too much."""
        tables = [found for found in self._tables.values() if found[0]]
        self._weigh(tables)
        excess = sum(len(table) * self._weights[name] for table, name, _ in tables) - self._budget()
        if excess <= 0:
            return
        for spare in (True, False):
            # First what has not changed of late: whole tables, then entries.
            for table, name, pack in sorted(tables, key=lambda found: bool(found[0].dirty)):
                if excess <= 0:
                    return
                weight = self._weights[name]
                excess -= weight * table.evict(min(len(table), int(excess / weight) + 1), pack, spare=spare)

    def settle(self) -> None:
        """The changes of all tables are durable."""
        for table, _, _ in self._tables.values():
            table.settle()

    def close(self) -> None:
        """Remove what is on disk."""
        self.tier.close()

    def _weigh(self, tables: list[tuple[SpillTable, bytes, Coder | None]]) -> None:
        """Look at a few entries of the newest table of each name, those that changed last if any did."""
        newest = {name: table for table, name, _ in tables}
        for name, table in newest.items():
            some = [key for key in islice(table.dirty, _SAMPLE) if key in table] or list(islice(table, _SAMPLE))
            weight = sum(_PLACE + _size(key, 0) + _size(table[key], _DEPTH) for key in some) / len(some)
            known = self._weights.get(name)
            self._weights[name] = weight if known is None else 0.9 * known + 0.1 * weight


def _size(value: Any, depth: int) -> int:
    """Bytes of a value with what is in it, roughly: of a long collection a few elements stand for all."""
    size = sys.getsizeof(value)
    if not depth or not isinstance(value, list | tuple | dict | set | frozenset) or not value:
        return size
    some = list(islice(value.items() if isinstance(value, dict) else value, _SAMPLE))
    parts = (part for pair in some for part in pair) if isinstance(value, dict) else iter(some)
    return size + sum(_size(part, depth - 1) for part in parts) * len(value) // len(some)

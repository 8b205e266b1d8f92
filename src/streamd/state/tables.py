"""Tables in memory: dicts that know what of them the changelog does not have yet.

A key in the changelog is `<table>:<JSON of the key>`, in a table of times `<table>:<time><JSON of the key>`, with the
time as 16 hexadecimal digits that sort as the times do.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import orjson

from streamd.component.transaction import Change

Coder: TypeAlias = Callable[[Any], Any]

# What a time is written with: added to it, no time is negative.
_ZERO: Final = 1 << 63
TIME_DIGITS: Final = 16


class DictTable(dict[Hashable, Any]):
    """`Table` (component/state.py), held whole in memory.

    `fresh`: keys that the changelog does not have, as far as is known: when one is removed again before the next
    checkpoint, nothing is written of it. `born`: the changelog has none of the table.
    """

    __slots__ = ("born", "dirty", "fresh")

    # How many keys there are that are not in memory.
    cold = 0

    def __init__(self, *, born: bool = False) -> None:
        self.dirty: set[Hashable] = set()
        self.fresh: set[Hashable] = set()
        self.born = born

    def __missing__(self, key: Hashable) -> Any:
        # A key that is not there, and has not changed since the last checkpoint, was not there at that either.
        if not self.born and key not in self.dirty:
            self.fresh.add(key)
        return None

    def remove(self, key: Hashable) -> None:
        """See `Table.remove`."""
        self.pop(key, None)
        self.dirty.add(key)

    def scan(self) -> Iterator[tuple[Hashable, Any]]:
        """See `Table.scan`."""
        return iter(self.items())

    def written(self) -> Iterator[Hashable]:
        """The keys that the changelog may have."""
        if self.born:
            return iter(())
        fresh = self.fresh
        gone = (key for key in self.dirty if key not in self and key not in fresh)
        return (key for keys in (self, gone) for key in keys if key not in fresh)

    def gone(self) -> list[Hashable]:
        """Dirty keys that the table does not have."""
        return [key for key in self.dirty if key not in self]

    def forget(self, key: Hashable) -> None:
        """As the changelog says it: the key is gone, if it was there."""
        self.pop(key, None)

    def dropped(self) -> None:
        """The table is not used any more."""

    def changes(self, prefix: bytes, pack: Coder | None) -> list[Change]:
        """What has changed since `committed`, as the changelog takes it; each key once."""
        gone = self.gone()
        dumps, dirty = orjson.dumps, self.dirty
        changes: list[Change] = []
        if gone:
            dirty = dirty.difference(gone)
            if not self.born:
                changes = [(prefix + name_of(key), None) for key in gone if key not in self.fresh]
        # In the table's own order values lie side by side in memory: where many are dirty, that is much faster.
        items: Iterable[tuple[Hashable, Any]]
        if len(dirty) * 4 >= len(self):
            items = ((key, value) for key, value in self.items() if key in dirty)
        else:
            items = ((key, self[key]) for key in dirty)
        # What orjson gives is copied: it is made with room for a long text, and keeping that costs ten times the copy.
        if pack is None:
            changes += [
                (prefix + (key if key.__class__ is bytes else dumps(key)), b"%b" % dumps(value)) for key, value in items
            ]
        else:
            changes += [(prefix + name_of(key), b"%b" % dumps(pack(value))) for key, value in items]
        return changes

    def committed(self) -> None:
        """The changes are durable."""
        self.dirty.clear()
        self.fresh.clear()
        self.born = False


# (prefix of its keys, pack, unpack, whether it is born) → a table
Maker: TypeAlias = Callable[[bytes, Coder | None, Coder | None, bool], DictTable]


class NamedTable:
    """A table and what the changelog knows it by."""

    def __init__(self, make: Maker, name: str, pack: Coder | None, unpack: Coder | None) -> None:
        self.table = make(f"{name}:".encode(), pack, unpack, False)
        self._prefix, self._pack, self._unpack = f"{name}:".encode(), pack, unpack

    def __len__(self) -> int:
        return len(self.table) + self.table.cold

    def changes(self) -> list[Change]:
        """What has changed since `committed`, as the changelog takes it."""
        return self.table.changes(self._prefix, self._pack)

    def committed(self) -> None:
        """The changes are durable."""
        self.table.committed()

    def load(self, names: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        """Take what a changelog gives, each name once and without the table's. Raises ValueError for what no table has
        written.
        """
        table = self.table
        if None in values:
            for name in _gone(names, values):
                table.forget(key_from(name))
        names, texts = _there(names, values)
        table.update(zip(_keys_from(names), _values_from(texts, self._unpack), strict=True))

    def loaded(self) -> None:
        """Everything is there."""


class DictTimeTable(dict[int, DictTable]):
    """`TimeTable` (component/state.py)."""

    __slots__ = ("_make", "gone")

    def __init__(self, make: Callable[[int], DictTable]) -> None:
        self._make = make
        # {time: keys that the changelog may have of a table that was dropped}
        self.gone: dict[int, set[Hashable]] = {}

    def __missing__(self, time: int) -> DictTable:
        table = self[time] = self._make(time)
        return table

    def drop(self, time: int) -> None:
        """See `TimeTable.drop`."""
        table = self.pop(time, None)
        if table is None:
            return
        written = set(table.written())
        if written:
            self.gone.setdefault(time, set()).update(written)
        table.dropped()


class NamedTimes:
    """A table of times and what the changelog knows it by."""

    def __init__(self, make: Maker, name: str, pack: Coder | None, unpack: Coder | None) -> None:
        self.table = DictTimeTable(lambda time: make(self._prefix(time), pack, unpack, True))
        self._name, self._pack, self._unpack = name, pack, unpack

    def __len__(self) -> int:
        return sum(len(table) + table.cold for table in self.table.values())

    def changes(self) -> list[Change]:
        """What has changed since `committed`, as the changelog takes it."""
        times = self.table
        changes: list[Change] = []
        for time, keys in times.gone.items():
            prefix, again = self._prefix(time), dict.get(times, time) or ()
            changes += [(prefix + name_of(key), None) for key in keys if key not in again]
        for time, table in times.items():
            if table.dirty:
                changes += table.changes(self._prefix(time), self._pack)
        return changes

    def committed(self) -> None:
        """The changes are durable."""
        self.table.gone.clear()
        for table in self.table.values():
            table.committed()

    def load(self, names: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        """Take what a changelog gives, each name once and without the table's. Raises ValueError for what no table has
        written.
        """
        times = self.table
        if None in values:
            for name in _gone(names, values):
                times[time_from(name[:TIME_DIGITS])].forget(key_from(name[TIME_DIGITS:]))
        names, texts = _there(names, values)
        keys = _keys_from([name[TIME_DIGITS:] for name in names])
        digits, table = b"", DictTable(born=True)
        for name, key, value in zip(names, keys, _values_from(texts, self._unpack), strict=True):
            if name[:TIME_DIGITS] != digits:
                digits = name[:TIME_DIGITS]
                table = times[time_from(digits)]
            table[key] = value

    def loaded(self) -> None:
        """Everything is there: a time without keys is none."""
        times = self.table
        for time in [time for time, table in times.items() if not table and not table.cold]:
            times.pop(time).dropped()
        for table in times.values():
            table.born = False

    def _prefix(self, time: int) -> bytes:
        return b"%s:%016x" % (self._name.encode(), time + _ZERO)


def name_of(key: Hashable) -> bytes:
    """A key as it is in a changelog."""
    return key if type(key) is bytes else orjson.dumps(key)


def key_from(name: bytes) -> Hashable:
    """The key of a name. Raises ValueError for what is no JSON."""
    key = orjson.loads(name)
    return key if key.__class__ is str or key.__class__ is int else name


def _keys_from(names: Sequence[bytes]) -> list[Hashable]:
    """`key_from` of many at once, which is much faster."""
    return [
        key if key.__class__ is str or key.__class__ is int else name
        for name, key in zip(names, _parsed(names), strict=True)
    ]


def _values_from(texts: Sequence[bytes], unpack: Coder | None) -> list[Any]:
    values = _parsed(texts)
    return values if unpack is None else [unpack(value) for value in values]


def _parsed(texts: Sequence[bytes]) -> list[Any]:
    try:
        joined = b"[%b]" % b",".join(texts)
    except TypeError:
        raise ValueError("a text is no bytes") from None
    found: list[Any] = orjson.loads(joined)
    if len(found) != len(texts):
        raise ValueError("a text is not one JSON value")
    return found


def _gone(names: Sequence[bytes], values: Sequence[bytes | None]) -> list[bytes]:
    return [name for name, value in zip(names, values, strict=True) if value is None]


def _there(names: Sequence[bytes], values: Sequence[bytes | None]) -> tuple[Sequence[bytes], Sequence[bytes]]:
    """The names that have a value, and these."""
    texts = [value for value in values if value is not None]
    if len(texts) < len(names):
        names = [name for name, value in zip(names, values, strict=True) if value is not None]
    return names, texts


def time_from(digits: bytes) -> int:
    """The time of a name's first `TIME_DIGITS`. Raises ValueError for what is none."""
    return int(digits, 16) - _ZERO

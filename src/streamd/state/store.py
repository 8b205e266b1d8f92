"""One store: the tables of a stage in one task."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import repeat
from typing import Any, TypeVar

from streamd.component.state import Table, TimeTable, key_of
from streamd.component.transaction import Change
from streamd.state.spill import Spill, SpillTable
from streamd.state.tables import Coder, DictTable, NamedTable, NamedTimes

T = TypeVar("T", NamedTable, NamedTimes)


class TableStore:
    """`Store` (component/state.py). `unknown`: names in the changelog of tables that the stage does not have."""

    def __init__(self, stage: str = "", spill: Spill | None = None) -> None:
        """`spill`: what holds the tables of `stage` within a budget; None holds them whole in memory."""
        self._stage, self._spill, self.in_memory = stage, spill, spill is None
        self._tables: dict[str, NamedTable | NamedTimes] = {}
        # By the table's name and the colon behind it in the changelog's keys.
        self._by_prefix: dict[bytes, NamedTable | NamedTimes] = {}
        self.unknown: set[str] = set()

    def table(self, name: str, pack: Coder | None = None, unpack: Coder | None = None) -> Table:
        """See `Store.table`. Raises ValueError for a name that is taken, or is none."""
        return self._add(name, NamedTable(self._make, name, pack, unpack)).table

    def times(self, name: str, pack: Coder | None = None, unpack: Coder | None = None) -> TimeTable:
        """See `Store.times`. Raises ValueError for a name that is taken, or is none."""
        return self._add(name, NamedTimes(self._make, name, pack, unpack)).table

    def key_of(self, value: Any) -> Hashable:
        """See `key_of` in component/state.py."""
        return key_of(value)

    def __len__(self) -> int:
        """How many keys there are in all tables."""
        return sum(map(len, self._tables.values()))

    def changes(self) -> list[Change]:
        """What has changed since `committed`, as the changelog takes it."""
        return [change for table in self._tables.values() for change in table.changes()]

    def committed(self) -> None:
        """The changes are durable."""
        for table in self._tables.values():
            table.committed()

    def load(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Take what a changelog gives, {name: newest value}. Raises ValueError for what no store has written.

        Changes of a table that the stage does not have are left out, and its name kept in `unknown`.
        """
        first = next(iter(changes), b"")
        prefix = first[: first.find(b":") + 1]
        by_table: dict[bytes, Mapping[bytes, bytes | None]] = {prefix: changes}
        # Most stages have one table.
        if not all(map(bytes.startswith, changes, repeat(prefix or b":"))):
            mixed: dict[bytes, dict[bytes, bytes | None]] = {}
            for name, value in changes.items():
                mixed.setdefault(name[: name.find(b":") + 1], {})[name] = value
            by_table = dict(mixed)
        for prefix, found in by_table.items() if changes else ():
            table = self._by_prefix.get(prefix)
            if table is None:
                self.unknown.add(prefix[:-1].decode(errors="replace"))
            else:
                at = len(prefix)
                table.load([name[at:] for name in found], list(found.values()))

    def loaded(self) -> None:
        """Everything is there."""
        for table in self._tables.values():
            table.loaded()

    def _make(self, prefix: bytes, pack: Coder | None, unpack: Coder | None, born: bool) -> DictTable:
        if self._spill is None:
            return DictTable(born=born)
        return SpillTable(self._spill, b"%s/%s" % (self._stage.encode(), prefix), pack, unpack, born=born)

    def _add(self, name: str, table: T) -> T:
        if not name.isidentifier() or name in self._tables:
            raise ValueError(f"{name!r} is no name for a table, or there is one of that name")
        self._tables[name] = self._by_prefix[f"{name}:".encode()] = table
        return table

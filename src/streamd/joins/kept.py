"""Rows that are kept under a key, in chunks: a key with thousands of rows is not written whole at each checkpoint.

A table holds a key's newest rows, at most CHUNK. Older ones are in full chunks in a second table, under the key and the
chunk's number. How many those are stands in the first row of the newest, which then is no row but `[-count]`: times are
never negative.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from streamd.component.state import Table, key_of
from streamd.joins.slots import Kept

CHUNK = 64


def spill(table: Table, more: Table, key: Hashable, rows: list[Kept]) -> list[Kept]:
    """Make the newest rows of a key a chunk of their own; gives the new newest ones, which hold none yet."""
    count = -rows[0][0] if rows[0][0] < 0 else 0
    name = chunk_key(key, count)
    more[name] = rows[1:] if count else rows
    more.dirty.add(name)
    table[key] = newest = [[-count - 1]]
    table.dirty.add(key)
    return newest


def all_rows(more: Table, key: Hashable, rows: Sequence[Kept]) -> list[Kept]:
    """All rows of a key whose newest are these, oldest first."""
    found: list[Kept] = []
    for number in range(-rows[0][0]):
        found += more[chunk_key(key, number)]
    return found + list(rows[1:])


def chunk_key(key: Hashable, number: int) -> Hashable:
    """The key of a full chunk in the second table."""
    return key_of([number, key.decode() if isinstance(key, bytes) else key])

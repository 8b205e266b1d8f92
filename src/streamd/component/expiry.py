"""Keys that are forgotten when they were not updated for some time: when to look at each of them again."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, Final

from streamd.component.state import Table, TimeTable

_PIECES: Final = 16
_BATCH: Final = 1000
AT_ONCE: Final = 20_000
"""Keys that are looked at between two batches, at most: tens of milliseconds where they are in memory."""


class Expiry:
    """Each key that is kept stands in one piece of time, the one of an update of it. `ttl`: in ms.

    An update of a key does not touch this. A piece whose time has passed gives its keys once; those updated since are
    added again. So a key costs nothing for each of its records, and little in each `ttl`. `log` has for each piece
    {first key: further keys}: one entry for all keys that were new between two checkpoints, or for a thousand of them.
    """

    def __init__(self, log: TimeTable, ttl: int) -> None:
        self.ttl = ttl
        self._log, self._piece = log, max(1, ttl // _PIECES)
        # {piece: the first key of the batch that still grows}
        self._newest: dict[int, Hashable] = {}

    def add(self, key: Hashable, time: int) -> None:
        """A key that is new, and when it was updated. One that was removed meanwhile may stand somewhere still."""
        piece = time - time % self._piece
        table = self._log[piece]
        first = self._newest.get(piece)
        # What is in the changelog already is not written again.
        batch: list[Any] | None = table[first] if first in table.dirty else None
        if batch is None or len(batch) >= _BATCH:
            if table[key] is not None:
                return  # it heads a batch here already
            table[key] = []
            table.dirty.add(key)
            self._newest[piece] = key
        else:
            batch.append([key.decode()] if type(key) is bytes else key)

    def due(self, bound: int) -> list[Hashable]:
        """Keys that had no update after `bound` (ms) when they were added. They stand nowhere any more.

        At most about `AT_ONCE`; what is left over is given by the next call.
        """
        found: list[Hashable] = []
        for piece in sorted(piece for piece in self._log if piece + self._piece <= bound + 1):
            table, taken = self._log[piece], []
            for first, others in table.scan():
                taken.append(first)
                found.append(first)
                found += [key[0].encode() if type(key) is list else key for key in others]
                if len(found) >= AT_ONCE:
                    break
            for first in taken:
                table.remove(first)
            if len(found) >= AT_ONCE:
                break
            self._log.drop(piece)
            self._newest.pop(piece, None)
        return list(dict.fromkeys(found))


class Unexpired:
    """A table as others see it: without keys that are to be forgotten, whose turn has not come yet.

    `updated` gives the time of a value, `bound` the time (ms) up to which they are forgotten.
    """

    def __init__(self, table: Table, updated: Callable[[Any], int], bound: Callable[[], int]) -> None:
        self._table, self._updated, self._bound = table, updated, bound

    def __getitem__(self, key: Hashable) -> Any:
        value = self._table[key]
        return None if value is None or self._updated(value) <= self._bound() else value

    @property
    def fresh(self) -> set[Hashable]:
        """What the table has noted of keys that it was asked for in vain."""
        return getattr(self._table, "fresh", set())

    def scan(self) -> Iterator[tuple[Hashable, Any]]:
        """See `Table.scan`."""
        updated, bound = self._updated, self._bound()
        return ((key, value) for key, value in self._table.scan() if updated(value) > bound)

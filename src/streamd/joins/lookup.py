"""A stream joined with a table: each row of the stream meets the one row that the table has under its key.

With `latest` that is the row at hand when the stream's row comes. As of event time it is the newest that is not later
than the stream's row: such a row waits until the watermark has passed it, so that all versions it might have are there.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Hashable
from typing import Any

import orjson

from streamd.component.expiry import Expiry
from streamd.component.state import Store
from streamd.expr import failure
from streamd.joins.results import Results, key_bytes, keys_of_tombstone, late
from streamd.joins.sides import LEFT
from streamd.joins.slots import Kept
from streamd.joins.stream_source import NAMES
from streamd.joins.streams import Failed
from streamd.record import BEGINNING, END, RawRecord, Result, SourceRecord


class LatestJoin:
    """`table`: which side is the table; `outer`: whether rows of the stream that find nothing are given.

    `ttl`: how long (ms) a row of the table is kept that no other replaces; a late one came at the watermark.
    """

    def __init__(self, results: Results, table: int, outer: bool, ttl: int | None = None) -> None:
        self._ttl = ttl
        self._expiry: Expiry | None = None
        self._namespace: dict[str, Any] = {
            "Result": Result, "failure": failure, "key_bytes": key_bytes, "WORDS": results.words,
            "keys_of_tombstone": keys_of_tombstone,
        }  # fmt: skip
        self.source = "\n".join(_latest(results, table, outer, ttl, self._namespace)) + "\n"
        exec(compile(self.source, "<streamd join>", "exec"), self._namespace)
        self._process: Callable[..., None] = self._namespace["process"]

    def open(self, store: Store) -> None:
        """Take the tables."""
        self._table = store.table("table")
        if self._ttl is not None:
            self._expiry = Expiry(store.times("expiry"), self._ttl)

    def restored(self) -> None:
        """Nothing is kept beside them."""

    def process(self, rows: list[tuple[Any, ...]], out: list[Result], failed: Failed) -> None:
        """Take rows `(r, time, watermark, port, key, row)`; a row None is a deletion."""
        track = () if self._expiry is None else (self._expiry.add,)
        self._process(rows, out, failed, self._table, *track)

    def advance(self, watermark: int, out: list[Result]) -> int:
        """Nothing waits. What is too old is forgotten, but not at the end of the input."""
        if self._expiry is not None and watermark < END:
            self._forget(self._expiry, watermark - self._expiry.ttl)
        return watermark

    def _forget(self, expiry: Expiry, bound: int) -> None:
        for key in expiry.due(bound):
            row: Kept | None = self._table[key]
            if row is not None and row[0] > bound:
                expiry.add(key, row[0])
            elif row is not None:
                self._table.remove(key)


def _latest(results: Results, side: int, outer: bool, ttl: int | None, namespace: dict[str, Any]) -> list[str]:
    rows = ("row", "found") if side != LEFT else ("found", "row")
    where = results.where(rows, namespace)
    condition = "found is not None" + (f" and ({where})" if where is not None else "")
    late: list[str] = []
    expires: list[str] = []
    if ttl is not None:
        late = [
            "                if row[0] < watermark: row[0] = watermark",
            "                if table[key] is None: track(key, row[0])",
        ]
        expires = [f"        if found is not None and found[0] <= watermark - {ttl}: found = None"]
    lines = [
        f"def process(rows, out, failed, table{'' if ttl is None else ', track'}):",
        "    give, changed = out.append, table.dirty.add",
        "    for r, time, watermark, port, key, row in rows:",
        f"        if port == {side}:",
        "            if row is not None:",
        *late,
        "                table[key] = row",
        "                changed(key)",
        "                continue",
        "            for key in keys_of_tombstone(key):",
        "                if table[key] is not None: table.remove(key)",
        "            continue",
        "        found = table[key]",
        *expires,
        "        try:",
        f"            if {condition}:",
        f"                give(Result({results.pair(rows, namespace)}, key_bytes(key), time))",
    ]
    if outer:
        alone = results.alone(1 - side, "row", namespace)
        lines += ["            else:", f"                give(Result({alone}, key_bytes(key), time))"]
    return [
        *lines,
        "        except Exception as error:",
        "            failed.append((r, failure(error, WORDS)))",
    ]


class AsOfJoin:
    """As of event time. `history`: how far back (ms) from the watermark versions are kept, for rows that come late.

    `refused`: rows that found a version and gave no result with it, each as a record with what of it was kept, and the
    error; filled by `advance`, emptied by who takes it.
    """

    def __init__(self, results: Results, table: int, outer: bool, history: int) -> None:
        self._side, self._outer, self._history, self._words = table, outer, history, results.words
        namespace: dict[str, Any] = {}
        rows = ("row", "found") if table != LEFT else ("found", "row")
        where = results.where(rows, namespace) or "True"
        pair, alone = results.pair(rows, namespace), results.alone(1 - table, "row", namespace)
        missing = alone if outer else "None"
        self.source = (
            f"def result(row, found):\n    if found is not None and ({where}):\n        return {pair}\n"
            f"    return {missing}\n"
        )
        exec(compile(self.source, "<streamd join>", "exec"), namespace)
        self._result: Callable[[Kept, Kept | None], dict[str, Any] | None] = namespace["result"]
        self._heap: list[int] = []
        # {time: keys deleted then}, and a heap of these times.
        self._deleted: dict[int, list[Hashable]] = {}
        self._deletions: list[int] = []
        self._watermark = BEGINNING
        self.refused: list[tuple[RawRecord, Exception]] = []

    def open(self, store: Store) -> None:
        """Take the tables."""
        # {key: [version, …], oldest first}; a version is a row, or [time] for a deletion.
        self._versions = store.table("versions")
        # {time: {key: rows of the stream}}
        self._waiting = store.times("waiting")

    def restored(self) -> None:
        """Find the times that wait, and what was deleted."""
        self._heap = sorted(self._waiting)
        for key, versions in self._versions.scan():
            if len(versions[-1]) == 1:
                self._forget_later(versions[-1][0], key)

    def process(self, rows: list[tuple[Any, ...]], out: list[Result], failed: Failed) -> None:
        """Take rows `(r, time, watermark, port, key, row)`; a row None is a deletion."""
        waiting, history = self._waiting, self._history
        for r, time, watermark, port, key, row in rows:
            if port == self._side:
                if row is not None:
                    self._add(key, row)
                else:
                    # Also of a key that is not there: an older version of it may still come.
                    for name in keys_of_tombstone(key):
                        self._add(name, [time])
                        self._forget_later(time, name)
                continue
            if time < watermark - history:
                failed.append((r, late(watermark - history - time)))
                continue
            if time not in waiting:
                heapq.heappush(self._heap, time)
            table = waiting[time]
            found = table[key]
            if found is None:
                table[key] = [row]
            else:
                found.append(row)
            table.dirty.add(key)

    def _add(self, key: Any, version: Kept) -> None:
        versions: list[Kept] | None = self._versions[key]
        if versions is None:
            self._versions[key] = [version]
        else:
            at = bisect_right(versions, version[0], key=_time)
            if at and versions[at - 1][0] == version[0]:
                versions[at - 1] = version
            else:
                versions.insert(at, version)
            # Nothing that still comes asks for what another version replaced before the history begins.
            begins = bisect_right(versions, self._watermark - self._history, key=_time)
            del versions[: max(0, begins - 1)]
        self._versions.dirty.add(key)

    def advance(self, watermark: int, out: list[Result]) -> int:
        """Give the rows that have all their versions now."""
        self._watermark = watermark
        heap, waiting = self._heap, self._waiting
        while heap and heap[0] < watermark:
            time = heapq.heappop(heap)
            for key, rows in waiting[time].scan():
                versions: list[Kept] = self._versions[key] or []
                at = bisect_right(versions, time, key=_time)
                found = versions[at - 1] if at and len(versions[at - 1]) > 1 else None
                for row in rows:
                    self._give(key, row, found, out)
            waiting.drop(time)
        self._forget(watermark - self._history)
        return watermark if watermark in (BEGINNING, END) else watermark - self._history

    def _forget_later(self, time: int, key: Hashable) -> None:
        keys = self._deleted.get(time)
        if keys is None:
            self._deleted[time] = [key]
            heapq.heappush(self._deletions, time)
        else:
            keys.append(key)

    def _forget(self, bound: int) -> None:
        """Forget the keys that were deleted before `bound`, and not set again since."""
        while self._deletions and self._deletions[0] < bound:
            for key in self._deleted.pop(heapq.heappop(self._deletions)):
                versions: list[Kept] | None = self._versions[key]
                if versions is not None and len(versions[-1]) == 1 and versions[-1][0] < bound:
                    self._versions.remove(key)

    def _give(self, key: Any, row: Kept, found: Kept | None, out: list[Result]) -> None:
        try:
            document = self._result(row, found)
        except Exception as error:
            kept = SourceRecord(key_bytes(key), orjson.dumps(row[1] if len(row) == 2 else row[1:]), row[0], -1)
            self.refused.append((kept, failure(error, self._words)))
            return
        if document is not None:
            out.append(Result(document, key_bytes(key), row[0]))


def _time(version: Kept) -> int:
    return version[0]  # type: ignore[no-any-return]


class TableJoin:
    """Two tables joined: a table again, given as its changes. `outer`: sides whose rows are there alone as well."""

    def __init__(self, results: Results, outer: tuple[bool, bool]) -> None:
        namespace: dict[str, Any] = {}
        where = results.where(NAMES, namespace) or "True"
        lines = ["def result(left, right):", f"    if left is not None and right is not None and ({where}):"]
        lines += [f"        return {results.pair(NAMES, namespace)}"]
        for side, name in enumerate(NAMES):
            if outer[side]:
                lines += [f"    if {name} is not None:", f"        return {results.alone(side, name, namespace)}"]
        self.source = "\n".join([*lines, "    return None"]) + "\n"
        exec(compile(self.source, "<streamd join>", "exec"), namespace)
        self._result: Callable[[Kept | None, Kept | None], dict[str, Any] | None] = namespace["result"]
        self._words = results.words

    def open(self, store: Store) -> None:
        """Take the tables."""
        self._tables = (store.table("left"), store.table("right"))

    def restored(self) -> None:
        """Nothing is kept beside them."""

    def process(self, rows: list[tuple[Any, ...]], out: list[Result], failed: Failed) -> None:
        """Take rows `(r, time, watermark, port, key, row)`; a row None is a deletion."""
        for r, time, _, port, key, row in rows:
            try:
                for name in (key,) if row is not None else keys_of_tombstone(key):
                    self._change(port, name, row, time, out)
            except Exception as error:
                failed.append((r, failure(error, self._words)))

    def _change(self, port: int, key: Any, row: Kept | None, time: int, out: list[Result]) -> None:
        table, other = self._tables[port], self._tables[1 - port][key]
        before = table[key]
        if row is None and before is None:
            return
        pairs = [(one, other) if port == LEFT else (other, one) for one in (before, row)]
        was, now = (self._result(*pair) for pair in pairs)
        if row is None:
            table.remove(key)
        else:
            table[key] = row
            table.dirty.add(key)
        if now is not None:
            out.append(Result(now, key_bytes(key), max(time, other[0]) if other is not None else time))
        elif was is not None:
            out.append(Result(None, key_bytes(key), time))

    def advance(self, watermark: int, out: list[Result]) -> int:
        """Nothing waits."""
        return watermark

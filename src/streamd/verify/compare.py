"""Two runs of one input, compared record by record, in a file: memory does not grow with the records.

An output record that carries its input's time is traced to the input record that it came from; lines of files, and
records whose sink sets a time of its own, are not. The same record is one of the same content, for the same input
record, in the same partition (without a key: of the topic; of files: in the same task's), and the same how-manieth.

Order. Kafka, and a task, keep it within an input partition and nowhere else. So within each output partition the
records of one input partition must be in the order of the input; where the undisturbed run itself does not keep it (a
record that takes two ways), the records of one key must; and where it does not keep that, no order is compared. What is
not traced is compared with the order of the undisturbed run, where one task writes it from one source.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamd.verify.documents import Canonical, hash_key
from streamd.verify.outputs import OutputRecord
from streamd.verify.scratch import Output

_ROWS = 5000

_SAME = "b.output = a.output AND b.hash = a.hash AND b.ident = a.ident AND b.home = a.home AND b.k = a.k"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one output, in records. `records`: of the undisturbed run.

    `lost`: did not come out; `duplicated`: came again; `reordered`: came after a later one; `changed`: came out
    otherwise; `unexpected`: came for an input record that gives none. `order`: what order was compared.
    """

    output: str
    records: int
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    changed: int = 0
    unexpected: int = 0
    order: str = "input partition"

    @property
    def differences(self) -> int:
        """How many records differ."""
        return self.lost + self.duplicated + self.reordered + self.changed + self.unexpected


@dataclass(frozen=True, slots=True)
class Row:
    """Where a record of an output is: its place and number there, and of which input record it came (-1: unknown)."""

    place: int
    number: int
    origin: int


class Comparison:
    """Two runs, `a` the undisturbed one and `b`; load both, `prepare`, then ask."""

    def __init__(self, path: Path, outputs: Sequence[Output], base_ms: int, lanes: array[int]) -> None:
        self._outputs, self._base_ms, self._lanes = outputs, base_ms, lanes
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute(
            "CREATE TABLE loaded (run, output INT, place INT, number INT, key INT, origin INT, lane INT, hash INT)"
        )
        self._traced: set[int] = set()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    async def load(self, run: str, output: int, records: AsyncIterator[OutputRecord], canonical: Canonical) -> None:
        """Take the records of one output of a run."""
        rows: list[tuple[object, ...]] = []
        async for record in records:
            origin = record.timestamp - self._base_ms
            lane = self._lanes[origin] if 0 <= origin < len(self._lanes) else None
            known = None if lane is None else origin
            rows.append(
                (run, output, record.place, record.number, hash_key(record.key), known, lane, canonical.hash(record))
            )
            if len(rows) >= _ROWS:
                self._insert(rows)
                rows = []
        self._insert(rows)

    def _insert(self, rows: Sequence[tuple[object, ...]]) -> None:
        self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO loaded VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self._db.execute("COMMIT")

    def prepare(self) -> None:
        """Find out what is the same in both runs."""
        found = self._db.execute("SELECT output, count(origin) = count(*) FROM loaded WHERE run = 'a' GROUP BY output")
        self._traced = {output for output, traced in found if traced}
        traced = ",".join(map(str, self._traced)) or "-1"
        files = ",".join(str(n) for n, output in enumerate(self._outputs) if output.kind == "file") or "-1"
        self._db.executescript(f"""
            CREATE TABLE ranked AS SELECT *, row_number() OVER (
                PARTITION BY run, output, hash, ident, home ORDER BY place, number) AS k
            FROM (SELECT *,
                CASE WHEN output IN ({traced}) THEN coalesce(origin, -2) ELSE -1 END AS ident,
                CASE WHEN key IS NOT NULL OR output IN ({files}) THEN place ELSE -1 END AS home FROM loaded);
            CREATE INDEX origins ON loaded (run, output, origin);
            CREATE INDEX same ON ranked (run, output, hash, ident, home, k);
            CREATE TABLE missing AS SELECT a.* FROM ranked a
                LEFT JOIN ranked b ON b.run = 'b' AND {_SAME} WHERE a.run = 'a' AND b.run IS NULL;
            CREATE TABLE extra AS SELECT a.*, EXISTS (
                SELECT 1 FROM ranked b WHERE b.run = 'a' AND b.output = a.output AND b.hash = a.hash
                AND b.ident = a.ident AND b.home = a.home) AS again,
                EXISTS (SELECT 1 FROM loaded c WHERE a.ident >= 0 AND c.run = 'a' AND c.output = a.output
                AND c.origin = a.ident) AS known FROM ranked a
                LEFT JOIN ranked b ON b.run = 'a' AND {_SAME} WHERE a.run = 'b' AND b.run IS NULL;
        """)

    def verdict(self, output: int) -> Verdict:
        """What became of an output."""
        [(records,)] = self._db.execute("SELECT count(*) FROM loaded WHERE run = 'a' AND output = ?", (output,))
        lost = duplicated = changed = unexpected = 0
        for missing, again, fresh, known in self._groups(output):
            swapped = min(missing, fresh)
            changed += swapped
            lost += missing - swapped
            duplicated += again + (fresh - swapped if known else 0)
            unexpected += 0 if known else fresh - swapped
        order, by = self._order(output)
        reordered = self._reordered(output, "b", by) if by else 0
        name = self._outputs[output].id
        return Verdict(name, records, lost, duplicated, reordered, changed, unexpected, order)

    def _groups(self, output: int) -> Iterator[tuple[int, int, int, int]]:
        """(missing, extra that are there once already, other extra, whether its input record has output at all) for
        each input record; for what is not traced, for each place.
        """
        place = "place" if output not in self._traced else "0"
        return self._db.execute(
            f"""
            SELECT sum(missing), sum(again), sum(fresh), max(known) FROM (
                SELECT ident, {place} AS place, 1 AS missing, 0 AS again, 0 AS fresh, 0 AS known FROM missing
                    WHERE output = :output
                UNION ALL SELECT ident, {place}, 0, again, NOT again, known FROM extra WHERE output = :output)
            GROUP BY ident, place""",
            {"output": output},
        )

    def _order(self, output: int) -> tuple[str, str]:
        """(what order is compared, in words; the columns within which) of an output; no columns for none."""
        kind = self._outputs[output]
        if output in self._traced:
            for words, by in (("input partition", "place, lane"), ("key", "place, lane, key")):
                if not self._reordered(output, "a", by):
                    return words, by
            return "not kept by the pipeline itself", ""
        one_task = len(kind.sources) == 1 and (kind.kind == "file" or kind.tasks == 1)
        query = "SELECT count(DISTINCT place), count(key) = count(*) FROM loaded WHERE output = ?"
        [(places, keyed)] = self._db.execute(query, (output,))
        if one_task and (kind.kind == "file" or places <= 1 or keyed):
            return "file" if kind.kind == "file" else "output partition", "place"
        return "not compared: several inputs meet there, and its records cannot be traced", ""

    def _reordered(self, output: int, run: str, by: str) -> int:
        """How many records of a run came after one that belongs behind them."""
        if output in self._traced:
            rows = "SELECT place, lane, key, number, origin AS rank FROM loaded WHERE run = :run AND output = :output"
            if run == "b":
                rows = f"""SELECT b.place, b.lane, b.key, b.number, b.origin AS rank FROM ranked a JOIN ranked b
                    ON b.run = 'b' AND {_SAME} WHERE a.run = 'a' AND a.output = :output AND :run = 'b'"""
        else:
            rows = f"""SELECT b.place, 0 AS lane, b.key, b.number, a.number AS rank FROM ranked a JOIN ranked b
                ON b.run = :run AND {_SAME} WHERE a.run = 'a' AND a.output = :output"""
        query = f"""SELECT count(*) FROM (SELECT rank, max(rank) OVER (
            PARTITION BY {by} ORDER BY number ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
            FROM ({rows})) WHERE rank < before"""
        [(count,)] = self._db.execute(query, {"run": run, "output": output})
        return int(count)

    def changed(self, output: int, limit: int) -> list[tuple[Row, Row]]:
        """Some of the records that came out otherwise, as they were undisturbed and as they came."""
        join = "b.ident = a.ident" if output in self._traced else "b.place = a.place AND b.number = a.number"
        query = f"""SELECT a.place, a.number, coalesce(a.origin, -1), b.place, b.number, coalesce(b.origin, -1)
            FROM missing a JOIN extra b ON {join} AND b.output = a.output WHERE a.output = ? AND NOT b.again
            ORDER BY a.origin, a.place, a.number LIMIT ?"""
        found = self._db.execute(query, (output, limit))
        return [(Row(*row[:3]), Row(*row[3:])) for row in found]

    def first(self, output: int, kind: str, limit: int) -> list[Row]:
        """Some of the records that are `missing` or `extra`, the first ones."""
        query = (
            f"SELECT place, number, coalesce(origin, -1) FROM {kind} WHERE output = ? ORDER BY origin, place, number"
        )
        return [Row(*row) for row in self._db.execute(f"{query} LIMIT ?", (output, limit))]

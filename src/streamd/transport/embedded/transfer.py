"""Records that keep their offsets when they are put into another log."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

from streamd.transport.embedded.jobs import insert_blob
from streamd.transport.embedded.records import LogRecord, OutputRow, PackedBatch, pack


@dataclass(slots=True)
class PutRecords:
    """Append records to a stream at the offset `base`, at or behind its end, where an empty stream then begins."""

    stream: int
    base: int
    records: Sequence[LogRecord]
    now_ms: int
    packed: list[PackedBatch] = field(default_factory=list)

    def prepare(self) -> None:
        rows: list[OutputRow] = [(r.key, r.value, r.timestamp, r.headers) for r in self.records]
        size = sum(len(row[0] or b"") + len(row[1] or b"") for row in rows)
        self.packed = list(pack("", 0, rows, size)) if rows else []

    def apply(self, connection: sqlite3.Connection, ends: dict[int, int]) -> None:
        at = self.base
        connection.execute("UPDATE stream SET start=? WHERE id=? AND start=next", (at, self.stream))
        for batch in self.packed:
            last, blob = at + batch.records - 1, insert_blob(connection, batch.data)
            connection.execute("INSERT INTO batch VALUES (?, ?, ?, ?, ?)", (self.stream, last, at, blob, self.now_ms))
            at = last + 1
        connection.execute("UPDATE stream SET next=? WHERE id=?", (at, self.stream))
        ends[self.stream] = at

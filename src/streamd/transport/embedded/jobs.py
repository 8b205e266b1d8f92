"""What the committer is asked to write: topics, a task's opening, its outputs, its checkpoint."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import orjson

from streamd.component.transaction import Change, Committed
from streamd.errors import FatalError, FencedError, NotFoundError
from streamd.record import Position
from streamd.transport.embedded.records import OutputRow, PackedBatch, pack

Outputs = Mapping[tuple[str, int], tuple[list[OutputRow], int]]


@dataclass(frozen=True, slots=True)
class Retention:
    """What a topic keeps at least; None keeps everything. `age_ms` counts from when a record was appended."""

    records: int | None = None
    age_ms: int | None = None


@dataclass(slots=True)
class CreateTopic:
    """Make a topic unless it exists. Gives its number of partitions."""

    topic: str
    partitions: int | None
    retention: Retention

    def prepare(self) -> None:
        pass

    def apply(self, connection: sqlite3.Connection, ends: dict[int, int]) -> int:
        known = connection.execute("SELECT partitions FROM topic WHERE name=?", (self.topic,)).fetchone()
        if known is None:
            count = self.partitions or 1
            connection.execute(
                "INSERT INTO topic VALUES (?, ?, ?, ?)",
                (self.topic, count, self.retention.records, self.retention.age_ms),
            )
            rows = [(self.topic, partition) for partition in range(count)]
            connection.executemany("INSERT INTO stream (topic, partition) VALUES (?, ?)", rows)
            return count
        count = int(known[0])
        if self.partitions not in (None, count):
            raise FatalError(
                f"topic {self.topic!r} of the embedded log has {count} partitions, the settings say {self.partitions}; "
                "the number cannot change, since keys would change their partition: use another topic"
            )
        if self.retention != Retention():
            connection.execute(
                "UPDATE topic SET retention_records=?, retention_ms=? WHERE name=?",
                (self.retention.records, self.retention.age_ms, self.topic),
            )
        return count


@dataclass(slots=True)
class DeleteTopic:
    """Remove a topic and all its records. Gives whether there was one."""

    topic: str

    def prepare(self) -> None:
        pass

    def apply(self, connection: sqlite3.Connection, ends: dict[int, int]) -> bool:
        streams = "(SELECT id FROM stream WHERE topic=?)"
        connection.execute(
            f"DELETE FROM blob WHERE id IN (SELECT blob FROM batch WHERE stream IN {streams})", (self.topic,)
        )
        connection.execute(f"DELETE FROM batch WHERE stream IN {streams}", (self.topic,))
        connection.execute("DELETE FROM stream WHERE topic=?", (self.topic,))
        return connection.execute("DELETE FROM topic WHERE name=?", (self.topic,)).rowcount > 0


@dataclass(slots=True)
class OpenTask:
    """Fence older instances of the task, drop what they left staged. Gives the new epoch and what is committed."""

    task: str

    def prepare(self) -> None:
        pass

    def apply(self, connection: sqlite3.Connection, ends: dict[int, int]) -> tuple[int, Committed]:
        connection.execute("INSERT OR IGNORE INTO task VALUES (?, 0)", (self.task,))
        connection.execute("UPDATE task SET epoch=epoch+1 WHERE id=?", (self.task,))
        epoch = int(connection.execute("SELECT epoch FROM task WHERE id=?", (self.task,)).fetchone()[0])
        drop_staged(connection, self.task)
        positions: dict[tuple[str, int], Position] = {
            (source, partition): orjson.loads(position)
            for source, partition, position in connection.execute(
                "SELECT source, partition, position FROM position WHERE task=?", (self.task,)
            )
        }
        cursors = {
            sink: orjson.loads(cursor)
            for sink, cursor in connection.execute("SELECT sink, cursor FROM cursor WHERE task=?", (self.task,))
        }
        return epoch, Committed(positions, cursors)


@dataclass(slots=True)
class StageOutputs:
    """Put outputs down that only the checkpoint makes part of the log. Gives (topic, partition, records, blob id)."""

    task: str
    epoch: int
    outputs: Outputs
    packed: list[PackedBatch] = field(default_factory=list)

    def prepare(self) -> None:
        self.packed = packed(self.outputs)

    def apply(self, connection: sqlite3.Connection, ends: dict[int, int]) -> list[tuple[str, int, int, int]]:
        check_epoch(connection, self.task, self.epoch)
        staged = [(b.topic, b.partition, b.records, insert_blob(connection, b.data)) for b in self.packed]
        connection.executemany("INSERT INTO staged VALUES (?, ?)", [(self.task, blob) for *_, blob in staged])
        return staged


@dataclass(slots=True)
class DropStaged:
    """Remove what an aborted transaction has put down."""

    task: str
    epoch: int

    def prepare(self) -> None:
        pass

    def apply(self, connection: sqlite3.Connection, ends: dict[int, int]) -> None:
        check_epoch(connection, self.task, self.epoch)
        drop_staged(connection, self.task)


@dataclass(slots=True)
class Commit:
    """A checkpoint: outputs, staged and new, changes of stores by stage, positions, cursors. Checks the epoch first.

    `cursors` are all that the task has then, None where a commit says nothing of them.
    """

    task: str
    epoch: int
    staged: list[tuple[str, int, int, int]]
    outputs: Outputs
    positions: Mapping[tuple[str, int], Position]
    cursors: Mapping[str, Any] | None
    changes: Mapping[str, Sequence[Change]]
    now_ms: int
    packed: list[PackedBatch] = field(default_factory=list)

    def prepare(self) -> None:
        self.packed = packed(self.outputs)

    def apply(self, connection: sqlite3.Connection, ends: dict[int, int]) -> None:
        check_epoch(connection, self.task, self.epoch)
        streams: dict[tuple[str, int], int] = {}
        for topic, partition, count, blob in self.staged:
            self._link(connection, streams, ends, (topic, partition), count, blob)
        if self.staged:
            connection.execute("DELETE FROM staged WHERE task=?", (self.task,))
        for batch in self.packed:
            blob = insert_blob(connection, batch.data)
            self._link(connection, streams, ends, (batch.topic, batch.partition), batch.records, blob)
        connection.executemany("UPDATE stream SET next=? WHERE id=?", [(end, stream) for stream, end in ends.items()])
        if self.positions:
            connection.executemany(
                "INSERT OR REPLACE INTO position VALUES (?, ?, ?, ?)",
                [(self.task, source, p, orjson.dumps(at).decode()) for (source, p), at in self.positions.items()],
            )
        if self.cursors is not None:
            # Whose cursor is not among them is not there any more: what it had must not be gone on from later.
            connection.execute("DELETE FROM cursor WHERE task=?", (self.task,))
            connection.executemany(
                "INSERT INTO cursor VALUES (?, ?, ?)",
                [(self.task, sink, orjson.dumps(cursor).decode()) for sink, cursor in self.cursors.items()],
            )
        for stage, changes in self.changes.items():
            # A key is in one change only.
            connection.executemany(
                "INSERT OR REPLACE INTO changelog VALUES (?, ?, ?, ?)",
                [(self.task, stage, key, value) for key, value in changes if value is not None],
            )
            connection.executemany(
                "DELETE FROM changelog WHERE task=? AND store=? AND key=?",
                [(self.task, stage, key) for key, value in changes if value is None],
            )

    def _link(
        self,
        connection: sqlite3.Connection,
        streams: dict[tuple[str, int], int],
        ends: dict[int, int],
        place: tuple[str, int],
        count: int,
        blob: int,
    ) -> None:
        """Give the batch its offsets: the next of its stream."""
        stream = streams.get(place)
        if stream is None:
            row = connection.execute("SELECT id, next FROM stream WHERE topic=? AND partition=?", place).fetchone()
            if row is None:
                raise NotFoundError(f"the embedded log has no partition {place[1]} of a topic {place[0]!r}")
            stream = streams[place] = int(row[0])
            ends[stream] = int(row[1])
        base = ends[stream]
        ends[stream] = base + count
        connection.execute(
            "INSERT INTO batch VALUES (?, ?, ?, ?, ?)", (stream, base + count - 1, base, blob, self.now_ms)
        )


@dataclass(slots=True)
class Trim:
    """Delete the oldest batches that the topics' retention no longer asks for. Gives how many were deleted.

    Bounded per call, so that other writers do not wait for it. The newest batch of a stream always stays.
    """

    now_ms: int
    max_batches: int = 2000

    def prepare(self) -> None:
        pass

    def apply(self, connection: sqlite3.Connection, ends: dict[int, int]) -> int:
        deleted = 0
        topics = connection.execute("SELECT name, retention_records, retention_ms FROM topic").fetchall()
        for name, records, age_ms in topics:
            if records is None and age_ms is None:
                continue
            for stream, end in connection.execute("SELECT id, next FROM stream WHERE topic=?", (name,)).fetchall():
                keep_from = end - 1 if records is None else end - max(records, 1)
                keep_after = self.now_ms if age_ms is None else self.now_ms - age_ms
                rows = connection.execute(
                    "SELECT last, blob, appended_ms FROM batch WHERE stream=? AND last<? ORDER BY last LIMIT ?",
                    (stream, min(keep_from, end - 1), self.max_batches - deleted),
                ).fetchall()
                old = [(last, blob) for last, blob, _ in takewhile(lambda row: row[2] < keep_after, rows)]  # noqa: B023
                deleted += self._delete(connection, stream, old)
        return deleted

    def _delete(self, connection: sqlite3.Connection, stream: int, old: list[tuple[int, int]]) -> int:
        delete_batches(connection, stream, old)
        return len(old)


@dataclass(slots=True)
class Forget:
    """Delete the batches of a stream that lie before an offset as a whole. Gives how many were deleted.

    Bounded per call. The newest batch always stays.
    """

    stream: int
    before: int
    max_batches: int = 2000

    def prepare(self) -> None:
        pass

    def apply(self, connection: sqlite3.Connection, ends: dict[int, int]) -> int:
        old = connection.execute(
            "SELECT last, blob FROM batch WHERE stream=? AND last<? AND last<(SELECT next FROM stream WHERE id=?)-1 "
            "ORDER BY last LIMIT ?",
            (self.stream, self.before, self.stream, self.max_batches),
        ).fetchall()
        delete_batches(connection, self.stream, old)
        return len(old)


def delete_batches(connection: sqlite3.Connection, stream: int, old: Sequence[tuple[int, int]]) -> None:
    """Delete the oldest batches of a stream: (last offset, blob) of each."""
    if old:
        connection.executemany("DELETE FROM blob WHERE id=?", [(blob,) for _, blob in old])
        connection.execute("DELETE FROM batch WHERE stream=? AND last<=?", (stream, old[-1][0]))
        connection.execute("UPDATE stream SET start=? WHERE id=?", (old[-1][0] + 1, stream))


def packed(outputs: Outputs) -> list[PackedBatch]:
    """All outputs as batches, in the order of partitions; the order inside each is kept."""
    return [batch for (topic, p), (rows, size) in outputs.items() if rows for batch in pack(topic, p, rows, size)]


def insert_blob(connection: sqlite3.Connection, data: bytes) -> int:
    return int(connection.execute("INSERT INTO blob (data) VALUES (?)", (data,)).lastrowid or 0)


def check_epoch(connection: sqlite3.Connection, task: str, epoch: int) -> None:
    """Raise FencedError when a newer instance of the task has opened."""
    row = connection.execute("SELECT epoch FROM task WHERE id=?", (task,)).fetchone()
    if row is None or row[0] != epoch:
        found = "is gone" if row is None else f"is {row[0]}"
        raise FencedError(
            f"task {task} has been taken over: its epoch {found}, this instance has {epoch}; "
            f"is another streamd running with app {task.rsplit('.', 3)[0]} on this state_dir?"
        )


def drop_staged(connection: sqlite3.Connection, task: str) -> None:
    connection.execute("DELETE FROM blob WHERE id IN (SELECT blob FROM staged WHERE task=?)", (task,))
    connection.execute("DELETE FROM staged WHERE task=?", (task,))

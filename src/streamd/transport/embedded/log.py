"""The file as the event loop sees it: one `EmbeddedLog` per file and loop, shared by all readers and transactions.

Nothing here blocks the loop: one thread writes (`committer`), two read. A single timer, running only while some reader
waits, asks SQLite whether another process has committed (2 µs); commits of this process wake readers at once.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import msgspec

from streamd.clock import SYSTEM_CLOCK, Clock
from streamd.errors import FatalError, NotFoundError
from streamd.transport.embedded.committer import Committer, Job
from streamd.transport.embedded.database import connect, translated
from streamd.transport.embedded.jobs import CreateTopic, DeleteTopic, Forget, Retention, Trim
from streamd.transport.embedded.records import LogRecord, unpack

# How often to look for commits of other processes while someone waits, in seconds: this is what they cost in latency at
# most. 125 looks a second take 0.6 % of a core; while records come there are twice as many.
POLL_INTERVAL = 0.008
POLL_INTERVAL_ACTIVE = 0.004
ACTIVE_FOR = 1.0

# How often retention is looked after, in seconds.
TRIM_INTERVAL = 5.0

READ_THREADS = 2

T = TypeVar("T")


class Stream(NamedTuple):
    """One partition of a topic. `start` is its first offset, `end` the offset that its next record will get."""

    id: int
    topic: str
    partition: int
    start: int
    end: int


def log_path(state_dir: Path, app: str) -> Path:
    """Where the embedded log of an app lies."""
    return state_dir / f"{app}.db"


class EmbeddedLog:
    """Use `acquire` and `release`; the file is closed with the last user."""

    _shared: ClassVar[dict[tuple[int, Path], EmbeddedLog]] = {}

    def __init__(self, path: Path, clock: Clock = SYSTEM_CLOCK) -> None:
        self.path = path
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._users = 0
        self._committer = Committer(path, self._committed_here)
        self._threads = ThreadPoolExecutor(READ_THREADS, f"reader {path.name}")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._ends: dict[int, int] = {}
        self._waiting: dict[asyncio.Future[None], tuple[int, int]] = {}
        self._watcher: sqlite3.Connection | None = None
        self._version = -1
        self._timer: asyncio.TimerHandle | None = None
        self._advanced = 0.0
        self._refreshing: asyncio.Task[None] | None = None
        self._trimmed = clock.monotonic()

    @classmethod
    def acquire(cls, path: Path) -> EmbeddedLog:
        """The log of that file for the running loop. Touches nothing on disk yet."""
        loop = asyncio.get_running_loop()
        key = (id(loop), path.absolute())
        log = cls._shared.get(key)
        if log is None or log._loop is not loop:
            log = cls._shared[key] = cls(path.absolute())
        log._users += 1
        return log

    async def release(self) -> None:
        """One user less. The last one closes everything, after the writes handed in are done."""
        closing = self.let_go()
        if closing is not None:
            await asyncio.shield(closing)

    def let_go(self) -> asyncio.Future[None] | None:
        """`release` without waiting: what it gives is done when everything is closed, None when others still use it."""
        self._users -= 1
        if self._users > 0:
            return None
        self._shared.pop((id(self._loop), self.path), None)
        if self._timer is not None:
            self._timer.cancel()
        if self._refreshing is not None:
            self._refreshing.cancel()
        return self._loop.run_in_executor(None, self._close)

    def _close(self) -> None:
        self._committer.close()
        self._threads.shutdown(wait=True)
        for connection in self._connections:
            connection.close()

    # Topics.

    async def create_topic(self, topic: str, partitions: int | None, retention: Retention = Retention()) -> int:  # noqa: B008
        """Make the topic unless it exists, and give its number of partitions.

        `partitions` None means: as it is, or 1. Raises FatalError when it exists with another number.
        """
        return int(await self.write(CreateTopic(topic, partitions, retention)))

    async def delete_topic(self, topic: str) -> bool:
        """Remove a topic with all its records; False when there is none."""
        return bool(await self.write(DeleteTopic(topic)))

    async def partitions(self, topic: str) -> int | None:
        """How many partitions a topic has; None when there is no such topic."""
        row = await self._in_thread(
            lambda c: c.execute("SELECT partitions FROM topic WHERE name=?", (topic,)).fetchone()
        )
        return None if row is None else int(row[0])

    async def topics(self) -> list[str]:
        """The names of all topics, sorted."""
        rows = await self._in_thread(lambda c: c.execute("SELECT name FROM topic ORDER BY name").fetchall())
        return [str(name) for (name,) in rows]

    async def streams(self, topic: str) -> list[Stream]:
        """The partitions of a topic with their offsets; empty when there is no such topic."""
        columns = "SELECT id, topic, partition, start, next FROM stream WHERE topic=? ORDER BY partition"
        rows = await self._in_thread(lambda c: c.execute(columns, (topic,)).fetchall())
        return [Stream(*row) for row in rows]

    async def stream(self, topic: str, partition: int) -> Stream:
        """One partition. Raises NotFoundError."""
        found = next((s for s in await self.streams(topic) if s.partition == partition), None)
        if found is None:
            raise NotFoundError(f"the embedded log {self.path} has no partition {partition} of a topic {topic!r}")
        self._ends[found.id] = max(found.end, self._ends.get(found.id, 0))
        # A commit seen before the stream was known is looked at again.
        self._version = -1
        return found

    # Writing.

    async def write(self, job: Job) -> Any:
        """Have a job committed and give its result. Cancelled before its turn, it is not run."""
        return await asyncio.wrap_future(self._committer.submit(job))

    async def trim(self) -> int:
        """Apply the topics' retention now; gives how many batches were deleted."""
        return int(await self.write(Trim(self._clock.now_ms())))

    async def forget(self, topic: str, partition: int, before: int) -> int:
        """Delete what lies before an offset, in whole batches; gives how many were deleted. Raises NotFoundError."""
        stream = await self.stream(topic, partition)
        return int(await self.write(Forget(stream.id, before)))

    def trim_if_due(self) -> None:
        """Have retention looked after, if that was not done for a while. Returns at once."""
        now = self._clock.monotonic()
        if now - self._trimmed >= TRIM_INTERVAL:
            self._trimmed = now
            # Nobody waits for it: what it fails at is tried again the next time.
            self._committer.submit(Trim(self._clock.now_ms()))

    def _committed_here(self, ends: dict[int, int]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._advance, ends)

    # Reading.

    async def fetch(self, stream: int, offset: int, max_records: int, max_bytes: int) -> list[LogRecord]:
        """Records from `offset` on, in order: whole batches until either limit is passed; [] when there is none yet.

        The first record's offset is above `offset` when retention has deleted what was there. Raises FatalError when
        the file is damaged, TransientError.
        """
        return await self._in_thread(lambda c: _fetch(c, stream, offset, max_records, max_bytes))

    async def changes(self, task: str, stage: str, after: bytes, limit: int) -> list[tuple[bytes, bytes | None]]:
        """At most `limit` keys of a task's store with their values, in the order of keys, from behind `after` on."""
        query = "SELECT key, value FROM changelog WHERE task=? AND store=? AND key>? ORDER BY key LIMIT ?"
        return await self._in_thread(lambda c: c.execute(query, (task, stage, after, limit)).fetchall())

    def end(self, stream: int) -> int:
        """The stream's end as last seen. Fresh to within the poll interval while someone waits."""
        return self._ends.get(stream, 0)

    async def wait(self, stream: int, offset: int, timeout: float) -> bool:
        """Wait until the stream has the record `offset`; False when it has not after `timeout` seconds.

        True as well when the file cannot be read at the moment: `fetch` says why.
        """
        if self._ends.get(stream, 0) > offset:
            return True
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiting[waiter] = (stream, offset)
        if self._timer is None:
            self._poll()
        try:
            await asyncio.wait((waiter,), timeout=timeout)
            return waiter.done()
        finally:
            self._waiting.pop(waiter, None)
            waiter.cancel()

    def _advance(self, ends: dict[int, int]) -> None:
        known = self._ends
        self._advanced = self._loop.time()
        for stream, end in ends.items():
            if end > known.get(stream, 0):
                known[stream] = end
        for waiter, (stream, offset) in self._waiting.items():
            if known.get(stream, 0) > offset and not waiter.done():
                waiter.set_result(None)

    def _poll(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        if (self._refreshing is None or self._refreshing.done()) and self._changed():
            self._refreshing = self._loop.create_task(self._refresh())
        active = self._loop.time() - self._advanced < ACTIVE_FOR
        self._timer = self._loop.call_later(POLL_INTERVAL_ACTIVE if active else POLL_INTERVAL, self._poll)

    def _changed(self) -> bool:
        """Whether someone has committed since the last look. Reads shared memory; never waits for a lock."""
        if self._watcher is None:
            return True
        try:
            version = int(self._watcher.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error:
            return True
        changed = version != self._version
        self._version = version
        return changed

    async def _refresh(self) -> None:
        """Look up the ends of all streams that readers have open, once for all who wait."""
        wanted = "[" + ",".join(map(str, self._ends)) + "]"
        query = "SELECT id, next FROM stream WHERE id IN (SELECT value FROM json_each(?))"
        try:
            if self._watcher is None:
                self._watcher = await self._in_thread(lambda _: connect(self.path, busy_timeout=0))
                self._connections.append(self._watcher)
            rows = await self._in_thread(lambda c: c.execute(query, (wanted,)).fetchall())
        except Exception:
            # The waiters' own reads meet the same trouble and report it.
            self._version = -1
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(None)
            return
        self._advance(dict(rows))

    async def _in_thread(self, query: Callable[[sqlite3.Connection], T]) -> T:
        return await self._loop.run_in_executor(self._threads, self._query, query)

    def _query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        with translated(self.path, "read"):
            if connection is None:
                connection = self._local.connection = connect(self.path)
                self._connections.append(connection)
            return query(connection)


def _fetch(
    connection: sqlite3.Connection, stream: int, offset: int, max_records: int, max_bytes: int
) -> list[LogRecord]:
    records: list[LogRecord] = []
    size = 0
    rows = connection.execute(
        "SELECT batch.base, blob.data FROM batch JOIN blob ON blob.id=batch.blob "
        "WHERE batch.stream=? AND batch.last>=? ORDER BY batch.last",
        (stream, offset),
    )
    try:
        for base, data in rows:
            try:
                part = unpack(data, base)
            except msgspec.DecodeError as error:
                raise FatalError(f"the embedded log's batch at offset {base} is damaged: {error}") from error
            records += part[offset - base :] if base < offset else part
            size += len(data)
            if len(records) >= max_records or size >= max_bytes:
                break
    finally:
        # An open statement would keep its snapshot, and the write-ahead log from being emptied.
        rows.close()
    return records

"""The transport of a test: sources, sinks, positions and changelogs in memory, with a checkpoint as exact as any."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamd.component.context import TaskContext
from streamd.component.transaction import Change, Changelog, Committed
from streamd.record import Headers, Position, Row, SourceRecord, TaskId
from streamd.testing.schema_registry import MemorySchemaRegistry

Place = tuple[str, int]


class Stream:
    """One partition of a source: what has come so far. `internal`: of an exchange. `read`: how far it was read."""

    def __init__(self) -> None:
        self.records: list[SourceRecord] = []
        self.ended = self.internal = False
        self.read = 0
        # The test's word that nothing before this time is to come any more.
        self.moved_to: int | None = None
        self._changed = asyncio.Event()

    def append(self, record: SourceRecord) -> None:
        """One more record; its offset is its number."""
        record.offset = len(self.records)
        self.records.append(record)
        self.wake()

    def wake(self) -> None:
        """Have its reader look."""
        self._changed.set()

    async def changed(self, timeout: float) -> None:
        """Return once there is something new, or after `timeout` seconds."""
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            pass


@dataclass
class TaskMemory:
    """What the checkpoints of one task have left. `changelogs`: {stage: {key: value}}."""

    positions: dict[Place, Position] = field(default_factory=dict)
    cursors: dict[str, Any] = field(default_factory=dict)
    changelogs: dict[str, dict[bytes, bytes]] = field(default_factory=dict)


class World:
    """Everything outside of the pipeline in one case.

    `outputs`: {sink id: rows, as committed}. With `strike` set, whoever commits next is killed on the way.
    """

    def __init__(self) -> None:
        self.streams: dict[Place, Stream] = {}
        self.tasks: dict[TaskId, TaskMemory] = {}
        self.outputs: dict[str, list[Row]] = {}
        self.open: set[MemoryTransaction] = set()
        self.strike = False
        self.struck = asyncio.Event()
        # {topic of an exchange: the source that reads it}
        self.topics: dict[str, str] = {}
        self.schema_registry = MemorySchemaRegistry()

    def stream(self, source: str, partition: int) -> Stream:
        """The partition of a source, made when it is first asked for."""
        return self.streams.setdefault((source, partition), Stream())

    @property
    def over(self) -> bool:
        """Whether the test has ended all input."""
        return all(stream.ended for stream in self.streams.values() if not stream.internal)

    @property
    def all_committed(self) -> bool:
        """Whether everything that came is processed and committed, and nothing else waits for a commit.

        What exchanges tell of the time is read, and committed with the next records.
        """
        positions: dict[Place, Position] = {}
        for task in self.tasks.values():
            positions |= task.positions
        return not self.open and all(
            (stream.read if stream.internal else positions.get(place, 0)) == len(stream.records)
            for place, stream in self.streams.items()
        )


class MemorySource:
    """A source that gives what the test says."""

    def __init__(self, source: str, world: World) -> None:
        self._id, self._world = source, world

    async def prepare(self) -> None:
        """Nothing to check."""

    async def partitions(self) -> int:
        """As many as the test has, at least one."""
        return max((partition + 1 for source, partition in self._world.streams if source == self._id), default=1)

    async def open(self, partition: int, position: Position | None, task: Any = None) -> MemoryReader:
        """Go on after what is committed."""
        return MemoryReader(self._world.stream(self._id, partition), position or 0)

    async def close(self) -> None:
        """Nothing is held."""


class MemoryReader:
    """See `Reader`. The position is the number of the next record."""

    def __init__(self, stream: Stream, position: int) -> None:
        self._stream = stream
        self._next = stream.read = position
        # What the test said of the time before this attempt is to be taken before any record.
        self._fresh = True

    async def read(self, max_records: int, timeout: float) -> Sequence[SourceRecord]:
        """See `Reader.read`. Empty as well when the test has moved the time."""
        if self._fresh and self.moved_to is not None:
            self._fresh = False
            return []
        if not self.lag() and not self._stream.ended:
            await self._stream.changed(timeout)
        records = self._stream.records[self._next : self._next + max_records]
        self._next += len(records)
        self._stream.read = self._next
        return list(records)

    @property
    def moved_to(self) -> int | None:
        """The watermark that the test asks for, at least; in ms."""
        return self._stream.moved_to

    def position(self) -> int:
        """The number of the next record."""
        return self._next

    def lag(self) -> int:
        """Records not read yet."""
        return len(self._stream.records) - self._next

    @property
    def ended(self) -> bool:
        """True once the test has said so."""
        return self._stream.ended and not self.lag()

    async def close(self) -> None:
        """Nothing is held."""


class MemorySink:
    """A sink that keeps what is committed."""

    def __init__(self, sink: str) -> None:
        self._id = sink

    async def prepare(self) -> None:
        """Nothing to check."""

    async def open(self, task: TaskContext, cursor: Any) -> MemoryWriter:
        """Write into the task's transaction."""
        assert isinstance(task.transaction, MemoryTransaction)
        return MemoryWriter(self._id, task.transaction)

    async def close(self) -> None:
        """Nothing is held."""


class MemoryWriter:
    """See `Writer`. All is part of the task's transaction."""

    backlog = 0

    def __init__(self, sink: str, transaction: MemoryTransaction) -> None:
        self._sink, self._transaction = sink, transaction

    def write(self, rows: Sequence[Row]) -> list[tuple[int, Exception]]:
        """Take rows; none is refused."""
        self._transaction.rows += [(self._sink, Row(*row)) for row in rows]
        return []

    async def drain(self) -> None:
        """Nothing waits."""

    async def flush(self) -> Any:
        """The transaction's commit keeps everything: there is no cursor."""

    async def committed(self) -> None:
        """Nothing was withheld."""

    async def close(self) -> None:
        """The transaction belongs to the task."""


class MemoryTransaction:
    """The `Transaction` of one attempt at a task (component/transaction.py)."""

    backlog = 0

    def __init__(self, world: World, task: TaskId) -> None:
        self._world, self._task = world, task
        self.rows: list[tuple[str, Row]] = []
        self._appended: list[tuple[str, int, SourceRecord]] = []
        self._changes: list[tuple[str, Sequence[Change]]] = []
        self._positions: Mapping[Place, Position] = {}
        self._cursors: Mapping[str, Any] | None = None

    @property
    def _memory(self) -> TaskMemory:
        return self._world.tasks.setdefault(self._task, TaskMemory())

    async def open(self) -> Committed:
        """What is committed."""
        return Committed(dict(self._memory.positions), dict(self._memory.cursors))

    def begin(self) -> None:
        """From here on there is something to commit."""
        self._world.open.add(self)

    def append(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, timestamp: int, headers: Headers
    ) -> None:
        """Add one record to an exchange."""
        self._appended.append((topic, partition, SourceRecord(key, value, timestamp, 0, headers)))

    async def drain(self) -> None:
        """Nothing waits."""

    async def flush(self) -> None:
        """Nothing waits."""

    async def restore(self, changelog: Changelog, load: Callable[[Sequence[Change]], None]) -> None:
        """Give what is committed of a store."""
        load(list(self._memory.changelogs.get(changelog.stage, {}).items()))

    def put_state(self, changelog: Changelog, changes: Sequence[Change]) -> None:
        """Keep changes for the commit."""
        self._changes.append((changelog.stage, list(changes)))

    async def put_positions(self, positions: Mapping[Place, Position], cursors: Mapping[str, Any]) -> None:
        """Keep positions for the commit."""
        self._positions, self._cursors = dict(positions), dict(cursors)

    async def commit(self) -> None:
        """Make it all part of the world; one that is struck never returns."""
        if self._world.strike:
            self._world.strike = False
            self._world.struck.set()
            await asyncio.get_running_loop().create_future()
        memory = self._memory
        for sink, row in self.rows:
            self._world.outputs.setdefault(sink, []).append(row)
        for topic, partition, record in self._appended:
            self._world.stream(self._world.topics[topic], partition).append(record)
        for stage, changes in self._changes:
            kept = memory.changelogs.setdefault(stage, {})
            for key, value in changes:
                if value is None:
                    kept.pop(key, None)
                else:
                    kept[key] = value
        memory.positions |= self._positions
        if self._cursors is not None:
            memory.cursors = dict(self._cursors)
        self._clear()

    async def abort(self) -> None:
        """Drop what is open."""
        self._clear()

    async def close(self) -> None:
        """Drop what is open."""
        self._clear()

    def abandon(self) -> None:
        """Drop what is open."""
        self._clear()

    def _clear(self) -> None:
        self.rows, self._appended, self._changes, self._positions, self._cursors = [], [], [], {}, None
        self._world.open.discard(self)

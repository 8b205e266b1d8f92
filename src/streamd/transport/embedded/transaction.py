"""A task's checkpoints on the embedded log: outputs, state, positions and cursors in one SQLite transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from streamd.clock import SYSTEM_CLOCK, Clock
from streamd.component.transaction import Change, Changelog, Committed
from streamd.errors import FatalError, LoadError
from streamd.record import Headers, Position, Row, TaskId
from streamd.transport.embedded.jobs import Commit, DropStaged, OpenTask, StageOutputs
from streamd.transport.embedded.log import EmbeddedLog
from streamd.transport.embedded.records import MAX_RECORD_BYTES, RECORD_OVERHEAD, OutputRow

# From here on `drain` puts outputs down in the file instead of keeping them in memory until the commit.
STAGE_BYTES = 4 * 1024 * 1024
RESTORED_AT_ONCE = 10_000


class EmbeddedTransaction:
    """The `Transaction` of one task (component/transaction.py) on the log at `path`."""

    def __init__(self, path: Path, task: TaskId | str, clock: Clock = SYSTEM_CLOCK) -> None:
        self._path = path
        self._task = str(task)
        self._clock = clock
        self._log: EmbeddedLog | None = None
        self._epoch = 0
        self._outputs: dict[tuple[str, int], tuple[list[OutputRow], int]] = {}
        self._backlog = 0
        self._staged: list[tuple[str, int, int, int]] = []
        self._positions: dict[tuple[str, int], Position] = {}
        self._cursors: Mapping[str, Any] | None = None
        self._changes: dict[str, list[Change]] = {}

    async def open(self) -> Committed:
        """See `Transaction.open`."""
        self._log = EmbeddedLog.acquire(self._path)
        try:
            committed: Committed
            self._epoch, committed = await self._log.write(OpenTask(self._task))
        except BaseException:
            self.abandon()
            raise
        return committed

    def begin(self) -> None:
        """Nothing is to be told to the file before the commit."""

    def append(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, timestamp: int, headers: Headers
    ) -> None:
        """See `Transaction.append`."""
        refused = self.extend(topic, partition, ((key, value, timestamp, headers),))
        if refused:
            raise refused[0][1]

    def extend(
        self, topic: str, partition: int, rows: Sequence[Row] | Sequence[OutputRow]
    ) -> list[tuple[int, Exception]]:
        """Add many records of one partition, in order; gives (index, LoadError) of those that are too large."""
        size, largest = 0, 0
        for key, value, _, _ in rows:
            bytes_of = (len(value) if value else 0) + (len(key) if key else 0)
            size += bytes_of
            if bytes_of > largest:
                largest = bytes_of
        refused: list[tuple[int, Exception]] = []
        if largest > MAX_RECORD_BYTES:
            rows, refused = _without_too_large(rows)
            size = sum(len(row[1] or b"") + len(row[0] or b"") for row in rows)
        size += RECORD_OVERHEAD * len(rows)
        known, before = self._outputs.get((topic, partition)) or ([], 0)
        known += rows
        self._outputs[topic, partition] = (known, before + size)
        self._backlog += size
        return refused

    @property
    def backlog(self) -> int:
        """Bytes kept in memory until `drain` or `commit`."""
        return self._backlog

    async def drain(self) -> None:
        """Put outputs down in the file when they are many; they become part of the log with the commit."""
        if self._backlog < STAGE_BYTES:
            return
        outputs, self._outputs, self._backlog = self._outputs, {}, 0
        self._staged += await self._opened().write(StageOutputs(self._task, self._epoch, outputs))

    async def flush(self) -> None:
        """Everything appended is written by the commit itself."""

    async def restore(self, changelog: Changelog, load: Callable[[Sequence[Change]], None]) -> None:
        """See `Transaction.restore`."""
        log, after = self._opened(), b""
        while changes := await log.changes(self._task, changelog.stage, after, RESTORED_AT_ONCE):
            load(changes)
            after = changes[-1][0]

    def put_state(self, changelog: Changelog, changes: Sequence[Change]) -> None:
        """See `Transaction.put_state`."""
        self._changes.setdefault(changelog.stage, []).extend(changes)

    async def put_positions(self, positions: Mapping[tuple[str, int], Position], cursors: Mapping[str, Any]) -> None:
        """See `Transaction.put_positions`; the epoch is checked by the commit."""
        self._positions.update(positions)
        self._cursors = dict(cursors)

    async def commit(self) -> None:
        """See `Transaction.commit`. Raises FencedError, TransientError, FatalError."""
        if not (self._outputs or self._staged or self._positions or self._changes) and self._cursors is None:
            return
        log = self._opened()
        await log.write(
            Commit(
                self._task,
                self._epoch,
                self._staged,
                self._outputs,
                self._positions,
                self._cursors,
                self._changes,
                self._clock.now_ms(),
            )
        )
        self._forget()
        log.trim_if_due()

    async def abort(self) -> None:
        """See `Transaction.abort`."""
        staged = self._staged
        self._forget()
        if staged:
            await self._opened().write(DropStaged(self._task, self._epoch))

    async def close(self) -> None:
        """See `Transaction.close`. What was staged is dropped by the task's next `open`."""
        self._forget()
        if self._log is not None:
            log, self._log = self._log, None
            await log.release()

    def abandon(self) -> None:
        """See `Transaction.abandon`. A commit under way either has happened or is fenced by the next `open`."""
        self._forget()
        if self._log is not None:
            log, self._log = self._log, None
            log.let_go()

    def _forget(self) -> None:
        self._outputs, self._staged, self._backlog = {}, [], 0
        self._positions, self._cursors, self._changes = {}, None, {}

    def _opened(self) -> EmbeddedLog:
        if self._log is None:
            raise FatalError(f"the transaction of task {self._task} is not open")
        return self._log


def _without_too_large(
    rows: Sequence[Row] | Sequence[OutputRow],
) -> tuple[list[OutputRow], list[tuple[int, Exception]]]:
    kept: list[OutputRow] = []
    refused: list[tuple[int, Exception]] = []
    for index, (key, value, timestamp, headers) in enumerate(rows):
        size = len(value or b"") + len(key or b"")
        if size > MAX_RECORD_BYTES:
            message = f"the record has {size} bytes, the embedded log takes at most {MAX_RECORD_BYTES}"
            refused.append((index, LoadError(message, excess=size - MAX_RECORD_BYTES)))
        else:
            kept.append((key, value, timestamp, headers))
    return kept, refused

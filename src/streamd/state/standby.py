"""A warm copy of a task's state on a node that does not run the task: a snapshot that follows the changelogs.

The copy is the same that a task itself keeps (`state/snapshot.py`). When the task comes to this node it finds the copy
as one of its own, and reads what its changelogs got since the last mark. Whatever is doubtful is begun anew here, and
refused there: a copy can make a restore short, and never wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import orjson
import structlog

from streamd.component.transaction import Change
from streamd.errors import TransientError
from streamd.record import RawRecord, TaskId
from streamd.state.snapshot import Mark, Snapshot
from streamd.state.snapshots import EVERY, META_KEY, OLDEST

log = structlog.get_logger(__name__)

_AT_ONCE: Final = 2_000
_WAIT: Final = 1.0  # seconds
# Changes of checkpoints that compaction has merged are written in pieces of so many.
_PIECE: Final = 20_000
# Between two marks of a changelog to which nothing comes, in ms: the copy is as good as it was, and says so.
_REFRESH: Final = 600_000


class Log(Protocol):
    """One stage's changelog of the task: what is committed there, in order."""

    async def range(self) -> tuple[int, int]: ...
    def seek(self, position: int) -> None: ...
    async def read(self, max_records: int, timeout: float) -> Sequence[RawRecord]: ...
    def lag(self) -> int | None: ...
    async def close(self) -> None: ...


class _Followed:
    """One stage. `start`: the position of the last checkpoint's record about itself, before which all is here."""

    def __init__(self, stage: str, log: Log) -> None:
        self.stage, self.log = stage, log
        # What tells the changelog from one that was begun anew: as the mark has it, and once the changelog has said so.
        self.expected: str | None = None
        self.history: str | None = None
        self.number, self.start = 0, 0
        self.pending: list[Change] = []
        # Whether it goes on from a copy that was here.
        self.kept = False
        # When it was seen to have all there was, in ms; None: never.
        self.complete_at: int | None = None


class Standby:
    """Follows the changelogs of one task until it is cancelled, with its copy in `snapshot`.

    `lag`: records that are committed and not here, None before that is known. `ready`: the copy would be used.
    """

    def __init__(self, task: TaskId, snapshot: Snapshot, logs: Mapping[str, Log]) -> None:
        self._task, self._snapshot = task, snapshot
        self._stages = [_Followed(stage, log) for stage, log in logs.items()]
        self._marked: dict[str, int] = {}
        self._marked_at = 0
        self._read = 0
        self.ready = False

    @property
    def lag(self) -> int | None:
        """See above."""
        lags = [one.log.lag() for one in self._stages]
        return None if None in lags else sum(lag for lag in lags if lag is not None)

    async def run(self) -> None:
        """Follow. Raises what ended it; whoever calls makes a new one, which goes on from the last mark.

        The snapshot's folder is free again when this returns.
        """
        try:
            mark = self._snapshot.open()
            if not self._snapshot.held:
                raise TransientError("the local copy of the task's state is in use")
            async with asyncio.TaskGroup() as group:
                for one in self._stages:
                    group.create_task(self._follow(one, mark))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            for one in self._stages:
                await one.log.close()
            with suppress(TransientError):
                self._mark(anyhow=True)
            self._snapshot.close()

    async def _follow(self, one: _Followed, mark: Mark | None) -> None:
        await self._begin(one, mark)
        now = self._snapshot.now_ms
        while True:
            asked = now()
            records = await one.log.read(_AT_ONCE, _WAIT)
            if records:
                self._read += len(records)
                await self._take(one, records)
            if one.log.lag() == 0:
                if one.history is None and one.expected is not None:
                    raise self._anew(f"the changelog of {one.stage} has nothing of what the copy is of")
                one.complete_at = asked
            elif one.complete_at is not None and now() - one.complete_at > OLDEST:
                raise self._anew(f"the changelog of {one.stage} was out of reach for too long")
            self._mark()

    async def _begin(self, one: _Followed, mark: Mark | None) -> None:
        """Go on from the mark where that is one of this changelog, as far as it can be seen, or begin with nothing."""
        first, end = await one.log.range()
        if mark is not None and one.stage in mark.starts:
            history, start = mark.starts[one.stage]
            if first <= start < end and 0 <= self._snapshot.now_ms() - mark.at_ms <= OLDEST:
                # Whether the history is the same, the first checkpoint that is read says.
                one.kept = True
                one.expected, one.number, one.start = history, mark.number, start
                one.log.seek(start)
                return
        self._snapshot.forget_stage(one.stage)
        one.log.seek(first)

    async def _take(self, one: _Followed, records: Sequence[RawRecord]) -> None:
        for record in records:
            if record.key != META_KEY:
                one.pending.append((record.key or b"", record.value))
                continue
            meta = orjson.loads(record.value) if record.value else {}
            await self._checkpoint(one, meta, record.offset)
        if len(one.pending) >= _PIECE:
            await self._write(one)

    async def _checkpoint(self, one: _Followed, meta: Mapping[str, Any], position: int) -> None:
        """All changes of a checkpoint were read: this is what it says about itself."""
        history = meta.get("history")
        if not isinstance(history, str) or one.expected not in (None, history):
            raise self._anew(f"the changelog of {one.stage} was begun anew")
        one.expected = one.history = history
        one.number, one.start = meta["checkpoint"], position
        await self._write(one)

    async def _write(self, one: _Followed) -> None:
        if one.pending:
            # The list is the snapshot's from here on: a thread reads it, now or later.
            changes, one.pending = one.pending, []
            self._snapshot.add(one.stage, changes, one.number)
            await self._snapshot.keep_up()
        if not self._snapshot.kept:
            raise TransientError("the local copy of the task's state cannot be written: is the disk full?", 30.0)

    def _mark(self, *, anyhow: bool = False) -> None:
        """Say how far the copy is, from time to time, or at the end."""
        complete = [one.complete_at for one in self._stages if one.complete_at is not None and one.history is not None]
        if len(complete) < len(self._stages):
            return
        starts = {one.stage: one.start for one in self._stages}
        now = self._snapshot.now_ms()
        due = now - self._marked_at >= (EVERY if starts != self._marked else _REFRESH)
        if not due and not (anyhow and starts != self._marked):
            return
        number = min(one.number for one in self._stages)
        self._snapshot.mark(number, {one.stage: (one.history or "", one.start) for one in self._stages}, min(complete))
        if not self.ready:
            kept = all(one.kept for one in self._stages)
            log.info("Standby copy is complete", task=str(self._task), records=self._read, goes_on=kept)
        self._marked, self._marked_at, self.ready = starts, now, True

    def _anew(self, why: str) -> TransientError:
        """Forget everything: the next attempt begins with nothing."""
        self.ready = False
        for one in self._stages:
            one.complete_at = None
        self._snapshot.forget()
        return TransientError(f"{why}; the copy is made anew")

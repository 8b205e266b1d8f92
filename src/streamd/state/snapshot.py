"""A task's state on the local disk, so that a restart reads only what its changelogs got since.

A RocksDB follows the changelogs: what a checkpoint has committed is written there by a thread, after the commit. It has
no log of its own, so a crash leaves it as it was a while ago: some first part of all that was written, never a later
piece without an earlier one. From time to time a mark says from which positions of the changelogs on their records may
be missing. So mark and tail together give what the changelogs give, and anything doubtful means a whole restore.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson

from streamd.clock import SYSTEM_CLOCK, Clock
from streamd.component.transaction import Change
from streamd.state.cold import HELD, database

_FORMAT: Final = 1
# Not the beginning of any stage's names.
_MARK, _LAST = b"\0mark", b"\0last"
_AT_ONCE: Final = 10_000
_READ: Final = 2_000  # entries that are read at once: they may be long
_FILLING: Final = 10
_BEHIND: Final = 200  # checkpoints that wait to be written, from which on it is given up


@dataclass(frozen=True, slots=True)
class Mark:
    """`number`: of the checkpoint that everything is there of. `last`: of the last one that anything is there of.

    `starts`: {stage: (its changelog's history, position from which on records may be missing)}. `at_ms`: when.
    """

    number: int
    last: int
    starts: Mapping[str, tuple[str, int]]
    at_ms: int


class Snapshot:
    """The snapshot of one task in a folder. Does nothing at all while another process has the folder, or when the disk
    fails: a snapshot is never needed.
    """

    def __init__(self, folder: Path, clock: Clock = SYSTEM_CLOCK) -> None:
        self._folder = folder
        self.now_ms = clock.now_ms
        self._held = -1
        self._db: Any = None
        self._options: Any = None
        self._thread: ThreadPoolExecutor | None = None
        self._jobs: list[Future[None]] = []

    def open(self) -> Mark | None:
        """Take the folder; gives what is there, None when that is nothing, or not to be trusted."""
        try:
            self._folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            held = self._folder.with_name(self._folder.name + HELD)
            self._held = os.open(held, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            return None
        try:
            self._db, self._options = database(self._folder)
            mark = self._mark()
        except Exception:
            mark = None
        if mark is None:
            self.forget()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        return mark

    @property
    def held(self) -> bool:
        """Whether the folder is this one's."""
        return self._held >= 0

    @property
    def kept(self) -> bool:
        """Whether what is added is written: not after the disk has failed."""
        return self._db is not None

    def forget(self) -> None:
        """Begin with nothing."""
        self._finish()
        with contextlib.suppress(Exception):
            if self._db is not None:
                self._db.close()
        self._db = None
        with contextlib.suppress(Exception):
            shutil.rmtree(self._folder, ignore_errors=True)
            self._db, self._options = database(self._folder)

    def entries(self, stage: str) -> Iterator[dict[bytes, bytes | None]]:
        """What is there of a stage, {name: value} as its changelog has it, some at a time."""
        prefix = _prefix(stage)
        length, items = len(prefix), iter(self._db.items(from_key=prefix))
        while some := list(islice(items, _READ)):
            # They are in order: with the last one all are the stage's.
            if not some[-1][0].startswith(prefix):
                some = [item for item in some if item[0].startswith(prefix)]
            names, values = zip(*some, strict=True) if some else ((), ())
            yield dict(zip([name[length:] for name in names], values, strict=True))
            if len(some) < _READ:
                return

    def fill(self, stage: str, changes: Sequence[Change]) -> None:
        """Some of a whole restore. Waits, for some ms, while much is waiting to be written."""
        if len(self._jobs) >= _FILLING:
            wait(self._jobs[:-_FILLING])
        self.add(stage, changes, 0)

    async def keep_up(self) -> None:
        """Wait while much is waiting to be written."""
        if len(self._jobs) > _FILLING:
            # They are done in order.
            job = asyncio.wrap_future(self._jobs[-_FILLING])
            await asyncio.wait([job])
            job.exception()

    def add(self, stage: str, changes: Sequence[Change], number: int) -> None:
        """What was committed with a checkpoint; it is written some time soon."""
        prefix = _prefix(stage)

        def write() -> None:
            from rocksdict import WriteBatch

            for start in range(0, len(changes), _AT_ONCE):
                batch = WriteBatch(raw_mode=True)
                batch.put(_LAST, b"%d" % number)
                for name, value in changes[start : start + _AT_ONCE]:
                    if value is None:
                        batch.delete(prefix + name)
                    else:
                        batch.put(prefix + name, value)
                self._db.write(batch, self._options)

        if changes:
            self._run(write)

    def forget_stage(self, stage: str) -> None:
        """Begin with nothing of a stage, and without a mark."""
        prefix = _prefix(stage)

        def forget() -> None:
            self._db.delete(_MARK, self._options)
            self._db.delete_range(prefix, prefix + b"\xff", self._options)

        self._run(forget)

    def mark(self, number: int, starts: Mapping[str, tuple[str, int]], at_ms: int) -> None:
        """Everything that was added up to now is all there is, up to the checkpoint `number`. See `Mark`."""
        found = {"format": _FORMAT, "number": number, "starts": dict(starts), "at_ms": at_ms}

        def write() -> None:
            self._db.put(_MARK, orjson.dumps(found), self._options)
            self._db.flush()

        self._run(write)

    def close(self) -> None:
        """Finish writing, and let go of the folder."""
        self._finish()
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        if self._db is not None:
            with contextlib.suppress(Exception):
                self._db.close()
            self._db = None
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    def _mark(self) -> Mark | None:
        text = self._db.get(_MARK)
        if text is None:
            return None
        found = orjson.loads(text)
        if found["format"] != _FORMAT:
            return None
        last = int(self._db.get(_LAST) or b"0")
        starts = {stage: (history, position) for stage, (history, position) in found["starts"].items()}
        return Mark(found["number"], last, starts, found["at_ms"])

    def _run(self, job: Callable[[], None]) -> None:
        if self._thread is None or self._db is None:
            return
        done = [one for one in self._jobs if one.done()]
        self._jobs = [one for one in self._jobs if one not in done]
        if len(self._jobs) > _BEHIND or any(one.exception() is not None for one in done):
            # What is missing now must not be followed by anything: it ends here, and the next restart reads it all.
            self._give_up()
            return
        self._jobs.append(self._thread.submit(job))

    def _give_up(self) -> None:
        for job in self._jobs:
            job.cancel()
        self._finish()
        with contextlib.suppress(Exception):
            self._db.close()
        self._db = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _finish(self) -> None:
        wait(self._jobs)
        self._jobs = []


def _prefix(stage: str) -> bytes:
    return b"%s/" % stage.encode()

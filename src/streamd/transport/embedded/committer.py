"""The one thread of a process that writes to the file: what waits together is committed together, with one fsync.

Each job runs inside its own savepoint, so that one that fails (fenced, say) takes nothing with it; when the commit
itself fails, all of them have failed.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from streamd.errors import FatalError, StreamdError
from streamd.transport.embedded.database import connect, translated, write_transaction

# Jobs in one transaction: bounds how long other processes wait for their turn.
GROUP_JOBS = 64


class Job(Protocol):
    """Something to be written."""

    def prepare(self) -> None:
        """All that can be done before the file is locked. In the committer's thread."""

    def apply(self, connection: sqlite3.Connection, ends: dict[int, int]) -> Any:
        """Write, inside the transaction. Puts {stream id: next offset} of what it appended to into `ends`.

        The result is the job's; an exception undoes this job alone.
        """


class Committer:
    """Jobs in, futures out, in order. `on_commit` is called in the thread with the new ends after each commit."""

    def __init__(self, path: Path, on_commit: Callable[[dict[int, int]], None]) -> None:
        self._path = path
        self._on_commit = on_commit
        self._jobs: queue.SimpleQueue[tuple[Job, Future[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def submit(self, job: Job) -> Future[Any]:
        """Hand in a job. A future cancelled before its turn is not run; once running it runs to its end."""
        future: Future[Any] = Future()
        self._jobs.put((job, future))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"committer {self._path.name}", daemon=True)
            self._thread.start()
        return future

    def close(self) -> None:
        """Finish what was handed in, and end the thread. Blocks."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        open_for_jobs = True
        while open_for_jobs:
            group: list[tuple[Job, Future[Any]]] = []
            item = self._jobs.get()
            while item is not None:
                if item[1].set_running_or_notify_cancel():
                    group.append(item)
                if len(group) >= GROUP_JOBS or self._jobs.empty():
                    break
                item = self._jobs.get()
            open_for_jobs = item is not None
            if group:
                self._commit(group)
        if self._connection is not None:
            self._connection.close()

    def _commit(self, group: list[tuple[Job, Future[Any]]]) -> None:
        ready = [(job, future) for job, future in group if _prepared(job, future)]
        outcomes: list[tuple[Future[Any], Any, StreamdError | None]] = []
        ends: dict[int, int] = {}
        try:
            with translated(self._path, "write to"):
                if self._connection is None:
                    self._connection = connect(self._path)
                    self._inode = self._path.stat().st_ino
                self._check_place()
                with write_transaction(self._connection):
                    for job, future in ready:
                        outcomes.append((future, *_applied(self._connection, job, ends)))
        except BaseException as error:
            # What the connection still believes is of no interest: the next job starts with a new one.
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            for _, future in ready:
                future.set_exception(error)
            return
        if ends:
            self._on_commit(ends)
        for future, result, failure in outcomes:
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)

    def _check_place(self) -> None:
        """SQLite would go on writing to a file that has no name any more, and nobody would find it again."""
        try:
            there = self._path.stat().st_ino == self._inode
        except OSError:
            there = False
        if not there:
            raise FatalError(f"the embedded log {self._path} was removed or replaced while in use")


def _prepared(job: Job, future: Future[Any]) -> bool:
    try:
        job.prepare()
    except Exception as error:
        future.set_exception(error)
        return False
    return True


def _applied(connection: sqlite3.Connection, job: Job, ends: dict[int, int]) -> tuple[Any, StreamdError | None]:
    own_ends: dict[int, int] = {}
    connection.execute("SAVEPOINT job")
    try:
        result = job.apply(connection, own_ends)
    except StreamdError as error:
        connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")
        return None, error
    connection.execute("RELEASE job")
    ends.update(own_ends)
    return result, None

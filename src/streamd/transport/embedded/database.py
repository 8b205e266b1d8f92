"""The file: its tables, its connections, and what SQLite's errors mean here.

A record's offset is given inside the write transaction, and there is only one of these at a time over all processes, so
offsets are dense. Records lie in `blob` packed in batches; `batch` has one small row for each, in the order of offsets.
Keeping them apart lets a large transaction put its blobs down early (`staged`) and make them part of the log at commit
by writing only the small rows.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from streamd.errors import AccessDeniedError, FatalError, NotFoundError, StreamdError, TransientError

SCHEMA_VERSION = 1

# How long a writer waits for the file while others write, in seconds: many times what a transaction may take.
BUSY_DEADLINE = 15.0

_SCHEMA = """
CREATE TABLE topic (
    name TEXT PRIMARY KEY, partitions INTEGER NOT NULL, retention_records INTEGER, retention_ms INTEGER
) WITHOUT ROWID;
CREATE TABLE stream (
    id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    start INTEGER NOT NULL DEFAULT 0, next INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, partition)
);
CREATE TABLE blob (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE batch (
    stream INTEGER NOT NULL, last INTEGER NOT NULL, base INTEGER NOT NULL, blob INTEGER NOT NULL,
    appended_ms INTEGER NOT NULL, PRIMARY KEY (stream, last)
) WITHOUT ROWID;
CREATE TABLE staged (task TEXT NOT NULL, blob INTEGER NOT NULL, PRIMARY KEY (task, blob)) WITHOUT ROWID;
CREATE TABLE task (id TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE position (
    task TEXT NOT NULL, source TEXT NOT NULL, partition INTEGER NOT NULL, position TEXT NOT NULL,
    PRIMARY KEY (task, source, partition)
) WITHOUT ROWID;
CREATE TABLE cursor (
    task TEXT NOT NULL, sink TEXT NOT NULL, cursor TEXT NOT NULL, PRIMARY KEY (task, sink)
) WITHOUT ROWID;
CREATE TABLE changelog (
    task TEXT NOT NULL, store TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (task, store, key)
) WITHOUT ROWID;
"""


def connect(path: Path, *, busy_timeout: float = BUSY_DEADLINE) -> sqlite3.Connection:
    """A connection in autocommit mode, safe to hand from thread to thread; makes the file and its tables if needed.

    `busy_timeout` in seconds is for reads; writers wait in `write_transaction`. Raises AccessDeniedError,
    NotFoundError, FatalError, TransientError.
    """
    _create(path)
    with translated(path, "open"):
        connection = sqlite3.connect(
            path, timeout=busy_timeout, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            _set_up(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _create(path: Path) -> None:
    """Make the file readable by its owner alone; SQLite gives its side files the same mode.

    A file that SQLite may have open is never opened here: closing any descriptor of it would drop all POSIX locks that
    this process holds on it (https://www.sqlite.org/howtocorrupt.html), and another process would delete the
    write-ahead log under it. So it is made under another name and linked into place.
    """
    try:
        if path.exists():
            if not path.is_file():
                raise FatalError(f"cannot open the embedded log {path}: there is something else of that name")
            if not os.access(path, os.R_OK | os.W_OK):
                raise AccessDeniedError(f"cannot write the embedded log {path}: no permission to read and write it")
            return
        fresh = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(6).hex()}")
        os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            os.link(fresh, path)
        finally:
            fresh.unlink()
    except FileExistsError:
        return
    except FileNotFoundError:
        raise NotFoundError(f"cannot open the embedded log {path}: its folder does not exist") from None
    except OSError as error:
        if isinstance(error, PermissionError) or error.errno == 30:  # EROFS
            raise AccessDeniedError(f"cannot write the embedded log {path}: {error.strerror}") from None
        raise TransientError(f"cannot open the embedded log {path}: {error.strerror}") from None


def _set_up(connection: sqlite3.Connection, path: Path) -> None:
    deadline = time.monotonic() + BUSY_DEADLINE
    while True:
        # Changing to WAL needs the file alone for a moment, and does not wait for it.
        try:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            break
        except sqlite3.OperationalError as error:
            if _kind(error) != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.001, 0.01))
    if mode != "wal":
        raise AccessDeniedError(
            f"the embedded log {path} cannot use a write-ahead log (mode is {mode}): is it read-only?"
        )
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute("PRAGMA journal_size_limit=67108864")
    if _version(connection) == 0:
        with write_transaction(connection):
            if _version(connection) == 0:
                for statement in _SCHEMA.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    if _version(connection) != SCHEMA_VERSION:
        raise FatalError(
            f"the embedded log {path} has format {_version(connection)}, this streamd reads and writes {SCHEMA_VERSION}"
        )


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


@contextmanager
def write_transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One write transaction: waits its turn among all processes, rolls back on any exception.

    SQLite's own waiting sleeps up to 100 ms at a time; the steps here are short, because transactions are.
    """
    deadline = time.monotonic() + BUSY_DEADLINE
    pause = 0.0005
    connection.execute("PRAGMA busy_timeout=0")
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            break
        except sqlite3.OperationalError as error:
            if not _kind(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or time.monotonic() > deadline:
                raise
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(pause * 1.5, 0.01)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


@contextmanager
def translated(path: Path, doing: str) -> Iterator[None]:
    """Turn SQLite's errors into streamd's. `doing` completes "cannot … the embedded log"."""
    try:
        yield
    except sqlite3.Error as error:
        raise _meaning(error, path, doing) from error


def _kind(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", None) or ""


def _meaning(error: sqlite3.Error, path: Path, doing: str) -> StreamdError:
    kind = _kind(error)
    what = f"cannot {doing} the embedded log {path}"
    if kind.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")):
        return TransientError(f"{what}: another process has held it locked for {BUSY_DEADLINE:.0f} s")
    if kind == "SQLITE_FULL":
        return TransientError(f"{what}: the disk is full; nothing was lost, it goes on when there is room", 1.0)
    if kind.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return FatalError(f"{what}: the file is damaged or no SQLite database ({error}); restore it or move it away")
    if kind.startswith(("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")):
        return AccessDeniedError(f"{what}: it is read-only ({error})")
    if kind.startswith(("SQLITE_IOERR", "SQLITE_NOMEM", "SQLITE_INTERRUPT")):
        return TransientError(f"{what}: {error} ({kind}); nothing was lost, it is tried again", 1.0)
    if kind.startswith("SQLITE_CANTOPEN"):
        return TransientError(f"{what}: {error}; is the folder there, and are there file descriptors left?", 1.0)
    return FatalError(f"{what}: {error}{f' ({kind})' if kind else ''}")

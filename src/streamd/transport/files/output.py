"""A file that is appended to in checkpoints: what lies behind the last one is cut off when it is opened again.

Everything here blocks: call it in a thread, one call at a time. Errors are streamd's own (`failures`).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from streamd.errors import FatalError, TransientError
from streamd.transport.files.compression import ByteStream, Compression, compressed, decompressed
from streamd.transport.files.failures import translated

# The longest first row that is looked at to find a file's columns.
_FIRST_LINE_BYTES = 1024 * 1024


class AppendedFile:
    """One open file with an exclusive lock. `length` is where the next byte goes; a write that failed left nothing."""

    def __init__(self, path: Path) -> None:
        """Open or make it, and its folders. Raises TransientError when another process writes it."""
        self.path = path
        with translated("write", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise TransientError(f"cannot write {path}: another task or process is writing it", 0.2) from None
        self.length = os.fstat(self._descriptor).st_size

    def read(self, size: int, at: int) -> bytes:
        """So many of its bytes from there on, fewer at its end."""
        with translated("read", self.path):
            return os.pread(self._descriptor, size, at)

    def cut(self, length: int) -> None:
        """Throw away everything from this byte on. Raises FatalError when the file is shorter."""
        if self.length < length:
            raise FatalError(
                f"{self.path} has {self.length} bytes, of which {length} were committed: it was changed by someone else"
            )
        with translated("write", self.path):
            os.ftruncate(self._descriptor, length)
        self.length = length

    def append(self, data: bytes) -> None:
        """Write at the end. When that fails the file has no more than before, and the same can be tried again."""
        view, at = memoryview(data), self.length
        with translated("write", self.path):
            try:
                while view:
                    written = os.pwrite(self._descriptor, view, at)
                    view, at = view[written:], at + written
            except OSError:
                os.ftruncate(self._descriptor, self.length)
                raise
        self.length = at

    def sync(self) -> None:
        """Return when everything is on disk. Raises FatalError when the name now belongs to another file."""
        with translated("write", self.path):
            os.fsync(self._descriptor)
            try:
                same = self.path.stat().st_ino == os.fstat(self._descriptor).st_ino
            except FileNotFoundError:
                same = False
        if not same:
            raise FatalError(f"{self.path} was moved or deleted while it was written; `rotate` does that without loss")

    def close(self) -> None:
        """Close it, which gives the lock back."""
        os.close(self._descriptor)


def sync_folder(path: Path) -> None:
    """Make names in the folder of this file durable."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Output:
    """Where a writer's lines, or other records, go: one file, appended to.

    `header` is what a file begins with, `pack` puts records together. They may be set once it is open. `lines`: what
    others have left there without its line end gets one. `check` gets the bytes of what others have left there; what it
    raises leaves all as it was.

    The cursor is the file's length. Before the first checkpoint there is none: the length that the file had is then
    kept beside it (`.NAME.begin`) until the first commit, so that a crash before it leaves nothing behind either.
    """

    def __init__(
        self,
        path: Path,
        compression: Compression,
        header: bytes = b"",
        *,
        lines: bool = True,
        check: Callable[[ByteStream], None] | None = None,
    ) -> None:
        self._path = path
        self._compression = compression
        self.header = header
        self.pack: Callable[[list[bytes]], bytes] = b"".join
        self._lines, self._check = lines, check
        self._file: AppendedFile | None = None
        self._begin = path.with_name(f".{path.name}.begin")

    def open(self, cursor: Any) -> None:
        """Open where the last checkpoint left it. `cursor` is what `sync` gave, or None."""
        file = AppendedFile(self._path)
        try:
            with translated("write", self._begin):
                own = isinstance(cursor, dict) and cursor.get("path") == str(self._path)
                if own:
                    file.cut(cursor["length"])
                    self._begin.unlink(missing_ok=True)
                elif self._begin.exists():
                    file.cut(int(orjson.loads(self._begin.read_bytes() or b"0")))
                else:
                    self._check_others(file)
                    temporary = self._begin.with_suffix(".tmp")
                    temporary.write_bytes(orjson.dumps(file.length))
                    temporary.replace(self._begin)
                    sync_folder(self._begin)
            if self._lines and not own and file.length and self._ends_inside_a_line():
                file.append(compressed(b"\n", self._compression))
        except BaseException:
            file.close()
            raise
        self._file = file

    def _check_others(self, file: AppendedFile) -> None:
        if self._check is not None and file.length:
            with translated("read", self._path), self._path.open("rb") as raw:
                self._check(decompressed(raw, self._compression, self._path))

    def _ends_inside_a_line(self) -> bool:
        """Whether what somebody else has left there lacks its line end. Own lines never do."""
        with translated("read", self._path), self._path.open("rb") as raw:
            if self._compression == "none":
                raw.seek(-1, os.SEEK_END)
                return raw.read(1) != b"\n"
            stream, last = decompressed(raw, self._compression, self._path), b"\n"
            while data := stream.read(_FIRST_LINE_BYTES):
                last = data[-1:]
            return last != b"\n"

    @property
    def empty(self) -> bool:
        """Whether nothing is in the file yet."""
        return self._opened().length == 0

    @property
    def current(self) -> AppendedFile | None:
        """The open file."""
        return self._file

    def first_line(self) -> bytes:
        """The line that the file begins with, without its end."""
        with translated("read", self._path), self._path.open("rb") as raw:
            start = decompressed(raw, self._compression, self._path).read(_FIRST_LINE_BYTES)
        return start.partition(b"\n")[0].removesuffix(b"\r")

    def write(self, lines: list[bytes]) -> None:
        """Append lines, all or none; those written are removed from the list."""
        data = self.pack(lines)
        if self.empty:
            data = self.header + data
        self._opened().append(compressed(data, self._compression))
        lines.clear()

    def sync(self, now_ms: int) -> dict[str, Any]:
        """Make everything durable, and give the cursor."""
        file = self._opened()
        file.sync()
        return {"path": str(self._path), "length": file.length}

    def publish(self) -> None:
        """The cursor is committed."""
        with translated("write", self._begin):
            self._begin.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> AppendedFile:
        if self._file is None:
            raise FatalError(f"{self._path} is not open")
        return self._file

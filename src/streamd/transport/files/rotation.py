"""A row of files of bounded size: one is written under a hidden name, and gets its own when all of it is committed.

File number 3 of `out/orders.ndjson` is `out/orders-00000003.ndjson`; until then `out/.orders-00000003.ndjson.part`. A
file is sealed when it is full, and the next begun; the rename waits for the commit. So whoever reads the folder sees
whole, committed files only. A crash leaves parts: those before the cursor are renamed at the next start, the one that
it names is cut to its length, later ones are deleted. Everything here blocks; errors are streamd's own.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field

from streamd.component.fields import ByteSize, Duration
from streamd.component.model import Model
from streamd.errors import FatalError, TransientError
from streamd.transport.files.compression import Compression, compressed
from streamd.transport.files.failures import translated
from streamd.transport.files.output import AppendedFile, sync_folder


class Rotate(Model):
    """When a file is full; what comes first counts. The last file is closed when its task stops."""

    size: ByteSize | None = Field(
        None, ge=1, description="Bytes on disk, passed by the last batch that went in.", examples=["64MiB"]
    )
    records: int | None = Field(None, ge=1, description="Records, exactly.", examples=[100_000])
    every: Duration | None = Field(
        None, gt=0, description="Age, looked at when a checkpoint has something to write.", examples=["1h"]
    )


class RotatedOutput:
    """As `output.Output`, over many files. `path` names them all; the number goes before the first dot of its name."""

    def __init__(self, path: Path, compression: Compression, rotate: Rotate, header: bytes = b"") -> None:
        self._path = path
        self._compression = compression
        self._rotate = rotate
        self.header = header
        self.pack: Callable[[list[bytes]], bytes] = b"".join
        self._lock = -1
        self._file: AppendedFile | None = None
        self._sequence = 1
        self._records = 0
        self._started_ms = 0
        # Files before this number are committed; the length of the current one that is.
        self._committed = (1, 0)
        self._flushed = (1, 0)

    def open(self, cursor: Any) -> None:
        """Bring the folder to the state of the cursor (what `sync` gave, or None)."""
        with translated("write", self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            known = isinstance(cursor, dict) and cursor.get("path") == str(self._path)
            length = 0
            if known:
                self._sequence, length = cursor["sequence"], cursor["length"]
                self._records, self._started_ms = cursor["records"], cursor["started_ms"]
                for sequence in self._parts():
                    if sequence < self._sequence:
                        self._rename(sequence)
            else:
                self._sequence = max(self._finals(), default=0) + 1
            for sequence in self._parts():
                if sequence > self._sequence or not known:
                    self._part(sequence).unlink()
            if known and length and not self._part(self._sequence).exists() and self._final(self._sequence).exists():
                # It was closed when its task stopped.
                self._next_file()
                length = 0
        if length:
            self._current().cut(length)
        elif self._part(self._sequence).exists():
            self._current().cut(0)
        self._committed = self._flushed = (self._sequence, length)

    @property
    def empty(self) -> bool:
        """Whether nothing is in the current file yet."""
        return self._file is None or self._file.length == 0

    @property
    def current(self) -> AppendedFile | None:
        """The file that is being written; None when none is begun."""
        return self._file

    def write(self, lines: list[bytes]) -> None:
        """Append lines, sealing files as they get full; those written are removed from the list."""
        limit = self._rotate.records
        while lines:
            take = len(lines) if limit is None else min(len(lines), limit - self._records)
            data = self.pack(lines[:take])
            file = self._current()
            if file.length == 0:
                data = self.header + data
            file.append(compressed(data, self._compression))
            del lines[:take]
            self._records += take
            if self._records == limit or (self._rotate.size is not None and file.length >= self._rotate.size):
                self._seal()

    def sync(self, now_ms: int) -> dict[str, Any]:
        """Make everything durable, and give the cursor."""
        if self._file is not None and self._file.length:
            self._started_ms = self._started_ms or now_ms
            if self._rotate.every is not None and now_ms - self._started_ms >= self._rotate.every * 1000:
                self._seal()
            else:
                self._file.sync()
        with translated("write", self._path):
            sync_folder(self._path)
        length = self._file.length if self._file is not None else 0
        self._flushed = (self._sequence, length)
        return {
            "path": str(self._path),
            "sequence": self._sequence,
            "length": length,
            "records": self._records,
            "started_ms": self._started_ms,
        }

    def publish(self) -> None:
        """The cursor is committed: give the sealed files their names."""
        with translated("write", self._path):
            for sequence in range(self._committed[0], self._flushed[0]):
                self._rename(sequence)
        self._committed = self._flushed

    def close(self) -> None:
        """Close the files. The last one gets its name if nothing in it waits for a commit."""
        try:
            if self._file is not None:
                whole = (self._sequence, self._file.length) == self._committed and self._file.length > 0
                self._file.close()
                self._file = None
                if whole:
                    with translated("write", self._path):
                        self._rename(self._sequence)
        finally:
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    def _current(self) -> AppendedFile:
        if self._lock < 0:
            raise FatalError(f"{self._path} is not open")
        if self._file is None:
            self._file = AppendedFile(self._part(self._sequence))
        return self._file

    def _seal(self) -> None:
        file = self._current()
        file.sync()
        file.close()
        self._file = None
        self._next_file()

    def _next_file(self) -> None:
        self._sequence += 1
        self._records = 0
        self._started_ms = 0

    def _rename(self, sequence: int) -> None:
        part, final = self._part(sequence), self._final(sequence)
        if part.exists():
            if final.exists():
                raise FatalError(f"{final} is there already, and was not written by this task: move it away")
            part.rename(final)
            sync_folder(final)

    def _take_lock(self) -> None:
        """One writer at a time; the lock goes with the process."""
        lock = self._path.with_name(f".{self._path.name}.lock")
        self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            self._lock = -1
            raise TransientError(f"cannot write {self._path}: another task or process is writing it", 0.2) from None

    def _final(self, sequence: int) -> Path:
        stem, dot, ending = self._path.name.partition(".")
        return self._path.with_name(f"{stem}-{sequence:08d}{dot}{ending}")

    def _part(self, sequence: int) -> Path:
        final = self._final(sequence)
        return final.with_name(f".{final.name}.part")

    def _finals(self) -> list[int]:
        return self._numbers("", "")

    def _parts(self) -> list[int]:
        return self._numbers(r"\.", r"\.part")

    def _numbers(self, before: str, behind: str) -> list[int]:
        stem, dot, ending = self._path.name.partition(".")
        name = re.compile(f"{before}{re.escape(stem)}-(\\d{{8,}}){re.escape(dot + ending)}{behind}")
        found = (name.fullmatch(entry.name) for entry in os.scandir(self._path.parent))
        return sorted(int(match[1]) for match in found if match)

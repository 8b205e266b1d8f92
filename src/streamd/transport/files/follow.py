"""Follows a file that is being written, over rotation. Everything here blocks: call it in a thread, one call at a time.

Rotation by rename: the open file is read to its end, and left for the next one once another file has its name and
nothing came for `rotate_wait` seconds (its writer may not have noticed yet). Rotation by copy and truncate: when the
file has become shorter, or begins differently, its copy is searched among the siblings and read on from the same byte,
then the file itself from its beginning. Siblings are files beside it, named like it with a number or date behind.

A reader that starts again finds its file by inode and beginning, under its old name or among the siblings.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import structlog

from streamd.clock import Clock
from streamd.errors import PositionLostError
from streamd.transport.files.bounded import CHUNK_BYTES
from streamd.transport.files.lines import BEGINNING, Lines, NewCutter, Spot
from streamd.transport.files.place import FileIdentity, FilePlace, Head

log = structlog.get_logger(__name__)


class FollowedFile:
    """One name under which a writer appends lines, or blocks. Errors are OSError, and StreamdError.

    `new_cutter` makes a cutter that begins at a spot. `rotate_wait` in seconds. With `restart_when_lost` a file
    that cannot be found again is not an error: reading goes on with what is there. `from_end`: the first file begins
    with what is written from now on, which `after_last` tells of a descriptor.
    """

    ended = False

    def __init__(
        self,
        path: Path,
        new_cutter: NewCutter,
        place: FilePlace | None,
        clock: Clock,
        *,
        rotate_wait: float,
        restart_when_lost: bool,
        from_end: bool = False,
        after_last: Callable[[int], Spot] | None = None,
    ) -> None:
        self.path = path
        self._new_cutter = new_cutter
        self._cutter = new_cutter(BEGINNING, self.beginning)
        self._place = place
        self._clock = clock
        self._rotate_wait = rotate_wait
        self._restart_when_lost = restart_when_lost
        self._from_end = from_end
        self._after_last = after_last or _after_last_line
        self._descriptor = -1
        self._identity = FileIdentity(path, 0, Head())
        self._read_at = 0
        self._size = 0
        self._quiet_since = 0.0

    def step(self) -> tuple[Lines, FileIdentity] | None:
        """The next lines, possibly none, and the file they are from; None when nothing new is there at the moment."""
        if self._descriptor < 0 and not self._open_first():
            return None
        if self._cutter.waiting:
            return self._cutter.feed(b""), self._identity
        data = os.pread(self._descriptor, CHUNK_BYTES, self._read_at)
        status = os.fstat(self._descriptor)
        self._size = status.st_size
        head = self._identity.head
        if status.st_size < self._read_at or (data and not head.still_there(self._descriptor)):
            return self._was_truncated()
        if not data:
            return self._at_end(status)
        self._quiet_since = self._clock.monotonic()
        head.extend(self._descriptor)
        self._read_at += len(data)
        return self._cutter.feed(data), self._identity

    def beginning(self, size: int) -> bytes:
        """The first bytes of the current file."""
        return os.pread(self._descriptor, size, 0)

    def left(self) -> int:
        """Bytes written and not yet read."""
        return max(0, self._size - self._read_at)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _begin(self, descriptor: int, spot: Spot) -> None:
        """Read this file on from here."""
        self.close()
        status = os.fstat(descriptor)
        head = Head()
        head.extend(descriptor)
        self._identity = FileIdentity(self.path, status.st_ino, head)
        self._descriptor, self._size = descriptor, status.st_size
        self._read_at = spot[0]
        self._cutter = self._new_cutter(spot, self.beginning)
        self._quiet_since = self._clock.monotonic()
        self._place = None

    # Finding the file.

    def _open_first(self) -> bool:
        if self._place is not None and (self._place.offset or self._place.inode):
            return self._open_again(self._place)
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        self._begin(descriptor, self._after_last(descriptor) if self._from_end and self._place is None else BEGINNING)
        return True

    def _open_again(self, place: FilePlace) -> bool:
        """Open the file of the last checkpoint, whatever its name is now."""
        found = self._find(lambda fd, status: status.st_ino == place.inode and _holds(fd, status, place))
        if found is None and place.head_size:
            # Copied and truncated meanwhile: the copy has another inode.
            found = self._find(
                lambda fd, status: status.st_ino != place.inode and _holds(fd, status, place), copies=True
            )
        if found is not None:
            self._begin(found, place.spot)
            return True
        if place.offset and not self._restart_when_lost:
            raise PositionLostError(
                f"{self.path}: the file that was read up to byte {place.offset} is gone, and so is what came after; "
                "on_position_lost: restart goes on with the file that is there"
            )
        log.warning("a followed file is gone, reading goes on with its successor", path=str(self.path))
        self._place = None
        self._from_end = False
        return self._open_first()

    def _find(self, matches: Callable[[int, os.stat_result], bool], *, copies: bool = False) -> int | None:
        """An open descriptor of the first file that matches: of the name itself, then of its siblings, newest first."""
        names = [] if copies else [self.path]
        for candidate in (*names, *reversed(self._siblings())):
            try:
                descriptor = os.open(candidate, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            if matches(descriptor, os.fstat(descriptor)):
                return descriptor
            os.close(descriptor)
        return None

    def _siblings(self) -> list[Path]:
        """The rotated files that belong to the name, oldest first."""
        rotated = re.compile(re.escape(self.path.name) + r"[.-]\d[\dT:_.-]*")
        with os.scandir(self.path.parent) as entries:
            found = [
                (entry.stat().st_mtime_ns, Path(entry.path))
                for entry in entries
                if rotated.fullmatch(entry.name) and entry.is_file()
            ]
        return [path for _, path in sorted(found)]

    # Leaving the file.

    def _at_end(self, status: os.stat_result) -> tuple[Lines, FileIdentity] | None:
        """Nothing more to read: has another file taken the name?"""
        try:
            named = self.path.stat()
        except FileNotFoundError:
            return None
        if (named.st_ino, named.st_dev) == (status.st_ino, status.st_dev):
            return None
        if self._clock.monotonic() - self._quiet_since < self._rotate_wait:
            return None
        descriptor = self._successor(status)
        if descriptor is None:
            return None
        last = self._cutter.finish()
        if last.values:
            os.close(descriptor)
            return last, self._identity
        self._begin(descriptor, BEGINNING)
        return Lines(), self._identity

    def _successor(self, status: os.stat_result) -> int | None:
        """The file written next after this one: an older sibling when there were several rotations, else the name."""
        for candidate in (*self._siblings(), self.path):
            try:
                descriptor = os.open(candidate, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            other = os.fstat(descriptor)
            if other.st_ino != status.st_ino and (candidate == self.path or other.st_mtime_ns > status.st_mtime_ns):
                return descriptor
            os.close(descriptor)
        return None

    def _was_truncated(self) -> tuple[Lines, FileIdentity]:
        """Go on in the copy, if there is one; then, or at once, in the file from its beginning."""
        place = self._identity.place_at(self._cutter.spot)
        if place.head_size:
            copy = self._find(
                lambda fd, status: status.st_ino != place.inode and _holds(fd, status, place), copies=True
            )
            if copy is not None:
                self._begin(copy, place.spot)
                return self._cutter.feed(b""), self._identity
        last = self._cutter.finish()
        if last.values:
            return last, self._identity
        log.warning("a followed file was truncated, reading goes on at its beginning", path=str(self.path))
        self._begin(os.dup(self._descriptor), BEGINNING)
        return Lines(), self._identity


def _holds(descriptor: int, status: os.stat_result, place: FilePlace) -> bool:
    """Whether the open file has what was read, and where to go on."""
    return status.st_size >= place.offset and place.has_head_of(descriptor)


def _after_last_line(descriptor: int) -> Spot:
    """Behind the last line end."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - CHUNK_BYTES)
        at = os.pread(descriptor, end - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1, 0, 0
        end = start
    return BEGINNING

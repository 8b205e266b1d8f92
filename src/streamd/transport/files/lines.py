"""Bytes to lines, in chunks, with the place of each. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Protocol, TypeAlias

from streamd.codecs import Undecodable

_BOM = b"\xef\xbb\xbf"

# So much of a line that is too long is kept for a dead letter: one that any transport takes.
KEPT_BYTES = 64 * 1024


# A place in a file: a byte; in files of blocks that of a block, then the index of a record in it, and that record's
# number in the file. Of lines and frames these two are 0.
Spot: TypeAlias = tuple[int, int, int]
BEGINNING: Spot = (0, 0, 0)


@dataclass(slots=True)
class Lines:
    """Lines as found: `starts` are the bytes at which they begin, `end` is where to go on after the last of them."""

    starts: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    end: int = 0

    def spot(self, taken: int) -> Spot:
        """Where to go on after so many of the values."""
        return (self.end if taken >= len(self.values) else self.starts[taken]), 0, 0


class Cutter(Protocol):
    """What cuts a file's bytes: a `LineCutter`, a `FrameCutter` of frames.py, or a `BlockCutter` of blocks.py.

    `spot` is where to go on after all that was given; `waiting`: `feed(b"")` may give more of what it has.
    """

    @property
    def waiting(self) -> bool: ...
    @property
    def spot(self) -> Spot: ...
    def feed(self, data: bytes) -> Lines: ...
    def finish(self) -> Lines: ...


# Of a spot, and of what gives a file's first bytes, a cutter that begins there.
NewCutter: TypeAlias = Callable[[Spot, Callable[[int], bytes]], Cutter]


class LineCutter:
    """Cuts a stream of bytes that begins at byte `offset` into lines without their line ends ("\\n" or "\\r\\n").

    What has no line end yet is kept for the next `feed`, up to `max_bytes`: a longer line becomes Undecodable with its
    first KEPT_BYTES, and its rest is thrown away as it comes. With `quoted` a line end between double quotes is part of
    the line (CSV). Lines of white space alone are left out unless `keep_blank`.
    """

    waiting = False

    def __init__(self, offset: int, max_bytes: int, *, quoted: bool = False, keep_blank: bool = False) -> None:
        self._offset = offset
        self._max_bytes = max_bytes
        self._quoted = quoted
        self._keep_blank = keep_blank
        self._rest = b""
        # Where the line began whose rest is being thrown away; None when none is.
        self._skipping_from: int | None = None
        self._skipped_start = b""
        # Of that line, what is not counted: a mark before it, and a "\r" that may belong to its end.
        self._skipped_mark = 0
        self._skipped_return = False

    @property
    def offset(self) -> int:
        """Where the first line begins that was not given yet."""
        return self._offset if self._skipping_from is None else self._skipping_from

    @property
    def spot(self) -> Spot:
        """The same as a spot."""
        return self.offset, 0, 0

    def feed(self, data: bytes) -> Lines:
        """The lines that are complete with these bytes."""
        found = Lines()
        if self._skipping_from is not None:
            data = self._skip(data, found)
        data = self._rest + data if self._rest else data
        lines = data.split(b"\n")
        self._rest = lines.pop()
        if lines:
            self._take(lines, found)
        if len(self._rest) > self._max_bytes and self._size(self._rest) > self._max_bytes:
            self._cut_off(found)
        found.end = self.offset
        return found

    def finish(self) -> Lines:
        """What is left when no more bytes will come: a last line without line end."""
        found = Lines()
        if self._skipping_from is not None:
            self._skipped(0, found)
        elif self._rest:
            quoted, self._quoted = self._quoted, False
            if quoted and self._rest.count(b'"') % 2:
                found.starts.append(self._offset)
                found.values.append(Undecodable("the file ends inside double quotes", self._rest))
                self._offset += len(self._rest)
            else:
                self._append([self._rest], [self._offset], found)
                self._offset += len(self._rest)
            self._quoted = quoted
        self._rest = b""
        found.end = self._offset
        return found

    def _take(self, lines: list[bytes], found: Lines) -> None:
        """Place complete lines; with quotes, those that belong together become one."""
        if self._quoted and any(b'"' in line for line in lines):
            lines = self._joined(lines)
            if not lines:
                return
        starts = list(accumulate((len(line) + 1 for line in lines), initial=self._offset))
        self._offset = starts.pop()
        self._append(lines, starts, found)

    def _joined(self, lines: list[bytes]) -> list[bytes]:
        """Join lines from where a quote opens to where it closes; what is still open goes back to the rest."""
        joined: list[bytes] = []
        at, count = 0, len(lines)
        while at < count:
            line = lines[at]
            if not line.count(b'"') % 2:
                joined.append(line)
                at += 1
                continue
            size, to, is_open = len(line), at + 1, True
            while to < count and is_open and size <= self._max_bytes:
                size += len(lines[to]) + 1
                is_open = not lines[to].count(b'"') % 2
                to += 1
            if not is_open:
                joined.append(b"\n".join(lines[at:to]))
            elif size + len(self._rest) <= self._max_bytes:
                self._rest = b"\n".join((*lines[at:], self._rest))
                return joined
            else:
                # A quote that nobody closes must not take the rest of the file with it: only its line is lost.
                joined.append(line)
                to = at + 1
            at = to
        return joined

    def _append(self, lines: list[bytes], starts: list[int], found: Lines) -> None:
        if starts[0] == 0 and lines[0].startswith(_BOM):
            lines[0] = lines[0][len(_BOM) :]
        if any(line.endswith(b"\r") for line in lines):
            lines = [line[:-1] if line.endswith(b"\r") else line for line in lines]
        if max(map(len, lines)) > self._max_bytes:
            for line, start in zip(lines, starts, strict=True):
                if len(line) > self._max_bytes:
                    self._too_long(start, line, len(line), found)
                else:
                    self._append([line], [start], found)
            return
        if not self._keep_blank and any(not line or line.isspace() for line in lines):
            kept = [(line, start) for line, start in zip(lines, starts, strict=True) if line and not line.isspace()]
            lines, starts = [line for line, _ in kept], [start for _, start in kept]
        found.values += lines
        found.starts += starts

    def _cut_off(self, found: Lines) -> None:
        """The rest is too long already and has no end yet."""
        if self._quoted and b"\n" in self._rest:
            first, _, rest = self._rest.partition(b"\n")
            self._append([first], [self._offset], found)
            self._offset += len(first) + 1
            self._rest = b""
            again = self.feed(rest)
            found.starts += again.starts
            found.values += again.values
            return
        self._skipped_mark = self._mark(self._rest)
        self._skipped_return = self._rest.endswith(b"\r")
        self._skipping_from = self._offset
        self._skipped_start = self._rest[self._skipped_mark : self._skipped_mark + KEPT_BYTES]
        self._offset += len(self._rest)
        self._rest = b""

    def _mark(self, line: bytes) -> int:
        """How many bytes of a line are the byte order mark of a file."""
        return len(_BOM) if self._offset == 0 and line.startswith(_BOM) else 0

    def _size(self, line: bytes) -> int:
        """How long a line is that has no end yet, if that comes next."""
        return len(line) - self._mark(line) - line.endswith(b"\r")

    def _skip(self, data: bytes, found: Lines) -> bytes:
        """Throw away up to the line's end; gives what comes behind it."""
        at = data.find(b"\n")
        skipped = data if at < 0 else data[:at]
        if skipped:
            self._skipped_return = skipped.endswith(b"\r")
        self._offset += len(skipped)
        if at < 0:
            return b""
        self._skipped(1, found)
        return data[at + 1 :]

    def _skipped(self, line_end: int, found: Lines) -> None:
        """The line that was thrown away is over."""
        assert self._skipping_from is not None
        size = self._offset - self._skipping_from - self._skipped_mark - self._skipped_return
        self._too_long(self._skipping_from, self._skipped_start, size, found)
        self._skipping_from = None
        self._offset += line_end

    def _too_long(self, start: int, beginning: bytes, size: int, found: Lines) -> None:
        found.starts.append(start)
        found.values.append(too_long(beginning, size, self._max_bytes))


def too_long(beginning: bytes, size: int, max_bytes: int) -> Undecodable:
    """What stands for a record of more bytes than are allowed."""
    kept = beginning[: min(KEPT_BYTES, max_bytes)]
    reason = (
        f"the record has more than {max_bytes} bytes (max_record_bytes): it has {size}, of which the first "
        f"{len(kept)} are kept"
    )
    return Undecodable(reason, kept, cut=True)

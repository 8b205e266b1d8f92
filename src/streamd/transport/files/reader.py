"""Records from the lines of a file, bounded or followed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from streamd.clock import Clock
from streamd.codecs import Undecodable
from streamd.codecs.csv import ColumnType, RowReader, parse_header
from streamd.errors import FatalError
from streamd.record import SourceRecord
from streamd.transport.files.failures import translated
from streamd.transport.files.lines import LineCutter, Lines
from streamd.transport.files.place import FileIdentity, FilePlace
from streamd.transport.files.stepper import Stepper

# How often a followed file is looked at while nothing comes, in seconds: the latency of a line at most.
POLL_INTERVAL = 0.025


class LineFile(Protocol):
    """A `BoundedFile` or a `FollowedFile`."""

    path: Path

    @property
    def ended(self) -> bool: ...
    def step(self) -> tuple[Lines, FileIdentity] | None: ...
    def beginning(self, size: int) -> bytes: ...
    def left(self) -> int: ...
    def close(self) -> None: ...


class Rows:
    """Makes the lines of a CSV file documents. Without `columns` each file's first line names them."""

    def __init__(
        self, columns: Sequence[str] | None, types: Mapping[str, ColumnType], delimiter: str, max_bytes: int
    ) -> None:
        self._types = types
        self._delimiter = delimiter
        self._max_bytes = max_bytes
        self._fixed = columns is not None
        self._rows = RowReader(columns or (), types, delimiter)
        self._known_of: FileIdentity | None = None

    def convert(self, lines: Lines, identity: FileIdentity, file: LineFile) -> None:
        """Put documents in place of the lines. Raises FatalError when the header is of no use."""
        if not lines.values:
            return
        if not self._fixed and self._known_of is not identity:
            self._read_header(lines, file)
            self._known_of = identity
        rows = [value for value in lines.values if value.__class__ is bytes]
        if len(rows) == len(lines.values):
            lines.values = self._rows.documents(rows)
            return
        documents = iter(self._rows.documents(rows))
        lines.values = [v if isinstance(v, Undecodable) else next(documents) for v in lines.values]

    def _read_header(self, lines: Lines, file: LineFile) -> None:
        if lines.starts[0] == 0:
            del lines.starts[0]
            header = lines.values.pop(0)
        else:
            header = self._first_row(file)
        columns = parse_header(header, self._delimiter) if isinstance(header, bytes) else ()
        unknown = [name for name in self._types if name not in columns]
        if not columns or len(set(columns)) != len(columns):
            raise FatalError(
                f"the first row of {file.path} does not name its columns, each once and not empty; without such a row "
                "give `columns`"
            )
        if unknown:
            raise FatalError(f"`types` names columns that {file.path} does not have: {', '.join(unknown)}")
        self._rows = RowReader(columns, self._types, self._delimiter)

    def _first_row(self, file: LineFile) -> bytes | Undecodable:
        cutter = LineCutter(0, self._max_bytes, quoted=True)
        found = cutter.feed(file.beginning(self._max_bytes + 2))
        return found.values[0] if found.values and found.starts[0] == 0 else Undecodable("the header has no end")


class FileReader:
    """A `Reader` (component/source.py) over one file. `place` is where it begins."""

    def __init__(self, file: LineFile, rows: Rows | None, place: FilePlace, clock: Clock) -> None:
        self._file = file
        self._rows = rows
        self._clock = clock
        self._steps = Stepper(self._step)
        self._place = place
        self._records: list[SourceRecord] = []
        self._taken = 0
        self._lines = Lines()
        self._identity: FileIdentity | None = None
        self._ended = place.ended

    async def read(self, max_records: int, timeout: float) -> Sequence[SourceRecord]:
        """See `Reader.read`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while self._taken >= len(self._records):
            if self._ended:
                return []
            found = await self._steps.next()
            if found is not None:
                self._records, self._lines, self._identity, self._ended = found
                self._taken = 0
            elif not self._ended:
                left = deadline - loop.time()
                if left <= 0:
                    return []
                await asyncio.sleep(min(POLL_INTERVAL, left))
        records = self._records[self._taken : self._taken + max_records]
        self._taken += len(records)
        return records

    def _step(self) -> tuple[list[SourceRecord], Lines, FileIdentity, bool] | None:
        """In a thread: the next lines as records."""
        with translated("read", self._file.path):
            step = self._file.step()
            if step is None:
                return None
            lines, identity = step
            if self._rows is not None:
                self._rows.convert(lines, identity, self._file)
        now = self._clock.now_ms()
        records = [
            SourceRecord(None, value, now, start) for start, value in zip(lines.starts, lines.values, strict=True)
        ]
        return records, lines, identity, self._file.ended

    def position(self) -> dict[str, Any]:
        """The place behind the last record returned: a JSON object."""
        if self._identity is None:
            return self._place.as_position()
        return self._identity.place_at(self._lines.spot(self._taken), ended=self.ended).as_position()

    def lag(self) -> int:
        """Bytes known to be there and not yet returned."""
        waiting = 0 if self._taken >= len(self._records) else self._lines.end - self._lines.spot(self._taken)[0]
        return waiting + self._file.left()

    @property
    def ended(self) -> bool:
        """True when a bounded file has been returned to its end."""
        return self._ended and self._taken >= len(self._records)

    async def close(self) -> None:
        """Close the file, once no step is using it."""
        await self._steps.settle()
        self._file.close()


class MissingFile:
    """Stands for a file that was read to its end and is no longer there."""

    ended = True

    def __init__(self, path: Path) -> None:
        self.path = path

    def step(self) -> tuple[Lines, FileIdentity] | None:
        """Nothing."""
        return None

    def beginning(self, size: int) -> bytes:
        """Nothing."""
        return b""

    def left(self) -> int:
        """Nothing."""
        return 0

    def close(self) -> None:
        """Nothing."""

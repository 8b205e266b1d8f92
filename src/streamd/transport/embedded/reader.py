"""Reads one partition of the embedded log."""

from __future__ import annotations

from collections.abc import Sequence

from streamd.errors import PositionLostError
from streamd.transport.embedded.log import EmbeddedLog, Stream
from streamd.transport.embedded.records import LogRecord

# Read ahead of the task at most (a last batch may go above it).
FETCH_BYTES = 1024 * 1024


class LogReader:
    """A `Reader` (component/source.py); the position is the offset of the next record."""

    def __init__(self, log: EmbeddedLog, stream: Stream, offset: int) -> None:
        self._log = log
        self._stream = stream
        self._offset = offset
        self._ahead: list[LogRecord] = []
        self._taken = 0

    async def read(self, max_records: int, timeout: float) -> Sequence[LogRecord]:
        """See `Reader.read`. A cancelled call has moved nothing: only what is returned counts as read."""
        if self._taken >= len(self._ahead):
            await self._fetch(max_records, timeout)
        ahead, taken = self._ahead, self._taken
        if taken == 0 and len(ahead) <= max_records:
            records, self._ahead = ahead, []
        else:
            records = ahead[taken : taken + max_records]
            self._taken = taken + len(records)
        if records:
            self._offset = records[-1].offset + 1
        return records

    async def _fetch(self, max_records: int, timeout: float) -> None:
        self._ahead, self._taken = [], 0
        stream, offset = self._stream, self._offset
        if not await self._log.wait(stream.id, offset, timeout):
            return
        records = await self._log.fetch(stream.id, offset, max_records, FETCH_BYTES)
        if records and records[0].offset > offset:
            raise PositionLostError(
                f"topic {stream.topic!r} partition {stream.partition}: the record at offset {offset} is gone, what "
                f"retention has left starts at {records[0].offset}"
            )
        self._ahead = records

    def position(self) -> int:
        """Offset of the next record to be returned."""
        return self._offset

    def lag(self) -> int:
        """Records in the log, as last seen, that `read` has not returned."""
        return max(0, self._log.end(self._stream.id) - self._offset)

    @property
    def ended(self) -> bool:
        """A log has no end."""
        return False

    async def close(self) -> None:
        """Let go of the log."""
        await self._log.release()

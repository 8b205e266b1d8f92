"""Reads one partition of an exchange: what senders tell stays here, records go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from streamd.clock import Clock
from streamd.component.source import Reader
from streamd.errors import FatalError
from streamd.exchange.control import Control, Told, control_in
from streamd.record import BEGINNING, END, Position, RawRecord

# So many control records since the last commit are worth one: who starts anew reads them again.
MANY: Final = 500
# Seconds between two times that what was read is deleted.
PURGE_INTERVAL: Final = 30.0


class ExchangeReader:
    """A `Reader` (component/source.py) over another one.

    `watermark` is what the senders of all records returned so far, and of those of the next `read` up to the next
    change, allow (ms). Batches end where it changes: so each record is judged by what was told before it, whatever the
    batches are. `run`: names the run of the node; `purge(position)`: deletes what lies before, in the background.
    """

    def __init__(self, reader: Reader, run: str, clock: Clock, purge: Callable[[Position], None]) -> None:
        self._reader, self._run, self._clock, self._purge = reader, run, clock, purge
        self._told = Told()
        self._idle_since: float | None = None
        self._ahead: Sequence[RawRecord] = ()
        self._at = 0
        # Where control records are in `_ahead`, and what they say, the next one last.
        self._marks: list[tuple[int, Control]] = []
        self._controls = 0
        self._purged = clock.monotonic()

    async def read(self, max_records: int, timeout: float) -> Sequence[RawRecord]:
        """As `Reader.read`; empty as well when there was news of the senders, and nothing else."""
        if self._at >= len(self._ahead):
            ahead = await self._reader.read(max_records, timeout)
            self._marks = _controls_in(ahead)
            if not self._marks:
                return ahead
            self._ahead, self._at = ahead, 0
        return self._next(max_records)

    def _next(self, most: int) -> list[RawRecord]:
        ahead, records = self._ahead, list[RawRecord]()
        while self._at < len(ahead) and len(records) < most:
            mark, control = self._marks[-1] if self._marks else (len(ahead), None)
            if control is None or self._at < mark:
                end = min(mark, self._at + most - len(records))
                records += ahead[self._at : end]
                self._at = end
                continue
            if records and self._told.moves(control):
                break
            self._hear(control)
            self._marks.pop()
            self._at += 1
        return records

    def _hear(self, control: Control) -> None:
        self._told.hear(control)
        self._controls += 1
        if not self._told.idle:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = self._clock.monotonic()

    @property
    def watermark(self) -> int:
        """Before which nothing more comes. When all senders are idle it goes on with the wall clock."""
        told = self._told.watermark
        if self._idle_since is None or told in (BEGINNING, END):
            return told
        return told + round(1000 * (self._clock.monotonic() - self._idle_since))

    @property
    def watermark_before(self) -> int:
        """The watermark by which the records of the last `read` are judged."""
        return self._told.watermark

    @property
    def idle(self) -> bool:
        """All senders have nothing to give for now."""
        return self._told.idle

    @property
    def overdue(self) -> bool:
        """Whether the position should be committed though no record has come."""
        return self._controls >= MANY

    def cursor(self) -> Any:
        """What is to be kept beside the position: what the senders told up to there."""
        return self._told.state(self._run)

    def recall(self, cursor: Any) -> None:
        """Go on with what `cursor` gave, None where there is nothing."""
        if cursor is not None:
            self._told.load(cursor, self._run)
            self._idle_since = self._clock.monotonic() if self._told.idle else None

    def committed(self, position: Position) -> None:
        """What lies before the position is not read again."""
        self._controls = 0
        if self._clock.monotonic() - self._purged >= PURGE_INTERVAL:
            self._purged = self._clock.monotonic()
            self._purge(position)

    def position(self) -> Position:
        """Where to go on."""
        return self._ahead[self._at].offset if self._at < len(self._ahead) else self._reader.position()

    def lag(self) -> int | None:
        """As the reader's own, and what lies here."""
        lag = self._reader.lag()
        return None if lag is None else lag + len(self._ahead) - self._at

    @property
    def stale(self) -> bool:
        """As the reader's own."""
        return bool(getattr(self._reader, "stale", False))

    @property
    def unstable(self) -> tuple[int, float]:
        """As the reader's own."""
        return getattr(self._reader, "unstable", (0, 0.0))

    @property
    def ended(self) -> bool:
        """All senders are over, and all that they gave was read."""
        return self._told.over and self.lag() == 0 and not self.stale

    async def close(self) -> None:
        """Release everything."""
        await self._reader.close()


def _controls_in(records: Sequence[RawRecord]) -> list[tuple[int, Control]]:
    """(where, what) of the control records, from the last to the first."""
    found: list[tuple[int, Control]] = []
    # Value first: of all things a user's record has one.
    for at in [at for at, record in enumerate(records) if record.value is None]:
        try:
            control = control_in(records[at])
        except msgspec.DecodeError as error:
            place = f"at offset {records[at].offset}"
            raise FatalError(f"An exchange has a control record {place} that nobody has written: {error}.") from None
        if control is not None:
            found.append((at, control))
    found.reverse()
    return found

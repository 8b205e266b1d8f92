"""The contract of a source. A class per source in `sources/NAME.py`; the engine wraps it with metrics and retries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from streamd.record import Position, RawRecord


class Reader(Protocol):
    """One partition of a source, read by one task."""

    async def read(self, max_records: int, timeout: float) -> Sequence[RawRecord]:
        """The next records, in order; empty when none came within `timeout` seconds, or at once when `ended`.

        Called by one coroutine at a time. After a cancel nothing is lost: the same records come from the next call.
        The list is the caller's. Memory held ahead of the caller is bounded. Raises TransientError (the engine calls
        again after back-off), FatalError, PositionLostError.
        """

    def position(self) -> Position:
        """Where to go on after the last record that `read` returned. Valid before the first read as well."""

    def lag(self) -> int | None:
        """Records (bytes, for files) known to be there and not yet returned; 0 when caught up; None when unknowable.

        A reader may have a property `stale`: True while this is old news, since its server cannot be asked.
        """

    @property
    def ended(self) -> bool:
        """True once a bounded source has given everything. A source without end never says so."""

    async def close(self) -> None:
        """Release everything. Called once, also after an error; never raises."""


class Source(Protocol):
    """A source of one pipeline, made as `Source(config, context)`. Nothing is touched before `prepare` or `partitions`.

    Class attributes, read by plan without making an instance, come from the component's `ComponentSpec`. A class may
    say `position_type`, the type of its readers' positions: ones of another type are then refused before `open`.
    One whose positions are ints may tell with `end(partition)` the position behind all that can be read now.
    """

    async def prepare(self) -> None:
        """Check that it can be read, create what may be created. Called by the supervisor before any task runs.

        Raises UnavailableError (tried again with back-off), NotFoundError, AccessDeniedError, FatalError.
        """

    async def partitions(self) -> int:
        """How many partitions there are, ≥ 1. Asked by the supervisor."""

    async def open(self, partition: int, position: Position | None, task: Any = None) -> Reader:
        """Open one partition to go on from `position`, or from the configured start when None. Called by the task."""

    async def close(self) -> None:
        """Release what the source itself holds (clients). Called once; never raises."""

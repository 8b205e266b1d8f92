"""Reads lines from standard input: a pipe, a redirected file, or a terminal. Ends where the input ends.

```yaml
source: {stdin: {format: json}}
```

Delivery: not replayable: what was read and not committed when the process stops is gone. Use a file or a log where that
matters.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from streamd.clock import Clock
from streamd.codecs import JSON, LineFormat
from streamd.component.context import PipelineContext
from streamd.component.event_time import EventTimeField
from streamd.component.fields import ByteSize
from streamd.component.model import Model
from streamd.component.source import Reader
from streamd.component.spec import source
from streamd.errors import FatalError
from streamd.record import Position, SourceRecord
from streamd.transport.files.lines import LineCutter
from streamd.transport.files.stepper import Stepper

_CHUNK_BYTES = 64 * 1024

# How long the thread waits for input before it looks whether someone still wants it, in seconds.
_LOOK = 0.05


class StdinConfig(Model):
    """Settings of the stdin source."""

    format: LineFormat = Field(
        JSON, description="What a line is: json (or ndjson), csv (without header), or text.", examples=["text"]
    )
    max_record_bytes: ByteSize = Field(
        1024 * 1024, ge=1, description="A longer line is an error record; its bytes are not read.", examples=["4MiB"]
    )
    event_time: EventTimeField | None = Field(
        None,
        description="The field with the record's time, or {field, out_of_order, idle, max_future}; without it the time "
        "of reading.",
        examples=["ts"],
    )


@source("stdin", config=StdinConfig, replayable=False, bounded=lambda config: True, single=lambda config: True)
class StdinSource:
    """Standard input, as one partition."""

    position_type = int

    def __init__(self, config: StdinConfig, context: PipelineContext, descriptor: int = 0) -> None:
        self._config = config
        self._context = context
        self._descriptor = descriptor

    async def prepare(self) -> None:
        """Check that there is a standard input."""
        try:
            os.fstat(self._descriptor)
        except OSError:
            raise FatalError("cannot read standard input: it is closed") from None

    async def partitions(self) -> int:
        """One."""
        return 1

    async def open(self, partition: int, position: Position | None, task: Any = None) -> Reader:
        """Read what comes. `position` only says how much was read before."""
        read_before = position if isinstance(position, int) else 0
        return _StdinReader(self._config, self._context.clock, self._descriptor, read_before)

    async def close(self) -> None:
        """Standard input stays open."""


class _StdinReader:
    """Lines from a descriptor, read in a thread that never waits long."""

    def __init__(self, config: StdinConfig, clock: Clock, descriptor: int, offset: int) -> None:
        self._descriptor = descriptor
        self._clock = clock
        keep_blank = config.format == "text"
        # Byte 0 of this process's input: what was read before a restart is not there any more.
        self._cutter = LineCutter(0, config.max_record_bytes, quoted=config.format == "csv", keep_blank=keep_blank)
        self._steps = Stepper(self._step)
        self._base = offset
        self._end = 0
        self._records: list[SourceRecord] = []
        self._taken = 0
        self._at_end = False
        self._quiet = False

    async def read(self, max_records: int, timeout: float) -> Sequence[SourceRecord]:
        """See `Reader.read`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while self._taken >= len(self._records):
            if self._at_end:
                return []
            found = await self._steps.next()
            if found is not None:
                self._records, self._end, self._at_end = found
                self._taken = 0
            self._quiet = found is None
            if found is None and loop.time() >= deadline:
                return []
        records = self._records[self._taken : self._taken + max_records]
        self._taken += len(records)
        return records

    def _step(self) -> tuple[list[SourceRecord], int, bool] | None:
        """In a thread: the next lines, the byte behind them, and whether they are the last; None when none came."""
        try:
            if not select.select((self._descriptor,), (), (), _LOOK)[0]:
                return None
            data = os.read(self._descriptor, _CHUNK_BYTES)
        except BlockingIOError:
            return None
        except (OSError, ValueError) as error:
            raise FatalError(f"cannot read standard input: {error}") from None
        lines = self._cutter.feed(data) if data else self._cutter.finish()
        now = self._clock.now_ms()
        records = [
            SourceRecord(None, value, now, self._base + start)
            for start, value in zip(lines.starts, lines.values, strict=True)
        ]
        return records, lines.end, not data

    def position(self) -> int:
        """Bytes read so far, over all starts. Nobody can go back there."""
        if self._taken < len(self._records):
            return self._records[self._taken].offset
        return self._base + self._end

    def lag(self) -> int | None:
        """0 when nothing was there at the last look; how much waits in a pipe cannot be known."""
        return 0 if self._quiet and self._taken >= len(self._records) else None

    @property
    def ended(self) -> bool:
        """True when the input has ended and all of it was returned."""
        return self._at_end and self._taken >= len(self._records)

    async def close(self) -> None:
        """Wait until the thread lets go of the descriptor: a twentieth of a second."""
        await self._steps.settle()

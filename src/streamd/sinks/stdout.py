"""Writes records to standard output, one a line: for looking, and for pipes.

`json` is one object a line, `pretty` is indented, `text` is the field `text`, and a text with a line end in it is
refused, as it is by files. Lines of several tasks do not
mix. A reader that goes away (`streamd run … | head`) stops the pipeline with a clear error.

```yaml
sink: {stdout: {format: pretty}}
```

Delivery: at least once: after a crash lines since the last checkpoint come again.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import select
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from streamd.codecs import JSON, ShownFormat
from streamd.codecs.lines import json_line, text_line
from streamd.component.context import PipelineContext, TaskContext
from streamd.component.model import Model
from streamd.component.sink import Writer
from streamd.component.spec import sink
from streamd.errors import FatalError, LoadError, TransientError
from streamd.record import Row
from streamd.transport.batching import Batch, Collected

# A pipe takes this much without blocking whenever it is reported writable (PIPE_BUF): so a stalled reader never holds
# the thread, and nothing of another process comes in between.
_PIECE = 4096

# How often a waiting thread looks whether it is to end, in seconds.
_LOOK = 0.1


class StdoutConfig(Model):
    """Settings of the stdout sink."""

    format: ShownFormat = Field(
        JSON,
        description="What a record looks like: json, pretty (JSON over several lines), or text.",
        examples=["pretty"],
    )
    batch: Batch = Field(
        Batch(max_bytes=64 * 1024, max_wait=0.1),
        description="When to write between checkpoints.",
        examples=[{"max_wait": "1s"}],
    )


@sink("stdout", config=StdoutConfig, delivery="at least once")
class StdoutSink:
    """Standard output, shared by all tasks of all worker processes."""

    def __init__(self, config: StdoutConfig, context: PipelineContext, descriptor: int = 1) -> None:
        self._config = config
        self._context = context
        self._output = _SharedOutput(descriptor, context.state_dir / "stdout.lock")

    async def prepare(self) -> None:
        """Check that there is a standard output."""
        self._output.check()

    async def open(self, task: TaskContext, cursor: Any) -> Writer:
        """Write on; there is nothing to go back to."""
        return _StdoutWriter(self._config, self._context, self._output)

    async def close(self) -> None:
        """Standard output stays open."""


class _SharedOutput:
    """Whole batches of lines to one descriptor, under a lock that all processes of the app share. Blocks."""

    def __init__(self, descriptor: int, lock: Path) -> None:
        self._descriptor = descriptor
        self._lock = lock
        self._inside_line = False

    def check(self) -> None:
        """Raise FatalError when the descriptor is not open."""
        try:
            os.fstat(self._descriptor)
        except OSError as error:
            raise FatalError(f"cannot write to standard output: {error.strerror}") from None

    def write(self, lines: list[bytes], ending: threading.Event) -> None:
        """Write all lines, and take them from the list. Stops early, in mid-list, once `ending` is set."""
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not ending.is_set():
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    ending.wait(_LOOK / 10)
            else:
                return
            # An attempt that ended inside a line must not join it with the next one.
            data = (b"\n" if self._inside_line else b"") + b"".join(lines)
            if self._write(data, ending):
                lines.clear()
        finally:
            os.close(lock)

    def _write(self, data: bytes, ending: threading.Event) -> bool:
        view = memoryview(data)
        try:
            while view and not ending.is_set():
                if select.select((), (self._descriptor,), (), _LOOK)[1]:
                    written = os.write(self._descriptor, view[:_PIECE])
                    self._inside_line = view[written - 1] != ord("\n")
                    view = view[written:]
        except BlockingIOError:
            return self._write(bytes(view), ending)
        except BrokenPipeError:
            raise FatalError("standard output was closed by its reader: nothing more can be written") from None
        except OSError as error:
            kind = TransientError if error.errno == errno.ENOSPC else FatalError
            raise kind(f"cannot write to standard output: {error.strerror}") from None
        return not view


def _ended(value: bytes) -> bytes:
    return value + b"\n"


class _StdoutWriter:
    def __init__(self, config: StdoutConfig, context: PipelineContext, output: _SharedOutput) -> None:
        self._output = output
        self._line_of = {"json": json_line, "text": text_line}.get(str(config.format), _ended)
        self._waiting = Collected(config.batch, context.clock)
        self._moving: list[bytes] = []
        self._ending = threading.Event()
        self._running: asyncio.Future[None] | None = None

    def write(self, rows: Sequence[Row]) -> list[tuple[int, Exception]]:
        """Take lines. Refuses rows without value, and texts that are no line."""
        refused: list[tuple[int, Exception]] = []
        lines: list[bytes] = []
        line_of = self._line_of
        for index, row in enumerate(rows):
            value = row[1]
            if value is None:
                refused.append((index, LoadError("the record has no value (a tombstone), which has no text")))
                continue
            try:
                lines.append(line_of(value))
            except LoadError as error:
                refused.append((index, error))
        self._waiting.add(lines)
        return refused

    @property
    def backlog(self) -> int:
        """Bytes not yet written."""
        return self._waiting.size + sum(map(len, self._moving))

    async def drain(self) -> None:
        """Write when there is a batch."""
        if self._moving or self._waiting.due:
            await self._write_out()

    async def flush(self) -> Any:
        """Write everything. There is no cursor."""
        await self._write_out()

    async def committed(self) -> None:
        """Nothing was withheld."""

    async def close(self) -> None:
        """End the thread's write, if one is under way."""
        self._ending.set()
        if self._running is not None:
            await asyncio.wait((self._running,))
            self._running.exception()

    async def _write_out(self) -> None:
        self._moving += self._waiting.take()
        if self._moving:
            work = partial(self._output.write, self._moving, self._ending)
            self._running = asyncio.get_running_loop().run_in_executor(None, work)
            await asyncio.shield(self._running)
            self._running = None

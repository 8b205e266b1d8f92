"""Micro-batches of records that come one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self, TypeAlias

from streamd.pipeline.own import outcome

Handler: TypeAlias = Callable[[list[Any]], Any]


class StreamProcessor:
    """Micro-batches of records that come one by one: `on_batch` gets each batch of `batch_size` records, or what came
    within `window_seconds`, in order.

        async with StreamProcessor(batch_size=100, window_seconds=1.0, on_batch=store) as processor:
            await processor.ingest(record)

    `ingest` waits while a batch is full and the one before it is still being handled: memory holds two batches at most.
    An exception of `on_batch` is raised by the next `ingest`, which then has not taken its record, or by `flush` or
    `close`, which hand over everything first. Batches after the one that failed are handed over all the same.
    """

    def __init__(
        self,
        batch_size: int = 100,
        window_seconds: float = 1.0,
        on_batch: Handler | None = None,
    ) -> None:
        if batch_size < 1 or window_seconds <= 0:
            raise ValueError(f"expected batch_size ≥ 1 and window_seconds > 0, got {batch_size} and {window_seconds}")
        self.batch_size, self.window_seconds = batch_size, window_seconds
        self._handler = on_batch
        self._batch: list[Any] = []
        self._timer: asyncio.TimerHandle | None = None
        self._handling: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        # The window of what is in the batch is over: it goes on as soon as the one before it is handled.
        self._due = False

    @property
    def on_batch(self) -> Callable[[Handler], Handler]:
        """What is called with each batch, plain or async: `processor.on_batch = store`, or `@processor.on_batch` above
        the function.
        """
        return self._set

    @on_batch.setter
    def on_batch(self, handler: Handler) -> None:
        self._set(handler)

    def _set(self, handler: Handler) -> Handler:
        if not callable(handler):
            raise TypeError(f"on_batch: expected a function, got {type(handler).__name__}")
        self._handler = handler
        return handler

    async def ingest(self, record: Any) -> None:
        """Take one record; waits while there is no room. Raises what `on_batch` raised for an earlier batch."""
        if self._handler is None:
            raise RuntimeError("set on_batch before the first ingest")
        while len(self._batch) >= self.batch_size:
            await self._turn()
        self._raise()
        self._batch.append(record)
        if len(self._batch) >= self.batch_size:
            if self._handling is None:
                self._start()
        elif self._timer is None and not self._due:
            self._timer = asyncio.get_running_loop().call_later(self.window_seconds, self._window_over)

    async def flush(self) -> None:
        """Hand over what is there, and return when everything is handled. Raises the first error of `on_batch`."""
        while self._batch or self._handling is not None:
            await self._turn()
        self._raise()

    async def close(self) -> None:
        """Flush. The processor can be used again after it."""
        await self.flush()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def _window_over(self) -> None:
        self._timer = None
        self._due = True
        if self._handling is None:
            self._start()

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due = False
        batch, self._batch = self._batch, []
        self._handling = asyncio.get_running_loop().create_task(self._handle(batch))

    async def _handle(self, batch: list[Any]) -> None:
        assert self._handler is not None
        try:
            await outcome(self._handler(batch))
        except Exception as error:
            self._error = self._error or error
        finally:
            self._handling = None
        # What became due while this batch was under way.
        if self._due or len(self._batch) >= self.batch_size:
            self._start()

    async def _turn(self) -> None:
        """Wait for the batch under way, or begin with what is there."""
        if self._handling is None:
            self._start()
        elif not self._handling.done():
            await asyncio.wait((self._handling,))

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

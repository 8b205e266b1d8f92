"""Sources, sinks and stages of one's own: the classes to derive from, and how the engine sees their objects."""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from streamd.clock import SYSTEM_CLOCK
from streamd.component.context import TaskContext
from streamd.record import Position, RawRecord, Record, SourceRecord

Function = Callable[[Any], Any]


class DataSource(ABC):
    """A source of one's own."""

    @abstractmethod
    def read(self) -> AsyncIterator[Any]:
        """Async generator of records, in order. It is asked for the next one only as fast as the pipeline can
        follow.
        """


class DataSink(ABC):
    """A sink of one's own."""

    @abstractmethod
    async def write(self, record: Any) -> None:
        """Take one record. Records come in order, one at a time; an exception stops the pipeline (see `on_error`)."""

    async def close(self) -> None:  # noqa: B027 - most sinks hold nothing
        """Release what the sink holds. Called once, at the end."""


class PipelineStage(ABC):
    """A stage of one's own."""

    @abstractmethod
    async def process(self, record: Any) -> Any:
        """The record to pass on, a list of several, or None to leave it out."""


async def outcome(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def keep_where(keep: Function) -> Callable[[Any], Awaitable[list[Any]]]:
    async def process(value: Any) -> list[Any]:
        return [value] if await outcome(keep(value)) else []

    return process


def change_each(change: Function) -> Callable[[Any], Awaitable[list[Any]]]:
    async def process(value: Any) -> list[Any]:
        return [await outcome(change(value))]

    return process


def add_fields(look_up: Function) -> Callable[[Any], Awaitable[list[Any]]]:
    async def process(value: Any) -> list[Any]:
        found = await outcome(look_up(value))
        return [value if found is None else {**value, **found}]

    return process


def from_stage(stage: PipelineStage) -> Callable[[Any], Awaitable[list[Any]]]:
    async def process(value: Any) -> list[Any]:
        result = await stage.process(value)
        if result is None:
            return []
        return result if isinstance(result, list) else [result]

    return process


class OwnStage:
    """A function value → values as a batch stage."""

    def __init__(self, process: Callable[[Any], Awaitable[list[Any]]]) -> None:
        self._process = process

    async def prepare(self) -> None:
        pass

    async def open(self, task: TaskContext) -> None:
        pass

    async def process(self, batch: list[Record]) -> list[Record]:
        passed: list[Record] = []
        for r in batch:
            passed += [
                Record(value, r.key, r.timestamp, r.headers, r.topic, r.partition, r.offset)
                for value in await self._process(r.value)
            ]
        return passed

    async def close(self) -> None:
        pass


class OwnSource:
    """A `DataSource` as a source of one partition."""

    def __init__(self, own: DataSource) -> None:
        self._own = own

    async def prepare(self) -> None:
        pass

    async def partitions(self) -> int:
        return 1

    async def open(self, partition: int, position: Position | None, task: Any = None) -> OwnReader:
        return OwnReader(self._own)

    async def close(self) -> None:
        pass


class OwnReader:
    """Takes what the generator has ready, at most a batch, and waits only for the first record of it."""

    def __init__(self, own: DataSource) -> None:
        self._records = own.read()
        self._next: asyncio.Task[Any] | None = None
        self._count = 0
        self.ended = False

    async def read(self, max_records: int, timeout: float) -> Sequence[RawRecord]:
        batch: list[SourceRecord] = []
        while len(batch) < max_records and not self.ended:
            if self._next is None:
                self._next = asyncio.ensure_future(self._advance())
            done, _ = await asyncio.wait((self._next,), timeout=timeout if not batch else 0)
            if not done:
                break
            finished, self._next = self._next, None
            try:
                value = finished.result()
            except StopAsyncIteration:
                self.ended = True
                break
            batch.append(SourceRecord(None, value, SYSTEM_CLOCK.now_ms(), self._count))
            self._count += 1
        return batch

    async def _advance(self) -> Any:
        # As a coroutine of our own: a task cannot end with StopAsyncIteration unless it is raised inside one.
        return await anext(self._records)

    def position(self) -> Position:
        return self._count

    def lag(self) -> int | None:
        return 0 if self.ended else None

    async def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait((self._next,))
        if isinstance(self._records, AsyncGenerator):
            await self._records.aclose()


class OwnSink:
    """A `DataSink` as a sink; it is its own writer."""

    def __init__(self, own: DataSink) -> None:
        self._own = own
        self._rows: list[Any] = []

    async def prepare(self) -> None:
        pass

    async def open(self, task: TaskContext, cursor: Any) -> OwnSink:
        return self

    def write(self, rows: Sequence[Any]) -> list[tuple[int, Exception]]:
        self._rows += [row[1] for row in rows]
        return []

    @property
    def backlog(self) -> int:
        return len(self._rows)

    async def drain(self) -> None:
        while self._rows:
            await self._own.write(self._rows[0])
            del self._rows[0]

    async def flush(self) -> None:
        await self.drain()

    async def committed(self) -> None:
        pass

    async def close(self) -> None:
        if self._own is not None:
            own, self._own = self._own, None  # type: ignore[assignment]
            await own.close()

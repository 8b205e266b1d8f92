"""Sources, sinks and stages of one's own: the classes to derive from, and how the engine sees their objects."""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from copy import deepcopy
from typing import Any, TypeAlias

from streamd.clock import SYSTEM_CLOCK
from streamd.component.context import TaskContext
from streamd.errors import FatalError, LoadError
from streamd.record import Position, RawRecord, Record, SourceRecord

Function = Callable[[Any], Any]
OnError = Callable[[Exception], None]
Records: TypeAlias = AsyncIterable[Any] | Iterable[Any]

# What `anext` and `next` cannot give.
_END = object()


class DataSource(ABC):
    """A source of one's own."""

    @abstractmethod
    def read(self) -> Records | Awaitable[Records]:
        """The records, in order: an async generator, a plain one, a list, or an async function that returns one of
        these. It is asked for the next one only as fast as the pipeline can follow, and closed at the end. An exception
        stops the pipeline; what came before it goes through.

        A plain generator must not wait: nothing else in the event loop runs meanwhile.
        """


class DataSink(ABC):
    """A sink of one's own."""

    @abstractmethod
    def write(self, record: Any) -> Any:
        """Take one record; plain or async. Records come in order, one at a time; an exception stops the pipeline,
        unless the pipeline's `on_error` says otherwise.
        """

    async def close(self) -> None:  # noqa: B027 - most sinks hold nothing
        """Release what the sink holds. Called once, at the end."""


class PipelineStage(ABC):
    """A stage of one's own."""

    @abstractmethod
    def process(self, record: Any) -> Any:
        """The record to pass on, a list of several, or None to leave it out; plain or async, or a generator of them."""


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
        result = await outcome(stage.process(value))
        if result is None:
            return []
        if isinstance(result, AsyncGenerator):
            return [one async for one in result]
        if isinstance(result, Generator):
            return list(result)
        return result if isinstance(result, list) else [result]

    return process


def into_sink(sink: DataSink) -> Callable[[Any], Awaitable[list[Any]]]:
    """Writes each record as a stage does its work, so that one that is refused can go to another sink."""
    turn = asyncio.Lock()

    async def process(value: Any) -> list[Any]:
        async with turn:
            try:
                await outcome(sink.write(value))
            except Exception as error:
                name = type(error).__name__
                message = f"the sink {type(sink).__name__} refused the record ({name})"
                raise LoadError(message, f"{name}: {error}") from error
        return [value]

    return process


class OwnStage:
    """A function value → values as a batch stage. `on_error` is told of each exception, which is raised as well.

    `keep`: a record on which the function fails is left as it came, to be tried again or kept as a dead letter.
    """

    def __init__(
        self, process: Callable[[Any], Awaitable[list[Any]]], on_error: OnError, *, keep: bool = False
    ) -> None:
        self._process, self._on_error, self._keep = process, on_error, keep
        # {id of a record: what came of it}, of a batch that failed: its records come again one by one, and the function
        # must not see them twice, since it may change them in place.
        self._known: dict[int, list[Record] | Exception] = {}

    async def prepare(self) -> None:
        pass

    async def open(self, task: TaskContext) -> None:
        pass

    async def process(self, batch: list[Record]) -> list[Record]:
        if len(batch) == 1:
            known = self._known.pop(id(batch[0]), None)
            if isinstance(known, Exception):
                raise known
            return await self._one(batch[0]) if known is None else known
        self._known.clear()
        passed: list[Record] = []
        for record in batch:
            try:
                some = self._known[id(record)] = await self._one(record)
            except Exception as error:
                self._known[id(record)] = error
                raise
            passed += some
        self._known.clear()
        return passed

    async def _one(self, r: Record) -> list[Record]:
        before = _copy(r.value) if self._keep else r.value
        try:
            values = await self._process(r.value)
        except Exception as error:
            r.value = before
            cause = error.__cause__ if isinstance(error, LoadError) else None
            self._on_error(cause if isinstance(cause, Exception) else error)
            raise
        return [Record(value, r.key, r.timestamp, r.headers, r.topic, r.partition, r.offset) for value in values]

    async def close(self) -> None:
        pass


def _copy(value: Any) -> Any:
    try:
        return deepcopy(value)
    except Exception:
        # Something that has no copy: its owner answers for what is changed in it.
        return value


class OwnSource:
    """A `DataSource` as a source of one partition, read once."""

    def __init__(self, own: DataSource, on_error: OnError) -> None:
        self._own, self._on_error = own, on_error
        self._opened = False

    async def prepare(self) -> None:
        pass

    async def partitions(self) -> int:
        return 1

    async def open(self, partition: int, position: Position | None, task: Any = None) -> OwnReader:
        """Begin to read. Raises FatalError the second time: what was read and not committed cannot be had again."""
        if self._opened:
            raise FatalError(
                f"The pipeline failed, and its source {type(self._own).__name__} cannot be read again from where the "
                "last checkpoint was; why it failed is the cause of this error, or in the log."
            )
        self._opened = True
        return OwnReader(self._own, self._on_error)

    async def close(self) -> None:
        pass


class OwnReader:
    """Takes what the generator has ready, at most a batch, and waits only for the first record of it."""

    def __init__(self, own: DataSource, on_error: OnError) -> None:
        self._own, self._name, self._on_error = own, type(own).__name__, on_error
        self._records: AsyncIterator[Any] | Iterator[Any] | None = None
        self._next: asyncio.Task[Any] | None = None
        self._error: Exception | None = None
        self._count = 0
        self._over = False

    async def read(self, max_records: int, timeout: float) -> Sequence[RawRecord]:
        batch: list[SourceRecord] = []
        while len(batch) < max_records and not self._over:
            if self._next is None:
                self._next = asyncio.ensure_future(self._advance())
            done, _ = await asyncio.wait((self._next,), timeout=timeout if not batch else 0)
            if not done:
                break
            finished, self._next = self._next, None
            try:
                value = finished.result()
            except Exception as error:
                # What came before it goes on first.
                self._error, self._over = error, True
                break
            if value is _END:
                self._over = True
                break
            batch.append(SourceRecord(None, value, SYSTEM_CLOCK.now_ms(), self._count))
            self._count += 1
        if self._error is not None and not batch:
            self._on_error(self._error)
            what = f"{type(self._error).__name__}: {self._error}"
            raise FatalError(f"The source {self._name} failed after {self._count} records: {what}.") from self._error
        return batch

    async def _advance(self) -> Any:
        if self._records is None:
            self._records = _iterator(await outcome(self._own.read()), self._name)
        if isinstance(self._records, AsyncIterator):
            return await anext(self._records, _END)
        return next(self._records, _END)

    @property
    def ended(self) -> bool:
        return self._over and self._error is None

    def position(self) -> Position:
        return self._count

    def lag(self) -> int | None:
        return 0 if self.ended else None

    async def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait((self._next,))
            if not self._next.cancelled():
                self._next.exception()
        if isinstance(self._records, AsyncGenerator):
            await self._records.aclose()
        elif isinstance(self._records, Generator):
            self._records.close()


def _iterator(records: Any, source: str) -> AsyncIterator[Any] | Iterator[Any]:
    if isinstance(records, AsyncIterable):
        return aiter(records)
    if isinstance(records, Iterable) and not isinstance(records, str | bytes | Mapping):
        return iter(records)
    raise TypeError(f"{source}.read() must give a generator (async or plain) or a list, got {type(records).__name__}")


class OwnSink:
    """A `DataSink` as a sink that all tasks share. `refused` says what a failed write means: it raises, or returns to
    leave the record out.
    """

    def __init__(self, own: DataSink, refused: OnError) -> None:
        self._own, self._refused = own, refused
        self._turn = asyncio.Lock()
        # An instance that was only asked to prepare has nothing to close: the own sink belongs to the one with tasks.
        self._opened = False

    async def prepare(self) -> None:
        pass

    async def open(self, task: TaskContext, cursor: Any) -> OwnWriter:
        self._opened = True
        return OwnWriter(self)

    async def take(self, value: Any) -> None:
        """Give one record to the sink, when no other task does."""
        async with self._turn:
            try:
                await outcome(self._own.write(value))
            except Exception as error:
                self._refused(error)

    async def close(self) -> None:
        if self._opened:
            self._opened = False
            await outcome(self._own.close())


class WrittenSink(OwnSink):
    """The end of a pipeline whose records are in the own sink already; still closes it."""

    async def take(self, value: Any) -> None:
        pass


class OwnWriter:
    """One task's way to the sink. Everything is written out after each batch."""

    def __init__(self, sink: OwnSink) -> None:
        self._sink = sink
        self._values: deque[Any] = deque()

    def write(self, rows: Sequence[Any]) -> list[tuple[int, Exception]]:
        self._values += [row[1] for row in rows]
        return []

    @property
    def backlog(self) -> int:
        """Records, whose sizes nobody knows."""
        return len(self._values)

    async def drain(self) -> None:
        while self._values:
            await self._sink.take(self._values[0])
            self._values.popleft()

    async def flush(self) -> None:
        await self.drain()

    async def committed(self) -> None:
        pass

    async def close(self) -> None:
        pass

"""Writes the input where the pipeline reads it: slice after slice, the same bytes in the same order for every run."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streamd.transport.embedded.log import EmbeddedLog, log_path
from streamd.transport.embedded.transaction import EmbeddedTransaction
from streamd.verify.records import Made, Records
from streamd.verify.scratch import Input, Scratch

SLICE = 2000  # records written at once


class SourceFeed(ABC):
    """The input of one source. `ends`: {partition: the position behind its last record}; `partitions`: of each record.

    Record `number` of the source is record `first + number * step` of the whole input, and has the time
    `base_ms` + that.
    """

    def __init__(self, source: Input, records: Records, base_ms: int, first: int, step: int) -> None:
        self.source = source
        self.ends = dict.fromkeys(range(source.partitions), 0)
        self.partitions = array("H")
        self._records = records
        self._base_ms, self._first, self._step = base_ms, first, step

    async def up_to(self, count: int) -> None:
        """Write what is missing of the first `count` records."""
        while len(self.partitions) < count:
            begin = len(self.partitions)
            numbers = range(begin, min(count, begin + SLICE))
            made = [self._records.record(number) for number in numbers]
            await self.write(made, [self._base_ms + self._first + number * self._step for number in numbers])
            self.partitions.extend(record.partition for record in made)

    @abstractmethod
    async def open(self) -> None:
        """Make what is written to."""

    @abstractmethod
    async def write(self, made: Sequence[Made], times: Sequence[int]) -> None:
        """Append the records, with their times in ms since the epoch, and move `ends`."""

    @abstractmethod
    async def close(self) -> None:
        """Release everything."""


class FileFeed(SourceFeed):
    """Files, one for each partition."""

    def __init__(self, source: Input, records: Records, base_ms: int, first: int, step: int, files: list[Path]) -> None:
        super().__init__(source, records, base_ms, first, step)
        self._files = files

    async def open(self) -> None:
        """Make the files, with their first lines."""
        header = b"" if self._records.header is None else self._records.header + b"\n"
        for partition, file in enumerate(self._files):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(header)
            self.ends[partition] = len(header)

    async def write(self, made: Sequence[Made], times: Sequence[int]) -> None:
        """See `SourceFeed.write`; a file has no times."""
        lines: dict[int, list[bytes]] = {}
        for record in made:
            lines.setdefault(record.partition, []).append((record.value or b"") + b"\n")
        for partition, values in lines.items():
            data = b"".join(values)
            with self._files[partition].open("ab") as file:
                file.write(data)
            self.ends[partition] += len(data)

    async def close(self) -> None:
        """Nothing is held between writes."""


class LogFeed(SourceFeed):
    """A topic of the embedded log of one run's app."""

    def __init__(
        self, source: Input, records: Records, base_ms: int, first: int, step: int, state_dir: Path, app: str
    ) -> None:
        super().__init__(source, records, base_ms, first, step)
        self._path = log_path(state_dir / app, app)
        self._transaction: EmbeddedTransaction | None = None

    async def open(self) -> None:
        """Make the topic."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        log = EmbeddedLog.acquire(self._path)
        try:
            await log.create_topic(self.source.topic, self.source.partitions)
        finally:
            await log.release()
        self._transaction = EmbeddedTransaction(self._path, f"input of {self.source.id}")
        await self._transaction.open()

    async def write(self, made: Sequence[Made], times: Sequence[int]) -> None:
        """See `SourceFeed.write`."""
        assert self._transaction is not None
        rows: dict[int, list[Any]] = {}
        for record, time in zip(made, times, strict=True):
            rows.setdefault(record.partition, []).append((record.key, record.value, time, ()))
        self._transaction.begin()
        for partition, values in rows.items():
            self._transaction.extend(self.source.topic, partition, values)
        await self._transaction.flush()
        await self._transaction.commit()
        for partition, values in rows.items():
            self.ends[partition] += len(values)

    async def close(self) -> None:
        """Close the log."""
        if self._transaction is not None:
            await self._transaction.close()


class Feed:
    """The whole input of one run: record n belongs to source n mod the number of sources."""

    def __init__(self, scratch: Scratch, feeds: Sequence[SourceFeed]) -> None:
        self.scratch = scratch
        self.feeds = tuple(feeds)
        self.fed = 0
        self._writing = asyncio.Lock()

    async def up_to(self, count: int) -> None:
        """Write what is missing of the first `count` records."""
        async with self._writing:
            for index, feed in enumerate(self.feeds):
                await feed.up_to((count - index + len(self.feeds) - 1) // len(self.feeds))
            self.fed = max(self.fed, count)

    async def open(self) -> None:
        """Make what is written to."""
        for feed in self.feeds:
            await feed.open()

    async def close(self) -> None:
        """Release everything."""
        for feed in self.feeds:
            await feed.close()

    def ends(self) -> dict[tuple[str, int], int]:
        """{(source id, partition): the position behind its last record}."""
        return {(feed.source.id, partition): end for feed in self.feeds for partition, end in feed.ends.items()}

    def lanes(self) -> array[int]:
        """Of each record of the input the number of its input partition, counted through all sources."""
        offsets = [0]
        for feed in self.feeds:
            offsets.append(offsets[-1] + feed.source.partitions)
        step = len(self.feeds)
        lanes = array("I", bytes(4 * sum(len(feed.partitions) for feed in self.feeds)))
        for index, feed in enumerate(self.feeds):
            for number, partition in enumerate(feed.partitions):
                lanes[index + number * step] = offsets[index] + partition
        return lanes

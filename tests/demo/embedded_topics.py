"""Topics of an app's embedded log, read and written from a test that is no coroutine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from streamd.record import RawRecord, Row
from streamd.transport.embedded.log import EmbeddedLog, log_path
from streamd.transport.embedded.transaction import EmbeddedTransaction


class EmbeddedTopics:
    """Of the app `app` with its state in `state_dir`."""

    def __init__(self, state_dir: Path, app: str) -> None:
        self._path = log_path(state_dir / app, app)

    def records(self, topic: str) -> list[RawRecord]:
        """Everything in a topic, partition by partition; [] when there is no such topic."""

        async def read() -> list[RawRecord]:
            log = EmbeddedLog.acquire(self._path)
            found: list[RawRecord] = []
            try:
                for stream in await log.streams(topic):
                    at = stream.start
                    while records := await log.fetch(stream.id, at, 10_000, 1 << 24):
                        found += records
                        at = records[-1].offset + 1
            finally:
                await log.release()
            return found

        return asyncio.run(read())

    def values(self, topic: str) -> list[Any]:
        """The same as documents."""
        return [orjson.loads(record.value) for record in self.records(topic)]

    def append(self, topic: str, rows: Sequence[Row], partition: int = 0) -> None:
        """Add records, in a topic that is made when it is missing."""

        async def write() -> None:
            log = EmbeddedLog.acquire(self._path)
            await log.create_topic(topic, None)
            transaction = EmbeddedTransaction(self._path, "test")
            await transaction.open()
            assert transaction.extend(topic, partition, rows) == []
            await transaction.commit()
            await transaction.close()
            await log.release()

        asyncio.run(write())

"""Dead letters in a topic of the embedded log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from streamd.dlq.marks import Done, marks_in, name_of
from streamd.dlq.places import Place, Span, TopicKept
from streamd.errors import NotFoundError
from streamd.record import RawRecord
from streamd.transport.embedded.log import EmbeddedLog, Stream, log_path
from streamd.transport.embedded.records import BATCH_BYTES, BATCH_RECORDS
from streamd.transport.embedded.stored import EmbeddedStored


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[LogKept]:
    """See `Place.opened`."""
    path = log_path(place.state_dir, place.app)
    log = EmbeddedLog.acquire(path)
    try:
        streams = await log.streams(place.name) if path.exists() else []
        if not streams:
            raise NotFoundError(f"the embedded log {path} has no topic {place.name!r}")
        kept = LogKept(log, {stream.partition: stream for stream in streams}, place)
        try:
            yield kept
        finally:
            await kept.close()
    finally:
        await log.release()


class LogKept(TopicKept):
    """`Kept` (places.py) of a topic."""

    def __init__(self, log: EmbeddedLog, streams: Mapping[int, Stream], place: Place) -> None:
        super().__init__(place)
        self._log, self._streams, self._place = log, streams, place

    async def span(self) -> Span:
        """See `Kept.span`."""
        return {stream.partition: (stream.start, stream.end) for stream in await self._log.streams(self._place.name)}

    async def records(self, partition: int, first: int, end: int) -> AsyncIterator[Sequence[RawRecord]]:
        """See `Kept.records`."""
        at = first
        while at < end:
            fetched = await self._log.fetch(self._streams[partition].id, at, BATCH_RECORDS, BATCH_BYTES)
            if records := [record for record in fetched if record.offset < end]:
                yield records
            if not records:
                return
            at = records[-1].offset + 1

    async def marks(self) -> Mapping[int, Mapping[int, Done]]:
        """See `Kept.marks`."""
        return await marks_in(EmbeddedStored(self._log.path, self._place.app, name_of(self._place.name)))

    async def delete(self, partition: int, before: int) -> bool:
        """See `Kept.delete`; only whole batches go, and the newest stays."""
        await self._log.forget(self._place.name, partition, before)
        return True

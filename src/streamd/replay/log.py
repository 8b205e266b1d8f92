"""The part of a topic of the embedded log that a replay reads: copied to the replay's own log, offsets as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from streamd.clock import SYSTEM_CLOCK
from streamd.errors import NotFoundError
from streamd.replay.span import Point, Span, check_partitions, offset_in, spans
from streamd.transport.embedded.log import EmbeddedLog, Stream
from streamd.transport.embedded.records import BATCH_BYTES, BATCH_RECORDS
from streamd.transport.embedded.transfer import PutRecords

_AT_ONCE: Final = 16 * BATCH_RECORDS


@dataclass(frozen=True, slots=True)
class LogTopic:
    """A topic of a log that is there, with its streams."""

    log: EmbeddedLog
    name: str
    streams: tuple[Stream, ...]

    @classmethod
    async def of(cls, log: EmbeddedLog, name: str) -> LogTopic:
        """Raises NotFoundError."""
        streams = await log.streams(name) if log.path.exists() else []
        if not streams:
            raise NotFoundError(f"the embedded log {log.path} has no topic {name!r}")
        return cls(log, name, tuple(streams))

    async def span(self, start: Point, until: Point | None) -> Span:
        """The offsets between two points, as it is now."""
        check_partitions(start, len(self.streams), self.name, "--from")
        known = {stream.partition: (stream.start, stream.end) for stream in self.streams}
        begins = {stream.partition: await self._offset(stream, start, "--from") for stream in self.streams}
        ends: dict[int, int | None] = dict.fromkeys(known)
        if until is not None:
            ends = {stream.partition: await self._offset(stream, until, "--until") for stream in self.streams}
        return spans(begins, ends, known)

    async def _offset(self, stream: Stream, point: Point, option: str) -> int | None:
        if point.ms is None:
            return offset_in(point, stream.partition, stream.start, stream.end, self.name, option)
        at = stream.start
        while at < stream.end:
            records = await self.log.fetch(stream.id, at, _AT_ONCE, BATCH_BYTES)
            for record in records:
                if record.timestamp >= point.ms:
                    return record.offset
            if not records:
                break
            at = records[-1].offset + 1
        return stream.end

    async def copy(self, span: Span, to: EmbeddedLog) -> None:
        """Make the topic in another log, with just these records, at the same offsets."""
        await to.delete_topic(self.name)
        await to.create_topic(self.name, len(self.streams))
        targets = {stream.partition: stream for stream in await to.streams(self.name)}
        for stream in self.streams:
            at, end = span[stream.partition]
            await to.write(PutRecords(targets[stream.partition].id, at, [], SYSTEM_CLOCK.now_ms()))
            while at < end:
                records = [r for r in await self.log.fetch(stream.id, at, _AT_ONCE, BATCH_BYTES) if r.offset < end]
                if not records:
                    break
                target = targets[stream.partition].id
                await to.write(PutRecords(target, records[0].offset, records, SYSTEM_CLOCK.now_ms()))
                at = records[-1].offset + 1

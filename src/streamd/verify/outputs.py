"""What the sinks of a run have committed, record by record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from streamd.record import Headers
from streamd.transport.embedded.log import EmbeddedLog, log_path
from streamd.transport.files.compression import Compression, compression_of, decompressed
from streamd.transport.kafka.settings import KafkaSettings
from streamd.verify.scratch import Output, Scratch

_CHUNK = 1 << 20
_AT_ONCE = 10_000


class OutputRecord(NamedTuple):
    """One record of an output. `place`: the partition, of files the task; `number`: its offset, or its line from 0.

    `timestamp`: ms since the epoch, -1 for a line of a file.
    """

    place: int
    number: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Headers


async def read(
    scratch: Scratch, run: str, output: Output, kafka: KafkaSettings | None, start: dict[int, int] | None = None
) -> AsyncIterator[OutputRecord]:
    """All records of an output, place by place, in order; `start`: {place: number} to begin at instead."""
    if output.kind == "file":
        for place, number, line in _lines(Path(output.place), header=output.format == "csv"):
            if start is None or (place in start and number >= start[place]):
                yield OutputRecord(place, number, None, line, -1, ())
    elif output.kind == "log":
        app = scratch.app(run)
        async for record in _log(log_path(scratch.folder / run / "state" / app, app), output.place, start):
            yield record
    else:
        from streamd.verify import kafka as on_kafka

        assert kafka is not None
        async for place, records in on_kafka.read(kafka, output.place, start):
            for found in records:
                r: Any = found
                yield OutputRecord(place, r.offset, r.key, r.value, r.timestamp, r.headers)


def _lines(folder: Path, *, header: bool) -> Iterator[tuple[int, int, bytes]]:
    """(task, line number over all its files, line) of a file sink's folder, whose folders are the tasks'.

    `header`: each file has a first line that is none of a record; when a file is full is a matter of time.
    """
    for task in sorted(folder.iterdir(), key=lambda path: int(path.name)) if folder.exists() else ():
        number = 0
        for file in sorted(path for path in task.iterdir() if not path.name.startswith(".")):
            for index, line in enumerate(lines_of(file, compression_of(file, "auto"))):
                if index or not header:
                    yield int(task.name), number, line
                    number += 1


def lines_of(file: Path, compression: Compression) -> Iterator[bytes]:
    """The lines of a file, decompressed, without their ends."""
    with file.open("rb") as raw:
        stream = decompressed(raw, compression, file)
        rest = b""
        while chunk := stream.read(_CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
    if rest:
        yield rest


async def _log(path: Path, topic: str, start: dict[int, int] | None) -> AsyncIterator[OutputRecord]:
    log = EmbeddedLog.acquire(path)
    try:
        for stream in await log.streams(topic):
            at = stream.start if start is None else start.get(stream.partition, stream.end)
            while at < stream.end and (records := await log.fetch(stream.id, at, _AT_ONCE, _CHUNK * 8)):
                for record in records:
                    yield OutputRecord(
                        stream.partition, record.offset, record.key, record.value, record.timestamp, record.headers
                    )
                at = records[-1].offset + 1
    finally:
        await log.release()

"""Dead letters in files, which can be looked at only.

A file has no transaction that a mark could be part of, its last lines may still be cut off when the pipeline starts
again, and its envelopes keep neither headers nor bytes that are no text.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from streamd.dlq.letter import Letter, letter_in
from streamd.dlq.marks import Done
from streamd.dlq.places import Place, Span
from streamd.errors import ConfigError, FatalError, NotFoundError
from streamd.record import RawRecord, SourceRecord
from streamd.transport.files.compression import compression_of, decompressed

_AT_ONCE = 1 << 20  # bytes
_END = 1 << 62  # a file is read to its end: how many lines that is, nobody knows


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[FileKept]:
    """See `Place.opened`."""
    settings: Any = place.sink.settings if place.sink is not None else None
    if getattr(settings, "format", "json") != "json":
        raise ConfigError(f"dead letters in a file of {settings.format} are not read; those of `format: json` are")
    paths = _files(place)
    if not paths:
        raise NotFoundError(f"there is no file {place.base / place.name}")
    yield FileKept(paths, getattr(settings, "compression", "auto"))


class FileKept:
    """`Kept` (places.py) of files: each is a partition, its lines are the offsets."""

    def __init__(self, paths: Sequence[Path], compression: Any) -> None:
        self._paths, self._compression = paths, compression

    async def span(self) -> Span:
        """See `Kept.span`."""
        return dict.fromkeys(range(len(self._paths)), (0, _END))

    async def records(self, partition: int, first: int, end: int) -> AsyncIterator[Sequence[RawRecord]]:
        """See `Kept.records`. A last line without an end is not there yet."""
        path = self._paths[partition]
        try:
            with path.open("rb") as raw:
                stream = decompressed(raw, compression_of(path, self._compression), path)
                number, rest = 0, b""
                while data := stream.read(_AT_ONCE):
                    *lines, rest = (rest + data).split(b"\n")
                    yield [SourceRecord(None, line, 0, number + at) for at, line in enumerate(lines)]
                    number += len(lines)
        except OSError as error:
            raise FatalError(f"{path} cannot be read: {error.strerror}") from None

    async def letters(self, records: Sequence[RawRecord], partition: int, *, read: bool) -> list[Letter | None]:
        """See `Kept.letters`; an envelope keeps what is JSON, or text."""
        return [letter_in(record.value, partition, record.offset) for record in records]

    async def marks(self) -> Mapping[int, Mapping[int, Done]]:
        """There are none."""
        return {}

    async def delete(self, partition: int, before: int) -> bool:
        """Files are left alone."""
        return False


def _files(place: Place) -> list[Path]:
    """The files of all tasks that are there, those of a row among them."""
    path = place.base / Path(place.name).expanduser()
    stem, dot, ending = path.name.partition(".")

    def pattern(text: str) -> str:
        numbered = re.sub(r"\\\{part(ition)?\\\}", r"\\d+", re.escape(text))
        return numbered.replace(r"\{pipeline\}", place.pipeline or ".+")

    name = re.compile(rf"{pattern(stem)}(-\d{{8,}})?{pattern(dot + ending)}")
    folder = path.parent
    if not folder.is_dir():
        return []
    return sorted(one for one in folder.iterdir() if name.fullmatch(one.name) and one.is_file())

"""Bytes of an Avro object container file to documents, in chunks, with the place of each."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

from streamd.codecs import Undecodable
from streamd.codecs.avro.container import (
    Header,
    block_data,
    check_codec,
    damaged,
    header_of,
    last_block,
    parse_header,
    parse_prefix,
)
from streamd.codecs.avro.reading import MismatchError
from streamd.codecs.avro.schema import Schema
from streamd.codecs.avro.sequence import ReadNext, sequence_reader, skip
from streamd.codecs.avro.values import Forms
from streamd.errors import ExtractError, FatalError, PositionLostError
from streamd.transport.files.lines import KEPT_BYTES, Lines, Spot, too_long

# What one call gives at most: blocks are taken until there is so much, and a larger one is given in parts.
_RECORDS = 2000
_BYTES = 1024 * 1024
_WHOLE_RECORDS = 20_000


@dataclass(slots=True)
class Blocks(Lines):
    """Documents as found: `starts` are their numbers in the file, `end_spot` is where to go on after the last.

    `runs` are those from one block: (how many values stand before, the block's byte, the index in it of the first).
    """

    runs: list[Spot] = field(default_factory=list)
    end_spot: Spot = (0, 0, 0)

    def spot(self, taken: int) -> Spot:
        """Where to go on after so many of the values."""
        if taken >= len(self.values):
            return self.end_spot
        before, start, index = next(run for run in reversed(self.runs) if run[0] <= taken)
        return start, index + taken - before, self.starts[taken]


@dataclass(slots=True)
class _Block:
    """A block that is being given. `start` and `end` are its bytes in the file."""

    data: BytesIO
    size: int
    count: int
    start: int
    end: int
    given: int = 0


class AvroReading:
    """How records of container files are read: by which schema (None: the one that they were written with)."""

    def __init__(self, target: Schema | None, forms: Forms, max_bytes: int) -> None:
        self._target, self._forms, self._max_bytes = target, forms, max_bytes

    def cutter(self, path: Path, spot: Spot, beginning: Callable[[int], bytes]) -> BlockCutter:
        """What cuts the bytes of a file from there on. `beginning` gives the file's first bytes."""
        return BlockCutter(self, path, spot, beginning)

    def after_last(self, path: Path, descriptor: int) -> Spot:
        """Where what is written next begins, in a file that is open. Raises FatalError for a damaged one."""
        at, number = last_block(lambda size, at: os.pread(descriptor, size, at), path)
        return at, 0, number

    def read_next(self, header: Header, path: Path) -> ReadNext:
        """What reads the records of a file. Raises FatalError where nothing of it can be read."""
        check_codec(header.codec, path, reads=True)
        try:
            plain = sequence_reader(header.schema, None, self._forms)
        except MismatchError as error:
            raise FatalError(f"{path} cannot be read: the schema in its header: {error}") from None
        if self._target is None:
            return plain
        try:
            return sequence_reader(header.schema, self._target, self._forms)
        except MismatchError as error:
            return _refusing(f"not readable with the schema that is asked for: {error}")

    def documents(self, block: _Block, count: int, read: ReadNext, header: Header, path: Path) -> list[Any]:
        """The next records of a block, as documents, or as Undecodable. Raises FatalError for a damaged block."""
        if count == block.count and block.size <= self._max_bytes:
            try:
                found: list[Any] = read(block.data, count)
            except ExtractError:
                block.data.seek(0)
            else:
                if set(map(type, found)) <= {dict}:
                    return found
                block.data.seek(0)
        return [self._document(block, at, read, header, path) for at in range(block.given, block.given + count)]

    def _document(self, block: _Block, index: int, read: ReadNext, header: Header, path: Path) -> Any:
        data, start, reason = block.data, block.data.tell(), ""
        document: Any = None
        try:
            document = read(data, None)
        except ExtractError as error:
            reason = str(error)
            data.seek(start)
            try:
                skip(data, header.schema)
            except ExtractError as failure:
                damaged(path, block.start, f"record {index} of the block that begins there cannot be read: {failure}")
        end = data.tell()
        size = end - start
        if not reason and document.__class__ is dict and size <= self._max_bytes:
            return document
        data.seek(start)
        raw = data.read(min(size, KEPT_BYTES))
        data.seek(end)
        if size > self._max_bytes:
            return too_long(raw, size, self._max_bytes)
        return Undecodable(reason or "the Avro value is no record", raw, cut=len(raw) < size)


def _refusing(reason: str) -> ReadNext:
    def refuse(buffer: BytesIO, count: int | None) -> NoReturn:
        raise ExtractError(reason)

    return refuse


class BlockCutter:
    """Cuts a stream of bytes that begins at a spot of a file into the records of its blocks.

    A block that is not whole yet is kept for the next `feed`. `waiting`: there may be more to give without more bytes.
    """

    def __init__(self, reading: AvroReading, path: Path, spot: Spot, beginning: Callable[[int], bytes]) -> None:
        self._reading, self._path, self._beginning = reading, path, beginning
        self._data = bytearray()
        # Where the file's byte is that `_data` begins with.
        self._at, self._skip, self._number = spot
        self._header: Header | None = None
        self._read: ReadNext | None = None
        self._block: _Block | None = None
        self.waiting = False

    @property
    def spot(self) -> Spot:
        """Where to go on after all that was given."""
        block = self._block
        return (self._at, self._skip, self._number) if block is None else (block.start, block.given, self._number)

    def feed(self, data: bytes) -> Blocks:
        """Records of blocks that are complete with these bytes, not always all of them."""
        self._data += data
        found, size = Blocks(), 0
        while len(found.values) < _RECORDS and size < _BYTES:
            if self._block is None:
                self._block = self._next_block()
                if self._block is None:
                    break
                size += self._block.size
            self._give(self._block, found)
        self.waiting = self._block is not None or len(found.values) >= _RECORDS or size >= _BYTES
        found.end_spot = self.spot
        found.end = found.end_spot[0]
        return found

    def finish(self) -> Blocks:
        """Nothing, when no more bytes will come. Raises FatalError where they end inside something."""
        if self._data:
            where = "its header" if self._header is None else f"the block that begins at byte {self._at}"
            size = self._at + len(self._data)
            raise FatalError(f"{self._path} is cut off: it ends inside {where}, after {size} bytes")
        return Blocks(end=self.spot[0], end_spot=self.spot)

    def _next_block(self) -> _Block | None:
        if self._header is None:
            self._header = self._first_header()
            if self._header is None:
                return None
            self._read = self._reading.read_next(self._header, self._path)
        prefix = parse_prefix(self._data[:20], self._at, self._path)
        if prefix is None or len(self._data) < prefix.block_bytes:
            return None
        records = block_data(self._data[: prefix.block_bytes], prefix, self._header, self._at, self._path)
        block = _Block(BytesIO(records), len(records), prefix.count, self._at, self._at + prefix.block_bytes)
        del self._data[: prefix.block_bytes]
        self._at = block.end
        if self._skip:
            self._go_to(block)
        return block

    def _first_header(self) -> Header | None:
        if self._at:
            header = header_of(lambda size, at: self._beginning(size), self._path)
            if header is None or header.size > self._at:
                raise PositionLostError(f"{self._path} no longer has the header of an Avro file that it had")
            return header
        header = parse_header(self._data, self._path)
        if header is not None:
            del self._data[: header.size]
            self._at = header.size
        return header

    def _go_to(self, block: _Block) -> None:
        """Pass over those records of a block that were given before."""
        if self._skip > block.count:
            reason = f"the block at byte {block.start} has {block.count} records, of which {self._skip} were read"
            raise PositionLostError(f"{self._path}: {reason}")
        assert self._header is not None
        try:
            for _ in range(self._skip):
                skip(block.data, self._header.schema)
        except ExtractError as error:
            damaged(self._path, block.start, f"the block that begins there cannot be read: {error}")
        block.given, self._skip = self._skip, 0

    def _give(self, block: _Block, found: Blocks) -> None:
        assert self._header is not None
        assert self._read is not None
        left = block.count - block.given
        # One call reads a whole block far faster than its parts.
        count = left if block.size <= _BYTES and left <= _WHOLE_RECORDS else min(left, _RECORDS)
        found.runs.append((len(found.values), block.start, block.given))
        found.values += self._reading.documents(block, count, self._read, self._header, self._path)
        found.starts += range(self._number, self._number + count)
        self._number += count
        block.given += count
        if block.given < block.count:
            return
        if rest := block.size - block.data.tell():
            damaged(self._path, block.start, f"{rest} bytes are left over behind the records of the block there")
        self._block = None

"""The vocabulary of the data plane: records as sources give them, rows as sinks take them, records for user code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import msgspec
import orjson

Header: TypeAlias = tuple[str, bytes | None]
Headers: TypeAlias = Sequence[Header]

# Where a reader is in a partition: what it needs to go on after the last record it gave. Any JSON value; an int
# (next offset) for kafka and log. Given by the source, kept by the checkpoint, handed back to the source.
Position: TypeAlias = Any

# The watermark before anything was seen, and at the end of all input. Milliseconds, as all event times.
BEGINNING, END = -(2**62), 2**62


class RawRecord(Protocol):
    """A record as a source gives it. Kafka's own record objects satisfy this as they are, so that none has to be built.

    `value` is bytes as read, or a decoded document (dict) from a source whose spec says `decoded`. `timestamp` is in
    ms since the epoch. `offset` is the record's place in its partition, an int that rises; for a file the byte at which
    the record starts, or its number in a file of blocks (Avro).
    """

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> Any: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def headers(self) -> Headers: ...


class SourceRecord(msgspec.Struct, gc=False):
    """A `RawRecord` for sources that have to build one."""

    key: bytes | None
    value: Any
    timestamp: int
    offset: int
    headers: Any = ()


class Result(msgspec.Struct, gc=False):
    """What a keyed stage gives: a record with the shape of `Record`, for the price of a tuple."""

    value: Any
    key: bytes | None
    timestamp: int
    headers: Any = ()
    topic: str = ""
    partition: int = 0
    offset: int = -1


class Passed(msgspec.Struct, gc=False):
    """What a keyed stage gives of a record that it has not changed: a `Result` whose document is still `raw`, JSON as
    bytes, or None. What follows takes from it the fields that it needs.
    """

    raw: bytes | None
    key: bytes | None
    timestamp: int
    headers: Any = ()
    topic: str = ""
    partition: int = 0
    offset: int = -1

    @property
    def value(self) -> Any:
        """The document, parsed anew; None for a tombstone."""
        return None if self.raw is None else orjson.loads(self.raw)


class Row(NamedTuple):
    """A record as a sink takes it. `value` is bytes, None (a tombstone), or a dict for sinks that take `documents`.

    The fused chains append plain tuples of this shape: a sink must index or unpack rows, not use the names.
    """

    key: bytes | None
    value: Any
    timestamp: int
    headers: Headers


class Record:
    """A record as user code sees it, in `python` stages and in the Python API.

    `value` is the document, free to change in place. `timestamp` is in ms since the epoch. `topic`, `partition` and
    `offset` say where it came from.
    """

    __slots__ = ("headers", "key", "offset", "partition", "timestamp", "topic", "value")

    def __init__(
        self,
        value: Any,
        key: bytes | None = None,
        timestamp: int = 0,
        headers: Headers = (),
        topic: str = "",
        partition: int = 0,
        offset: int = -1,
    ) -> None:
        self.value = value
        self.key = key
        self.timestamp = timestamp
        self.headers = headers
        self.topic = topic
        self.partition = partition
        self.offset = offset

    def __repr__(self) -> str:
        return f"Record(topic={self.topic!r}, partition={self.partition}, offset={self.offset})"


class TaskId(NamedTuple):
    """A task: one partition of one part (connected piece) of a pipeline's graph."""

    app: str
    pipeline: str
    part: int
    partition: int

    def __str__(self) -> str:
        return f"{self.app}.{self.pipeline}.{self.part}.{self.partition}"

"""Reads files: JSON lines, CSV, lines of text, Avro, MessagePack or Protobuf, plain or compressed, each as a partition.

By default a file is read once, and the source has ended at the end of the last one. With `tail: true` it is followed
while others append to it; it survives rotation by rename and by copy and truncate, and a half-written line waits for
its end. Relative paths begin at the folder of the pipeline's file, those from an environment variable at the working
directory. Files are numbered by name when they are first seen; one that comes later (a pattern is looked at again at
every start) gets the next number. A pattern without any file is an error; with `tail: true` the first one is waited
for.

CSV becomes documents with a field for each column, named by the file's first row or by `columns`; values are text
unless `types` says otherwise, and an empty value of another type is null. Text becomes {"text": line}. Avro object
container files have their schema with them; a block that is not whole is an error, with `tail: true` it is waited for.
MessagePack is one map behind the other, Protobuf one message behind the other, each behind its length. A last record
that is not whole is an error record, with `tail: true` it is waited for. Where a byte cannot be what it must be, the
pipeline stops, as nothing says where the next record begins.

```yaml
source:
  file:
    path: data/orders-*.csv.gz
    format: csv
    types: {amount: float, paid: bool}
```

Delivery: exactly once with sinks that promise it: the position is a byte (of Avro a block and a record in it) in a file
that is known again by its inode and its beginning. A file that changed before that byte, or is gone, stops the pipeline
(see `on_position_lost`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import structlog
from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from streamd.codecs import JSON, CodecContext, FileFormat, Format
from streamd.codecs.csv import ColumnType, CsvCharacter, check_form_of_files
from streamd.codecs.format import framing_of
from streamd.component.context import PipelineContext
from streamd.component.event_time import EventTimeField
from streamd.component.fields import ByteSize, Duration, LocalPath
from streamd.component.model import Model
from streamd.component.source import Reader
from streamd.component.spec import source
from streamd.errors import FatalError, NotFoundError, TransientError
from streamd.record import Position
from streamd.transport.files.bounded import CHUNK_BYTES, BoundedFile
from streamd.transport.files.compression import CompressionSetting, compression_of
from streamd.transport.files.failures import translated
from streamd.transport.files.follow import FollowedFile
from streamd.transport.files.frames import FrameCutter
from streamd.transport.files.lines import Cutter, LineCutter, Spot
from streamd.transport.files.listing import Listing
from streamd.transport.files.place import FilePlace
from streamd.transport.files.reader import FileReader, LineFile, MissingFile, Rows

if TYPE_CHECKING:
    from streamd.transport.files.blocks import AvroReading

log = structlog.get_logger(__name__)

_PATHS_SCHEMA = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
    ]
}


def _paths(value: object) -> object:
    return (value,) if isinstance(value, str | Path) else value


class FileSourceConfig(Model):
    """Settings of the file source."""

    path: Annotated[
        tuple[Annotated[LocalPath, Field(min_length=1)], ...],
        BeforeValidator(_paths),
        Field(min_length=1),
        WithJsonSchema(_PATHS_SCHEMA),
    ] = Field(
        description="The file, or several: a path, a pattern (* ? [a-z] **), or a list of them.",
        examples=["orders.ndjson", ["a.csv", "b.csv"], "logs/**/*.log"],
    )
    format: FileFormat = Field(
        JSON,
        description="What a line is: json (or ndjson), csv, or text. Or avro: object container files, which need no "
        "settings; `schema` or `schema_file` in them is the one that documents are to have. Or msgpack, or protobuf "
        "with its message: records one behind the other.",
        examples=["csv"],
    )
    compression: CompressionSetting = Field(
        "auto", description="How files are compressed; auto goes by their names' endings.", examples=["gzip"]
    )
    tail: bool = Field(False, description="Follow the files instead of ending at their end.", examples=[True])
    start: Literal["earliest", "latest"] = Field(
        "earliest",
        description="With tail: where to begin in a file that has no position yet, at its beginning or its end.",
        examples=["latest"],
    )
    rotate_wait: Duration = Field(
        1.0,
        description="With tail: how long a renamed file must be quiet before the new one of its name is read.",
        examples=["5s"],
    )
    on_position_lost: Literal["fail", "restart"] = Field(
        "fail",
        description="With tail: what to do when the file to go on in cannot be found again: stop, or go on with the "
        "file that is there now; what lies between is lost.",
        examples=["restart"],
    )
    max_record_bytes: ByteSize = Field(
        1024 * 1024,
        ge=1,
        description="A longer line, or other record, is an error record; its bytes are not read.",
        examples=["4MiB"],
    )
    columns: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="With csv: the columns' names, for files without a first row that has them.",
        examples=[["id", "amount"]],
    )
    types: dict[str, ColumnType] = Field(
        default_factory=dict,
        description="With csv: what columns hold, other than text: int, float, bool or json.",
        examples=[{"amount": "float"}],
    )
    delimiter: CsvCharacter = Field(",", description="With csv: what stands between values.", examples=[";"])
    event_time: EventTimeField | None = Field(
        None,
        description="The field with the record's time, or {field, out_of_order, idle, max_future}; without it the time "
        "of reading.",
        examples=["ts"],
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_form_of_files(self, self.format)
        tail_only = {"start", "rotate_wait", "on_position_lost"} & self.model_fields_set
        if not self.tail and tail_only:
            raise ValueError(f"{', '.join(sorted(tail_only))}: only with tail: true")
        if self.tail and self.compression not in ("auto", "none"):
            raise ValueError("tail: a compressed file cannot be followed, expected compression: none")
        return self

    @property
    def decoded(self) -> bool:
        """Whether records come as documents instead of bytes."""
        return str(self.format) in ("avro", "csv")


def _single(config: FileSourceConfig) -> bool:
    return len(config.path) == 1 and not has_magic(config.path[0])


@source("file", config=FileSourceConfig, bounded=lambda config: not config.tail, single=_single)
class FileSource:
    """Files by name or pattern."""

    position_type = dict

    def __init__(self, config: FileSourceConfig, context: PipelineContext) -> None:
        self._config = config
        self._context = context
        self._framing = framing_of(config.format)
        self._avro: AvroReading | None = None
        if str(config.format) == "avro":
            self._avro = _avro_reading(config.format, config.max_record_bytes, context.base_dir)
        self._listing = Listing(config.path, context.base_dir, context.state_dir, context.pipeline)

    async def prepare(self) -> None:
        """Find the files, and check that they can be read. A followed file may come later."""
        for path in self._found():
            if not self._config.tail and path.exists():
                with translated("read", path), path.open("rb"):
                    pass

    async def partitions(self) -> int:
        """How many files there are."""
        return len(self._found())

    def _found(self) -> list[Path]:
        """The files. Raises TransientError when there is none to follow yet."""
        try:
            return self._listing.refresh()
        except NotFoundError as error:
            if not self._config.tail:
                raise
            raise TransientError(f"{error}; with tail: true it is waited for") from None

    async def open(self, partition: int, position: Position | None, task: Any = None) -> Reader:
        """Read a file on from a byte, or from its start."""
        place = None if position is None else FilePlace.of(position)
        path = self._listing.at(partition) if place is None else Path(place.path)
        place = place or FilePlace(str(path))
        rows = None
        if self._config.format == "csv":
            config = self._config
            rows = Rows(config.columns, config.types, config.delimiter, config.max_record_bytes)
        return FileReader(self._file(path, place, position is None), rows, place, self._context.clock)

    async def close(self) -> None:
        """Nothing is held between readers."""

    def _file(self, path: Path, place: FilePlace, fresh: bool) -> LineFile:
        config = self._config
        compression = compression_of(path, config.compression)
        if config.tail and compression != "none":
            raise FatalError(f"cannot follow {path}: it is compressed ({compression}); tail reads plain files only")
        if config.tail:
            return FollowedFile(
                path,
                partial(self._cutter, path),
                None if fresh else place,
                self._context.clock,
                rotate_wait=config.rotate_wait,
                restart_when_lost=config.on_position_lost == "restart",
                from_end=config.start == "latest",
                after_last=self._after_last(path),
            )
        if not path.exists():
            if place.ended:
                return MissingFile(path)
            raise NotFoundError(f"cannot read {path}: it does not exist")
        if place.ended and compression == "none" and (size := path.stat().st_size) > place.offset:
            said = f"read to its end at {place.offset} bytes, it has {size} now; tail: true follows it"
            log.warning("A file has grown", path=str(path), message=said)
        return BoundedFile(path, compression, partial(self._cutter, path), place if place.offset else None)

    def _cutter(self, path: Path, spot: Spot, beginning: Callable[[int], bytes]) -> Cutter:
        config = self._config
        if self._avro is not None:
            return self._avro.cutter(path, spot, beginning)
        if self._framing is not None:
            return FrameCutter(self._framing, path, spot[0], config.max_record_bytes)
        return LineCutter(
            spot[0], config.max_record_bytes, quoted=config.format == "csv", keep_blank=config.format == "text"
        )

    def _after_last(self, path: Path) -> Callable[[int], Spot] | None:
        if self._avro is not None:
            return partial(self._avro.after_last, path)
        framing = self._framing
        if framing is None:
            return None

        def after_last_frame(descriptor: int) -> Spot:
            chunks = iter(partial(os.read, descriptor, CHUNK_BYTES), b"")
            return FrameCutter(framing, path, 0, self._config.max_record_bytes).pass_over(chunks)

        return after_last_frame


def _avro_reading(form: Format, max_bytes: int, base_dir: Path) -> AvroReading:
    """Imported late: a pipeline without Avro must not pay for its library. Raises ConfigError."""
    from streamd.codecs.avro.codec import own_schema
    from streamd.codecs.avro.settings import AvroFileSettings
    from streamd.transport.files.blocks import AvroReading

    settings = form.settings or AvroFileSettings.model_validate({})
    assert isinstance(settings, AvroFileSettings)
    return AvroReading(own_schema(settings, CodecContext(base_dir=base_dir)), settings.forms, max_bytes)

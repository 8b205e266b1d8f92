"""Writes records to files: JSON lines, CSV, lines of text, Avro, MessagePack or Protobuf, plain or compressed.

Each task writes a file of its own: with several tasks the path needs `{partition}`, and `{part}` where a sink of dead
letters serves several parts of the pipeline's graph, as `streamd explain` shows them; `{pipeline}` stands for the
pipeline's name. Folders are made; a relative path begins at the folder of the pipeline's file, one from an environment
variable at the working directory. With `rotate` there is a row of numbered files (`orders-00000001.ndjson`), each of
which appears under its name when it is full and committed.

A file that is there already is appended to. CSV has a first row with `columns`, or the fields of the first record; a
document with other fields is refused, one with fewer leaves them empty. Text writes the field `text`, and refuses one
with a line end in it. Avro makes object container files, with the schema in their header and compression inside; what
is there must have the same schema. MessagePack is written one map behind the other, Protobuf one message behind the
other, each behind its length; nothing is appended to a file that is not such to its end.

```yaml
sink:
  file:
    path: out/orders-{partition}.ndjson.gz
    rotate: {size: 64MiB}
```

Delivery: exactly once: the file's length is part of the checkpoint, what lies behind it is cut off when a task starts.
With `rotate` files appear only when they are committed; without it a reader may see lines that are cut off later.
So a file belongs to one sink: what another pipeline, or anybody else, has appended is cut off as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from pydantic import Field, model_validator

from streamd.codecs import JSON, CodecContext, FileFormat
from streamd.codecs.csv import CsvCharacter, check_form_of_files, format_row, in_columns, parse_header
from streamd.codecs.format import framing_of, in_lines
from streamd.codecs.frames import Framing
from streamd.codecs.json import encode
from streamd.codecs.lines import json_line, parsed, text_line
from streamd.component.context import PipelineContext, TaskContext
from streamd.component.fields import LocalPath
from streamd.component.model import Model
from streamd.component.sink import Writer
from streamd.component.spec import sink
from streamd.errors import FatalError, LoadError
from streamd.record import Row, TaskId
from streamd.transport.batching import Batch, Collected
from streamd.transport.files.bounded import CHUNK_BYTES
from streamd.transport.files.compression import ByteStream, Compression, CompressionSetting, compression_of
from streamd.transport.files.frames import FrameCutter
from streamd.transport.files.output import Output
from streamd.transport.files.rotation import Rotate, RotatedOutput

if TYPE_CHECKING:
    from streamd.codecs.avro.settings import AvroFileSettings

R = TypeVar("R")

# What compression is called within Avro.
_CODECS = {"auto": "null", "none": "null", "deflate": "deflate", "zstd": "zstandard"}


class FileSinkConfig(Model):
    """Settings of the file sink."""

    path: LocalPath = Field(
        min_length=1,
        description="The file; {partition}, {part} and {pipeline} in it are filled in.",
        examples=["out/orders-{partition}.ndjson"],
    )
    format: FileFormat = Field(
        JSON,
        description="What a line is: json (or ndjson), csv, or text. Or avro with its schema: object container files. "
        "Or msgpack, or protobuf with its message: records one behind the other.",
        examples=["csv", {"avro": {"schema_file": "order.avsc"}}],
    )
    compression: CompressionSetting | Literal["deflate"] = Field(
        "auto",
        description="How to compress; auto goes by the name's ending. With avro: none, deflate or zstd for each block; "
        "auto is none, and a file that is there keeps its own.",
        examples=["zstd"],
    )
    columns: tuple[str, ...] | None = Field(
        None, min_length=1, description="With csv: the columns, in order.", examples=[["id", "amount"]]
    )
    delimiter: CsvCharacter = Field(",", description="With csv: what stands between values.", examples=[";"])
    rotate: Rotate | None = Field(
        None, description="When to begin a new file; without it there is one.", examples=[{"records": 100000}]
    )
    batch: Batch = Field(Batch(), description="When to write between checkpoints.", examples=[{"max_bytes": "4MiB"}])

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_form_of_files(self, self.format)
        if self.avro is not None and self.avro.schema_ is None and self.avro.schema_file is None:
            raise ValueError(
                "format avro: expected a schema, as files have it in their header: `schema` or `schema_file`"
            )
        wrong = "gzip" if self.avro is not None else "deflate"
        if self.compression == wrong:
            right = "none, deflate or zstd" if self.avro is not None else "none, gzip or zstd"
            raise ValueError(f"compression: with format: {self.format} expected {right}, got {wrong}")
        try:
            _filled(self.path, TaskId("", "p", 0, 0))
        except (AttributeError, KeyError, IndexError, TypeError, ValueError):
            raise ValueError("path: expected only {partition}, {part} and {pipeline} in braces") from None
        return self

    @property
    def avro(self) -> AvroFileSettings | None:
        """The settings of the format avro; None with another."""
        if str(self.format) != "avro":
            return None
        from streamd.codecs.avro.settings import AvroFileSettings

        settings = self.format.settings
        return settings if isinstance(settings, AvroFileSettings) else AvroFileSettings.model_validate({})

    @property
    def documents(self) -> bool:
        """Whether rows are to come as documents instead of bytes."""
        return self.format == "csv"


def _filled(path: str, task: TaskId) -> str:
    return path.format(pipeline=task.pipeline, part=task.part, partition=task.partition)


def _alone(config: FileSinkConfig, task: TaskId) -> str:
    return str(Path(_filled(config.path, task)).expanduser())


@sink("file", config=FileSinkConfig, delivery="exactly once", alone=_alone)
class FileSink:
    """Files, one per task or a row of them."""

    def __init__(self, config: FileSinkConfig, context: PipelineContext) -> None:
        self._config = config
        self._context = context

    async def prepare(self) -> None:
        """Nothing: whether a file can be written shows when it is opened."""

    async def open(self, task: TaskContext, cursor: Any) -> Writer:
        """Open the task's file as the last checkpoint left it."""
        config = self._config
        one, other = (_filled(config.path, task.task._replace(partition=number)) for number in (0, 1))
        if task.tasks > 1 and one == other:
            raise FatalError(
                f"file sink: this pipeline has {task.tasks} tasks, and each writes its own file: put {{partition}} "
                f"into the path, which is {config.path!r}"
            )
        path = self._context.base_dir.absolute() / _alone(config, task.task)
        writer = _FileWriter(config, self._context, _output(path, config))
        await writer.open(cursor)
        return writer

    async def close(self) -> None:
        """Nothing is held between writers."""


def _output(path: Path, config: FileSinkConfig) -> Output | RotatedOutput:
    compression: Compression = "none"
    if config.avro is None and config.compression != "deflate":
        compression = compression_of(path, config.compression)
    framing = framing_of(config.format)
    output: Output | RotatedOutput
    if config.rotate is not None:
        output = RotatedOutput(path, compression, config.rotate)
    elif framing is None:
        output = Output(path, compression, lines=config.avro is None)
    else:
        output = Output(path, compression, lines=False, check=partial(_check_frames, framing, path))
    if framing is not None:
        output.pack = framing.pack
    return output


def _check_frames(framing: Framing, path: Path, stream: ByteStream) -> None:
    """Raises FatalError where a file that is there is not of whole frames."""
    cutter = FrameCutter(framing, path, 0, CHUNK_BYTES)
    cutter.pass_over(iter(partial(stream.read, CHUNK_BYTES), b""))
    if unfinished := cutter.finish().starts:
        raise FatalError(
            f"{path} ends inside a record of {framing.title}, which begins at byte {unfinished[0]}; nothing is "
            "appended to it"
        )


class _FileWriter:
    """One task's file. Lines are made at once, and written in a thread."""

    def __init__(self, config: FileSinkConfig, context: PipelineContext, output: Output | RotatedOutput) -> None:
        self._config = config
        self._context = context
        self._clock = context.clock
        self._output = output
        # Rows of files count their lines one by one, and CSV is made of documents.
        self._together = config.format == "json" and isinstance(output, Output)
        self._waiting = Collected(config.batch, context.clock)
        # Lines on their way to the file: what a failed write leaves here is written first the next time.
        self._moving: list[bytes] = []
        self._columns = config.columns
        # Whether the columns can be read from the file again, and so need no room in the cursor.
        self._header_there = False
        self._running: asyncio.Future[Any] | None = None

    async def open(self, cursor: Any) -> None:
        """Open the file. `cursor` as `flush` gave it, or None."""
        if self._columns is None and isinstance(cursor, dict) and cursor.get("columns"):
            self._columns = tuple(cursor["columns"])
        await self._in_thread(lambda: self._output.open(cursor))
        if self._config.format == "csv" and self._columns is None and isinstance(self._output, Output):
            first = b"" if self._output.empty else await self._in_thread(self._output.first_line)
            self._columns = parse_header(first, self._config.delimiter) or None
        self._set_header()
        if self._config.avro is not None:
            try:
                await self._in_thread(self._begin_blocks)
            except Exception:
                # A file that is refused is left as it was, free for others, and nothing is remembered of it.
                await self._in_thread(self._output.publish)
                await self.close()
                raise

    def _begin_blocks(self) -> None:
        """Records go into blocks: of the file that is there, or of a new one. Raises FatalError, ConfigError."""
        from streamd.codecs.avro.codec import own_schema
        from streamd.codecs.avro.container import ContainerWriting, continued

        assert self._config.avro is not None
        schema = own_schema(self._config.avro, CodecContext(base_dir=self._context.base_dir))
        assert schema is not None
        file = self._output.current
        if file is None or file.length == 0:
            blocks = ContainerWriting(schema, _CODECS[self._config.compression])
        else:
            blocks = continued(schema, file.read, file.length, file.path)
        self._output.header, self._output.pack = blocks.header, blocks.block

    def write(self, rows: Sequence[Row]) -> list[tuple[int, Exception]]:
        """Make lines of the rows. Refuses those that have no value, or do not fit the columns."""
        values = [row[1] for row in rows]
        if self._together and set(map(type, values)) == {bytes}:
            # A copy of all lines costs far less than one of each. Newlines in a value show in the count.
            text = b"\n".join([*values, b""])
            if text.count(b"\n") == len(values):
                self._waiting.add([text])
                return []
        refused: list[tuple[int, Exception]] = []
        lines: list[bytes] = []
        line_of = self._csv_line if self._config.format == "csv" else _json_line
        if self._config.format == "text":
            line_of = _text_line
        elif not in_lines(self._config.format):
            line_of = _datum
        for index, value in enumerate(values):
            try:
                lines.append(line_of(value))
            except LoadError as error:
                refused.append((index, error))
        self._waiting.add(lines)
        return refused

    @property
    def backlog(self) -> int:
        """Bytes not yet written."""
        return self._waiting.size + sum(map(len, self._moving))

    async def drain(self) -> None:
        """Write when there is a batch."""
        if self._moving or self._waiting.due:
            await self._write_out()

    async def flush(self) -> Any:
        """Write everything, have it on disk, and give the cursor."""
        await self._write_out()
        cursor: dict[str, Any] = await self._in_thread(lambda: self._output.sync(self._clock.now_ms()))
        if self._columns is not None and self._config.columns is None and not await self._has_header():
            cursor["columns"] = list(self._columns)
        return cursor

    async def _has_header(self) -> bool:
        """Whether the file's own first line says what the columns are. A row of files has that in others, too."""
        if not self._header_there and isinstance(self._output, Output) and not self._output.empty:
            first = await self._in_thread(self._output.first_line)
            self._header_there = parse_header(first, self._config.delimiter) == self._columns
        return self._header_there

    async def committed(self) -> None:
        """Let full files appear."""
        await self._in_thread(self._output.publish)

    async def close(self) -> None:
        """Close the file, once nothing is writing it."""
        if self._running is not None:
            await asyncio.wait((self._running,))
            self._running.exception()
        try:
            await self._in_thread(self._output.close)
        except Exception:
            # The next start repairs what this left.
            return

    async def _write_out(self) -> None:
        self._moving += self._waiting.take()
        if self._moving:
            await self._in_thread(lambda: self._output.write(self._moving))

    async def _in_thread(self, work: Callable[[], R]) -> R:
        """Run it in a thread to its end, also when the wait for it is cancelled; `close` waits for it then."""
        running = asyncio.get_running_loop().run_in_executor(None, work)
        self._running = running
        result = await asyncio.shield(running)
        self._running = None
        return result

    def _csv_line(self, value: Any) -> bytes:
        document = parsed(value) if isinstance(value, bytes) else value
        if type(document) is not dict:
            raise LoadError("the record is no document, expected fields for the columns of a CSV file")
        if self._columns is None:
            self._columns = tuple(document)
            self._set_header()
        return format_row(in_columns(document, self._columns, "the file"), self._config.delimiter) + b"\n"

    def _set_header(self) -> None:
        if self._config.format == "csv" and self._columns is not None:
            self._output.header = format_row(self._columns, self._config.delimiter) + b"\n"


def _json_line(value: Any) -> bytes:
    if value.__class__ is bytes:
        return json_line(value)
    if value is None:
        raise LoadError("the record has no value (a tombstone), which a file cannot hold")
    return encode(value) + b"\n"


def _datum(value: Any) -> bytes:
    if value.__class__ is not bytes:
        raise LoadError("the record has no value (a tombstone), which a file cannot hold")
    return bytes(value)


def _text_line(value: Any) -> bytes:
    return text_line(_datum(value))

"""Reads a topic of the embedded log, one task for each partition.

The embedded log is one SQLite file in the app's folder for state; it needs no server, and several pipelines and worker
processes share it. Positions are committed with the output, in the same transaction of that file. `start` is where a
partition begins that has no position yet. The topic is made when it is missing (see `create_topics` in streamd.yaml).

```yaml
source:
  log:
    topic: orders
    start: earliest
```

Delivery: exactly once with `log` sinks and every sink that keeps a cursor, whatever fails; for other sinks see there.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from streamd.codecs import JSON, BesideFormat, TopicFormat
from streamd.codecs.beside import READ_HEADERS, READ_KEY
from streamd.component.context import PipelineContext
from streamd.component.event_time import EventTimeField
from streamd.component.model import Model
from streamd.component.partitioning import PARTITIONED_BY, PartitionedBy
from streamd.component.source import Reader
from streamd.component.spec import source
from streamd.errors import NotFoundError, PositionLostError
from streamd.record import Position
from streamd.transport.embedded.log import EmbeddedLog, Stream, log_path
from streamd.transport.embedded.reader import LogReader
from streamd.transport.embedded.topic import TopicName, opened, prepare_topic


class LogSourceConfig(Model):
    """Settings of the log source."""

    topic: TopicName = Field(description="The topic to read.", examples=["orders"])
    partitions: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="How many partitions the topic has; made with that many (1 without it), refused with others.",
        examples=[4],
    )
    format: TopicFormat = Field(JSON, description="What a record's value is.", examples=["json"])
    key_format: BesideFormat = READ_KEY
    header_formats: dict[str, BesideFormat] = READ_HEADERS
    start: Literal["earliest", "latest"] = Field(
        "earliest", description="Where to begin in a partition that has no position yet.", examples=["latest"]
    )
    on_position_lost: Literal["fail", "earliest", "latest"] = Field(
        "fail",
        description="What to do when retention has deleted the records to go on from: stop, or go on at the earliest "
        "or latest record; what lies between is lost.",
        examples=["earliest"],
    )
    tombstones: Literal["error", "forward", "drop"] = Field(
        "error",
        description="What a record without value is: an error, passed on to the sinks past all stages, or left out.",
        examples=["forward"],
    )
    event_time: EventTimeField | None = Field(
        None,
        description="The field with the record's time, or {field, out_of_order, idle, max_future}.",
        examples=["ts"],
    )
    partitioned_by: PartitionedBy = PARTITIONED_BY


@source("log", config=LogSourceConfig, transport="embedded", single=lambda config: config.partitions in (None, 1))
class LogSource:
    """A topic of the app's embedded log."""

    position_type = int

    def __init__(self, config: LogSourceConfig, context: PipelineContext) -> None:
        self._config = config
        self._context = context

    async def prepare(self) -> None:
        """Check that the topic is there, or make it."""
        await prepare_topic(self._context, self._config.topic, self._config.partitions)

    async def partitions(self) -> int:
        """How many partitions the topic has."""
        async with opened(self._context) as log:
            found = await log.partitions(self._config.topic)
        if found is None:
            raise NotFoundError(f"the embedded log has no topic {self._config.topic!r}")
        return found

    async def open(self, partition: int, position: Position | None, task: Any = None) -> Reader:
        """Read on from an offset, or from `start`."""
        log = EmbeddedLog.acquire(log_path(self._context.state_dir, self._context.app))
        try:
            stream = await log.stream(self._config.topic, partition)
            return LogReader(log, stream, self._offset(stream, position))
        except BaseException:
            log.let_go()
            raise

    async def end(self, partition: int) -> int:
        """The offset behind the last record."""
        async with opened(self._context) as log:
            return (await log.stream(self._config.topic, partition)).end

    async def forget(self, partition: int, before: int) -> None:
        """Delete what lies before an offset: it will not be read again, by anybody."""
        async with opened(self._context) as log:
            await log.forget(self._config.topic, partition, before)

    def _offset(self, stream: Stream, position: Position | None) -> int:
        if position is None:
            return stream.end if self._config.start == "latest" else stream.start
        if stream.start <= position <= stream.end:
            return int(position)
        policy = self._config.on_position_lost
        if policy == "fail":
            raise PositionLostError(
                f"topic {stream.topic!r} partition {stream.partition} holds offsets {stream.start} to {stream.end}, "
                f"the position to go on from is {position}; on_position_lost says what else to do"
            )
        return stream.end if policy == "latest" else stream.start

    async def close(self) -> None:
        """Nothing is held between readers."""

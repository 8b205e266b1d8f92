"""Reads a topic of Kafka, one task for each partition.

Reads committed records only: of transactions that were aborted nothing is seen. Positions are committed by streamd with
the output, in the same transaction, to the pipeline's consumer group; `start` is where a partition begins that has no
position yet. The cluster is the one of the pipeline's `kafka:` section, or else of streamd.yaml.

```yaml
source:
  kafka:
    topic: orders
    event_time: {field: ts, out_of_order: 5s}
```

Delivery: exactly once with sinks in Kafka, whatever fails; for other sinks see there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import structlog
from pydantic import Field, PlainValidator, WithJsonSchema, field_validator

from streamd.codecs import JSON, BesideFormat, TopicFormat
from streamd.codecs.beside import READ_HEADERS, READ_KEY
from streamd.component.context import PipelineContext
from streamd.component.event_time import EventTimeField
from streamd.component.fields import ByteSize
from streamd.component.model import Model
from streamd.component.partitioning import PARTITIONED_BY, PartitionedBy
from streamd.component.source import Reader
from streamd.component.spec import source
from streamd.errors import PositionLostError
from streamd.record import Position, RawRecord
from streamd.transport.kafka.admin import open_admin
from streamd.transport.kafka.client import EARLIEST, LATEST, KafkaClient
from streamd.transport.kafka.options import OF_A_SOURCE, check_options
from streamd.transport.kafka.reader import PartitionReader
from streamd.transport.kafka.topic import CreateTopic, TopicName, cluster_of, prepare_topic

log = structlog.get_logger(__name__)

_MARKS: Mapping[str, int] = {"earliest": EARLIEST, "latest": LATEST}
_START_HINT = "expected earliest, latest, or {timestamp: 2026-01-31T12:00:00Z} (or ms since the epoch)"


def _start(value: object) -> int:
    """Kafka's own mark for earliest and latest, ms since the epoch for a time."""
    if isinstance(value, str) and value in _MARKS:
        return _MARKS[value]
    if isinstance(value, int) and not isinstance(value, bool) and (value >= 0 or value in _MARKS.values()):
        return value
    if not isinstance(value, Mapping) or set(value) != {"timestamp"}:
        raise ValueError(_START_HINT)
    time = value["timestamp"]
    if isinstance(time, int) and not isinstance(time, bool) and time >= 0:
        return time
    try:
        moment = datetime.fromisoformat(time)
    except (TypeError, ValueError):
        raise ValueError(_START_HINT) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, int(moment.timestamp() * 1000))


_TIME_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}
Start = Annotated[
    int,
    PlainValidator(_start),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["earliest", "latest"]},
                {
                    "type": "object",
                    "properties": {"timestamp": _TIME_SCHEMA},
                    "required": ["timestamp"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class KafkaSourceConfig(Model):
    """Settings of the kafka source."""

    topic: TopicName = Field(description="The topic to read.", examples=["orders"])
    format: TopicFormat = Field(JSON, description="What a record's value is.", examples=["json"])
    key_format: BesideFormat = READ_KEY
    header_formats: dict[str, BesideFormat] = READ_HEADERS
    group: str | None = Field(
        None,
        description="The consumer group that keeps the positions; `streamd.APP.PIPELINE` without it. All sources of a "
        "pipeline have the same.",
        examples=["orders-eu"],
        min_length=1,
        max_length=249,
    )
    start: Start = Field(
        EARLIEST,
        description="Where to begin in a partition that has no position yet: earliest, latest, or {timestamp: …}.",
        examples=["latest"],
    )
    end: Literal["latest"] | None = Field(
        None,
        description="`latest`: read what is there when a task starts, and then be done, as with a file: all windows "
        "are closed. Without it a topic has no end.",
        examples=["latest"],
    )
    span: dict[int, tuple[int, int]] | None = Field(
        None,
        description="Read only these offsets of each partition, the first and the one behind the last, as "
        "`streamd replay` does; nothing of partitions that are not named. The topic has no end by that: windows stay "
        "open.",
        examples=[{0: [120, 4500]}],
    )
    on_position_lost: Literal["fail", "earliest", "latest"] = Field(
        "fail",
        description="What to do when retention has deleted the records to go on from: stop, or go on at the earliest "
        "or latest record, without what lies between.",
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
    max_bytes: ByteSize | None = Field(
        None,
        description="Bytes read at once from a partition; twice as much may be held in memory. 2 MiB without it.",
        examples=["1MiB"],
        ge=1024,
    )
    create: CreateTopic | None = Field(
        None, description="How to make the topic when it is missing.", examples=[{"partitions": 12}]
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Settings of the reading client by their Kafka names.",
        examples=[{"fetch.min.bytes": 65536}],
    )

    @field_validator("options", mode="before")
    @classmethod
    def _known_options(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            raise ValueError("expected a mapping of Kafka client settings, such as {fetch.min.bytes: 65536}")
        return check_options({str(name): item for name, item in value.items()}, "consumer", OF_A_SOURCE)


@source("kafka", config=KafkaSourceConfig, transport="kafka", bounded=lambda config: config.end is not None)
class KafkaSource:
    """A topic. Its readers share one client, which is opened with the first of them."""

    position_type = int

    def __init__(self, config: KafkaSourceConfig, context: PipelineContext) -> None:
        self._config = config
        self._context = context
        self._cluster = cluster_of(context, f"kafka source {config.topic}")
        self._settings = self._cluster.with_options("consumer", config.options)
        self._client: KafkaClient | None = None
        self._opening = asyncio.Lock()

    async def prepare(self) -> None:
        """Check that the topic is there, or make it."""
        config = self._config
        await prepare_topic(self._cluster, config.topic, self._context.create_topics, config.create)

    async def partitions(self) -> int:
        """How many partitions the topic has now."""
        async with open_admin(self._cluster) as admin:
            return await admin.partitions(self._config.topic)

    async def open(self, partition: int, position: Position | None, task: Any = None) -> Reader:
        """Read on from an offset, or from `start`."""
        client = await self._shared_client()
        span = None if self._config.span is None else self._config.span.get(partition, (0, 0))
        if position is None and span is not None:
            position = span[0]
        if position is None:
            position = await client.find_offset(self._config.topic, partition, self._config.start)
        reader: Any = self._reader(client, partition, position)
        if self._config.on_position_lost != "fail":
            reader = _RecoveringReader(self, client, partition, reader)
        if span is not None:
            return _SpanReader(reader, span[1])
        if self._config.end is None:
            return reader  # type: ignore[no-any-return]
        return _EndingReader(reader, await client.find_offset(self._config.topic, partition, LATEST))

    async def end(self, partition: int) -> int:
        """The offset behind the last record that can be read now, which no open transaction holds back."""
        client = await self._shared_client()
        return await client.find_offset(self._config.topic, partition, LATEST)

    async def recover(self, client: KafkaClient, partition: int, lost: Position) -> PartitionReader:
        """A reader where `on_position_lost` says, in place of one whose position is gone."""
        found = await client.find_offset(self._config.topic, partition, _MARKS[self._config.on_position_lost])
        log.warning(
            "position was lost, records were skipped",
            topic=self._config.topic, partition=partition, position=lost, continues_at=found,
        )  # fmt: skip
        return self._reader(client, partition, found)

    async def forget(self, partition: int, before: int) -> None:
        """Delete what lies before an offset: it will not be read again, by anybody. Raises AccessDeniedError."""
        client = await self._shared_client()
        await client.delete_records(self._config.topic, partition, before)

    async def close(self) -> None:
        """Close the client."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _shared_client(self) -> KafkaClient:
        async with self._opening:
            if self._client is None:
                client = KafkaClient(self._settings.client_arguments("consumer"))
                try:
                    await client.start()
                except BaseException:
                    await client.close()
                    raise
                self._client = client
            return self._client

    def _reader(self, client: KafkaClient, partition: int, position: int) -> PartitionReader:
        def option(name: str) -> Any:
            return self._settings.option("consumer", name)

        limit = self._config.max_bytes or min(option("max.partition.fetch.bytes"), option("fetch.max.bytes"))
        return PartitionReader(
            client,
            self._config.topic,
            partition,
            position,
            max_bytes=limit,
            min_bytes=option("fetch.min.bytes"),
            max_wait_ms=option("fetch.max.wait.ms"),
            check_crcs=option("check.crcs"),
        )


class _RecoveringReader:
    """A partition's reader that goes on elsewhere when its position is lost."""

    def __init__(self, owner: KafkaSource, client: KafkaClient, partition: int, reader: PartitionReader) -> None:
        self._owner = owner
        self._client = client
        self._partition = partition
        self._reader = reader

    async def read(self, max_records: int, timeout: float) -> Sequence[RawRecord]:
        """As `Reader.read`, but a lost position is not an error."""
        try:
            return await self._reader.read(max_records, timeout)
        except PositionLostError:
            recovered = await self._owner.recover(self._client, self._partition, self._reader.position())
            lost, self._reader = self._reader, recovered
            await lost.close()
            return ()

    def position(self) -> Position:
        """Where to go on."""
        return self._reader.position()

    def lag(self) -> int | None:
        """Records up to the end, as last heard."""
        return self._reader.lag()

    @property
    def unstable(self) -> tuple[int, float]:
        """As the reader's own."""
        return self._reader.unstable

    @property
    def stale(self) -> bool:
        """As the reader's own."""
        return self._reader.stale

    @property
    def ended(self) -> bool:
        """A topic has no end."""
        return False

    async def close(self) -> None:
        """Release everything."""
        await self._reader.close()


class _EndingReader:
    """A partition's reader that has read everything once it is at `end`."""

    def __init__(self, reader: Reader, end: int) -> None:
        self._reader, self._end = reader, end

    async def read(self, max_records: int, timeout: float) -> Sequence[RawRecord]:
        """As the reader's own; nothing more at the end."""
        return () if self.ended else await self._reader.read(max_records, timeout)

    @property
    def ended(self) -> bool:
        """Everything that was there has been read."""
        return bool(self._reader.position() >= self._end)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def position(self) -> Position:
        """Where to go on."""
        return self._reader.position()

    def lag(self) -> int | None:
        """Records up to the end, as last heard."""
        return self._reader.lag()

    async def close(self) -> None:
        """Release everything."""
        await self._reader.close()


class _SpanReader:
    """A partition's reader for which there is nothing at `end` and behind it."""

    def __init__(self, reader: Reader, end: int) -> None:
        self._reader, self._end = reader, end

    async def read(self, max_records: int, timeout: float) -> Sequence[RawRecord]:
        """As the reader's own, without what lies behind the end."""
        if self.lag() == 0:
            await asyncio.sleep(timeout)
            return ()
        records = await self._reader.read(max_records, timeout)
        if records and records[-1].offset >= self._end:
            return [record for record in records if record.offset < self._end]
        return records

    def position(self) -> Position:
        """Where to go on."""
        return min(self._reader.position(), self._end)

    def lag(self) -> int | None:
        """Offsets up to the end."""
        return max(0, self._end - int(self._reader.position()))

    @property
    def ended(self) -> bool:
        """It waits for more as one of a whole topic does."""
        return False

    async def close(self) -> None:
        """Release everything."""
        await self._reader.close()

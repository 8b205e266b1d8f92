"""Writes records to a topic of Kafka.

A record with a key goes to the partition where every other Kafka client would put it (murmur2), so that records of one
key stay in order; records without a key go to the partitions in turn, some hundred at a time. The topic is made when
it is missing (see `create_topics` in streamd.yaml). The cluster is the one of the pipeline's `kafka:` section, or else
of streamd.yaml; how large batches get, and how long they wait, is said there, under `options`, for all Kafka sinks.

```yaml
sink:
  kafka:
    topic: big-orders
    key: user
    create: {partitions: 12}
```

Delivery: exactly once for readers of committed records: output and positions are one transaction. With
`delivery: at_least_once`, and in a task whose checkpoint is not Kafka's, at least once: after a crash some records are
written again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, Self

from pydantic import Field, model_validator

from streamd.codecs import JSON, BesideFormat, TopicFormat
from streamd.codecs.beside import WRITTEN_HEADERS, WRITTEN_KEY, refuse_unwritten
from streamd.component.context import PipelineContext, TaskContext
from streamd.component.fields import ExpressionField
from streamd.component.model import Model
from streamd.component.sink import Writer
from streamd.component.spec import sink
from streamd.record import Row
from streamd.transport.kafka.producer import AtLeastOnceProducer
from streamd.transport.kafka.topic import CreateTopic, TopicName, cluster_of, prepare_topic
from streamd.transport.partitioner import Partitioner


class KafkaSinkConfig(Model):
    """Settings of the kafka sink."""

    topic: TopicName = Field(description="The topic to write to.", examples=["big-orders"])
    format: TopicFormat = Field(JSON, description="How a document is written.", examples=["json"])
    key: ExpressionField | None = Field(
        None, description="The record's key; without it the key that the record came with.", examples=["user"]
    )
    key_format: BesideFormat = WRITTEN_KEY
    timestamp: ExpressionField | None = Field(
        None, description="The record's time in ms since the epoch; without it the time it came with.", examples=["ts"]
    )
    headers: Mapping[str, ExpressionField] = Field(
        default_factory=dict,
        description="Headers to add: name → value, a text as UTF-8, null without a value, anything else as JSON.",
        examples=[{"origin": "_topic"}],
    )
    header_formats: dict[str, BesideFormat] = WRITTEN_HEADERS
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] | None = Field(
        None,
        description="How batches are compressed; without it as `compression.type` in the `kafka:` section says.",
        examples=["zstd"],
    )
    create: CreateTopic | None = Field(
        None, description="How to make the topic when it is missing.", examples=[{"partitions": 12}]
    )

    @model_validator(mode="after")
    def _headers_are_its_own(self) -> Self:
        refuse_unwritten(self.headers, self.header_formats)
        return self


class _Output(Protocol):
    """What rows are appended to: the task's Kafka transaction, or a producer of our own."""

    def append_rows(self, topic: str, rows: Sequence[Row], partition_of: Any) -> list[tuple[int, Exception]]: ...


@sink("kafka", config=KafkaSinkConfig, transport="kafka", delivery="exactly once")
class KafkaSink:
    """A topic of the pipeline's cluster."""

    def __init__(self, config: KafkaSinkConfig, context: PipelineContext) -> None:
        self._config = config
        self._context = context
        self._cluster = cluster_of(context, f"kafka sink {config.topic}")

    async def prepare(self) -> None:
        """Check that the topic is there, or make it."""
        config = self._config
        await prepare_topic(self._cluster, config.topic, self._context.create_topics, config.create)

    async def open(self, task: TaskContext, cursor: Any) -> Writer:
        """Append to the task's transaction; where that is not Kafka's, write at least once."""
        if task.transport == "kafka":
            transaction: Any = task.transaction
            return _Appending(self._config.topic, transaction, await self._partitioner(transaction, task))
        producer = AtLeastOnceProducer(self._cluster)
        try:
            await producer.open()
            return _Producing(self._config.topic, producer, await self._partitioner(producer, task))
        except BaseException:
            producer.close()
            raise

    async def close(self) -> None:
        """Nothing is held between writers."""

    async def _partitioner(self, output: Any, task: TaskContext) -> Partitioner:
        if self._config.compression is not None:
            output.compress(self._config.topic, self._config.compression)
        return Partitioner(await output.partition_count(self._config.topic), task.task.partition)


class _Appending:
    """Appends to the task's transaction: it alone pushes out and makes durable."""

    def __init__(self, topic: str, output: _Output, partitioner: Partitioner) -> None:
        self._topic = topic
        self._append_rows = output.append_rows
        self._partition_of = partitioner.partition

    def write(self, rows: Sequence[Row]) -> list[tuple[int, Exception]]:
        """Append. Refuses rows that are too large for the topic."""
        return self._append_rows(self._topic, rows, self._partition_of)

    @property
    def backlog(self) -> int:
        """What waits is the transaction's to count."""
        return 0

    async def drain(self) -> None:
        """The task drains its transaction itself."""

    async def flush(self) -> Any:
        """The transaction's commit covers everything: there is no cursor."""
        return None

    async def committed(self) -> None:
        """Nothing was withheld."""

    async def close(self) -> None:
        """The transaction belongs to the task."""


class _Producing(_Appending):
    """Has a producer of its own, which is flushed before the task's checkpoint."""

    def __init__(self, topic: str, producer: AtLeastOnceProducer, partitioner: Partitioner) -> None:
        super().__init__(topic, producer, partitioner)
        self._producer = producer

    @property
    def backlog(self) -> int:
        """Bytes taken and not yet acknowledged."""
        return self._producer.backlog

    async def drain(self) -> None:
        """Return when little is under way."""
        await self._producer.drain()

    async def flush(self) -> Any:
        """Return when everything is acknowledged."""
        await self._producer.flush()

    async def close(self) -> None:
        """Drop what is not acknowledged."""
        self._producer.close()

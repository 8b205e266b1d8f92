"""Appends records to a topic of the embedded log.

The embedded log is one SQLite file in the app's folder for state; it needs no server. Records with a key go to the same
partition as in Kafka (murmur2), records without one to each partition in turn. The topic is made when it is missing
(see `create_topics` in streamd.yaml); `retention` bounds what it keeps.

```yaml
sink:
  log:
    topic: big-orders
    partitions: 4
    key: user
```

Delivery: exactly once: the records are part of the task's checkpoint. In a pipeline that also has Kafka sinks the
checkpoint is Kafka's, and this sink delivers at least once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import Field, model_validator

from streamd.codecs import JSON, BesideFormat, TopicFormat
from streamd.codecs.beside import WRITTEN_HEADERS, WRITTEN_KEY, refuse_unwritten
from streamd.component.context import PipelineContext, TaskContext
from streamd.component.fields import ExpressionField
from streamd.component.model import Model
from streamd.component.sink import Writer
from streamd.component.spec import sink
from streamd.record import Row
from streamd.transport.embedded.log import log_path
from streamd.transport.embedded.topic import TopicName, TopicRetention, prepare_topic
from streamd.transport.embedded.transaction import EmbeddedTransaction
from streamd.transport.partitioner import Partitioner


class LogSinkConfig(Model):
    """Settings of the log sink."""

    topic: TopicName = Field(description="The topic to append to.", examples=["big-orders"])
    partitions: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="How many partitions the topic has; made with that many (1 without it), refused with others.",
        examples=[4],
    )
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
    retention: TopicRetention | None = Field(
        None, description="What the topic keeps; without it everything.", examples=[{"age": "7d"}]
    )

    @model_validator(mode="after")
    def _headers_are_its_own(self) -> Self:
        refuse_unwritten(self.headers, self.header_formats)
        return self


@sink("log", config=LogSinkConfig, transport="embedded", delivery="exactly once")
class LogSink:
    """A topic of the app's embedded log."""

    def __init__(self, config: LogSinkConfig, context: PipelineContext) -> None:
        self._config = config
        self._context = context

    async def prepare(self) -> None:
        """Check that the topic is there, or make it."""
        await self._partitions()

    async def open(self, task: TaskContext, cursor: Any) -> Writer:
        """Append as part of the task's transaction; where that is another transport's, in transactions of our own."""
        partitioner = Partitioner(await self._partitions(), task.task.partition)
        if isinstance(task.transaction, EmbeddedTransaction):
            return _LogWriter(self._config.topic, partitioner, task.transaction)
        own = EmbeddedTransaction(
            log_path(self._context.state_dir, self._context.app),
            f"{task.task}.{self._config.topic}",
            self._context.clock,
        )
        await own.open()
        return _CommittingWriter(self._config.topic, partitioner, own)

    async def close(self) -> None:
        """Nothing is held between writers."""

    async def _partitions(self) -> int:
        config = self._config
        return await prepare_topic(self._context, config.topic, config.partitions, config.retention)


class _LogWriter:
    """Appends to the task's transaction: it alone makes things durable."""

    def __init__(self, topic: str, partitioner: Partitioner, transaction: EmbeddedTransaction) -> None:
        self._topic = topic
        self._partitioner = partitioner
        self._transaction = transaction

    def write(self, rows: Sequence[Row]) -> list[tuple[int, Exception]]:
        """Append, each row to its partition. Refuses rows that are too large."""
        if self._partitioner.count == 1:
            return self._transaction.extend(self._topic, 0, rows)
        by_partition: dict[int, tuple[list[Row], list[int]]] = {}
        by_key, partition_of = self._partitioner.by_key, self._partitioner.partition
        for index, row in enumerate(rows):
            key = row[0]
            partition = by_key[key] if key is not None else partition_of(None)
            group = by_partition.get(partition)
            if group is None:
                by_partition[partition] = ([row], [index])
            else:
                group[0].append(row)
                group[1].append(index)
        refused: list[tuple[int, Exception]] = []
        for partition, (group_rows, indexes) in by_partition.items():
            for at, error in self._transaction.extend(self._topic, partition, group_rows):
                refused.append((indexes[at], error))
        return sorted(refused, key=lambda item: item[0])

    @property
    def backlog(self) -> int:
        """Nothing waits here."""
        return 0

    async def drain(self) -> None:
        """The task drains its transaction itself."""

    async def flush(self) -> Any:
        """The transaction's commit writes everything: there is no cursor."""
        return None

    async def committed(self) -> None:
        """Nothing was withheld."""

    async def close(self) -> None:
        """The transaction belongs to the task."""


class _CommittingWriter(_LogWriter):
    """Commits by itself, before the task's checkpoint: at least once."""

    @property
    def backlog(self) -> int:
        """Bytes that the next flush writes."""
        return self._transaction.backlog

    async def drain(self) -> None:
        """Put much of it down early."""
        await self._transaction.drain()

    async def flush(self) -> Any:
        """Commit what was taken."""
        await self._transaction.commit()

    async def close(self) -> None:
        """Drop what is not committed."""
        await self._transaction.close()

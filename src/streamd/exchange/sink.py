"""The end of an exchange that records go into: each to the partition of its key, inside the task's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamd.component.context import PipelineContext, TaskContext
from streamd.component.sink import Sink, Writer
from streamd.errors import FatalError
from streamd.exchange.control import Control, headers_of
from streamd.exchange.settings import ExchangeSettings
from streamd.record import BEGINNING, END, Row


class ExchangeSink:
    """The sink of one exchange."""

    def __init__(self, settings: ExchangeSettings, context: PipelineContext) -> None:
        self._settings, self._context = settings, context
        self._sink: Sink
        if settings.transport == "kafka":
            from streamd.sinks.kafka import KafkaSink, KafkaSinkConfig

            self._sink = KafkaSink(KafkaSinkConfig.model_validate({"topic": settings.topic}), context)
        else:
            from streamd.sinks.log import LogSink, LogSinkConfig

            self._sink = LogSink(LogSinkConfig.model_validate({"topic": settings.topic}), context)

    async def prepare(self) -> None:
        """The topic is made by the source, which knows how large."""

    async def open(self, task: TaskContext, cursor: Any) -> Writer:
        """Append to the task's transaction."""
        if task.transport != self._settings.transport:
            raise FatalError(f"The exchange {self._settings.topic} is not in the transaction of its task.")
        writer = await self._sink.open(task, None)
        return ExchangeWriter(writer, self._settings.topic, await self._partitions(task), task)

    async def close(self) -> None:
        """Release what the sink holds."""
        await self._sink.close()

    async def _partitions(self, task: TaskContext) -> int:
        if self._settings.transport == "kafka":
            transaction: Any = task.transaction
            return int(await transaction.partition_count(self._settings.topic))
        from streamd.transport.embedded.topic import prepare_topic

        return await prepare_topic(self._context, self._settings.topic, None)


class ExchangeWriter:
    """Appends records; at each checkpoint it tells every partition how far the task is, if that has changed."""

    def __init__(self, writer: Writer, topic: str, partitions: int, task: TaskContext) -> None:
        self._writer, self._topic, self._partitions, self._task = writer, topic, partitions, task
        self._said: Control | None = None
        self._finite = BEGINNING

    def write(self, rows: Sequence[Row]) -> list[tuple[int, Exception]]:
        """Append, each row to the partition of its key."""
        return self._writer.write(rows)

    @property
    def backlog(self) -> int:
        """As the transport's own."""
        return self._writer.backlog

    async def drain(self) -> None:
        """As the transport's own."""
        await self._writer.drain()

    @property
    def due(self) -> bool:
        """Whether there is something to tell. Time that only goes on while all is quiet is nothing new."""
        now, said = self._now(), self._said
        return now != said and not (said is not None and now.idle and said.idle and not now.over)

    async def flush(self) -> Any:
        """Tell what is to be told, in the same transaction."""
        if self.due:
            self._said = control = self._now()
            headers, now_ms = headers_of(control), self._task.pipeline.clock.now_ms()
            for partition in range(self._partitions):
                self._task.transaction.append(self._topic, partition, None, None, now_ms, headers)
        return await self._writer.flush()

    async def committed(self) -> None:
        """As the transport's own."""
        await self._writer.committed()

    async def close(self) -> None:
        """Release what the writer holds."""
        await self._writer.close()

    def _now(self) -> Control:
        watermark = self._task.watermark()
        if watermark < END:
            self._finite = max(self._finite, watermark)
        over = watermark >= END
        idle = self._task.idle() and not over
        return Control(self._task.task.partition, self._task.tasks, self._finite, idle, over)

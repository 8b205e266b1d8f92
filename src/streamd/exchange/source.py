"""The end of an exchange that records come out of: one task for each partition."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from streamd.component.context import PipelineContext
from streamd.component.source import Reader
from streamd.errors import StreamdError
from streamd.exchange.reader import ExchangeReader
from streamd.exchange.settings import ExchangeSettings
from streamd.record import Position

log = structlog.get_logger(__name__)


class ExchangeSource:
    """The source of one exchange."""

    position_type = int

    def __init__(self, settings: ExchangeSettings, context: PipelineContext) -> None:
        self._settings, self._context = settings, context
        self._purges: set[asyncio.Task[None]] = set()
        self._may_purge = True
        names = {"topic": settings.topic, "tombstones": "forward"}
        self._source: Any
        if settings.transport == "kafka":
            from streamd.sources.kafka import KafkaSource, KafkaSourceConfig

            self._source = KafkaSource(KafkaSourceConfig.model_validate(names), context)
        else:
            from streamd.sources.log import LogSource, LogSourceConfig

            self._source = LogSource(LogSourceConfig.model_validate(names), context)

    async def prepare(self) -> None:
        """Nothing: see `create_for`."""

    async def create_for(self, tasks: int) -> None:
        """Make the topic where it is missing, for so many tasks that write to it.

        Raises NotFoundError when it may not be made, FatalError when it is there with other partitions than it is to
        have.
        """
        settings, context = self._settings, self._context
        if settings.transport == "kafka":
            from streamd.transport.kafka.topic import cluster_of, prepare_exchange

            cluster = cluster_of(context, f"the exchange of stage {settings.stage}")
            await prepare_exchange(cluster, settings.topic, context.create_topics, settings.partitions, tasks)
        else:
            from streamd.transport.embedded.topic import prepare_exchange as prepare_embedded

            await prepare_embedded(context, settings.topic, settings.partitions, tasks)

    async def partitions(self) -> int:
        """How many partitions the topic has."""
        return int(await self._source.partitions())

    async def open(self, partition: int, position: Position | None, task: Any = None) -> Reader:
        """Read on from an offset, or from the beginning."""
        reader = await self._source.open(partition, position)

        def purge(before: Position) -> None:
            if self._may_purge:
                work = asyncio.create_task(self._purge(partition, before))
                self._purges.add(work)
                work.add_done_callback(self._purges.discard)

        return ExchangeReader(reader, self._context.run, self._context.clock, purge)

    async def close(self) -> None:
        """Release what the source holds."""
        for work in self._purges:
            work.cancel()
        await asyncio.gather(*self._purges, return_exceptions=True)
        await self._source.close()

    async def _purge(self, partition: int, before: int) -> None:
        try:
            await self._source.forget(partition, before)
        except StreamdError as error:
            self._may_purge = False
            log.warning(
                "What was read of an exchange cannot be deleted, and stays",
                topic=self._settings.topic, error=type(error).__name__, message=str(error),
            )  # fmt: skip

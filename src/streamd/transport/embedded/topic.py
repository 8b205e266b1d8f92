"""What sources and sinks of the embedded log share: the settings of a topic, and making it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, TypeAlias

from pydantic import Field

from streamd.component.context import PipelineContext
from streamd.component.fields import Duration
from streamd.component.model import Model
from streamd.errors import NotFoundError
from streamd.transport.embedded.jobs import Retention
from streamd.transport.embedded.log import EmbeddedLog, log_path

# Kafka's own rule, so that a pipeline can move from one transport to the other.
TopicName: TypeAlias = Annotated[str, Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$")]


class TopicRetention(Model):
    """What a topic keeps; what is older is deleted in whole batches, whether it was read or not."""

    records: int | None = Field(
        None, ge=1, description="Keep at least this many of the newest records per partition.", examples=[1_000_000]
    )
    age: Duration | None = Field(
        None, description="Keep records for at least this long after they were appended.", examples=["7d"]
    )


@asynccontextmanager
async def opened(context: PipelineContext) -> AsyncIterator[EmbeddedLog]:
    """The app's log, for the time of the block."""
    log = EmbeddedLog.acquire(log_path(context.state_dir, context.app))
    try:
        yield log
    finally:
        await log.release()


async def prepare_topic(
    context: PipelineContext, topic: str, partitions: int | None, retention: TopicRetention | None = None
) -> int:
    """Check that the topic is there with that many partitions, or make it. Gives the number of its partitions.

    Raises NotFoundError when it is missing and may not be made, FatalError when it has another number.
    """
    kept = Retention()
    if retention is not None:
        kept = Retention(retention.records, None if retention.age is None else int(retention.age * 1000))
    async with opened(context) as log:
        if not context.create_topics and await log.partitions(topic) is None:
            raise NotFoundError(
                f"the embedded log {log.path} has no topic {topic!r}, and create_topics is off; it has "
                f"{', '.join(await log.topics()) or 'none'}"
            )
        return await log.create_topic(topic, partitions, kept)


async def prepare_exchange(context: PipelineContext, topic: str, partitions: int | None, tasks: int) -> None:
    """Check that the topic of an exchange is there, or make it: with `partitions`, or as many as `tasks` write to it.

    Errors: as `prepare_topic`.
    """
    async with opened(context) as log:
        known = await log.partitions(topic)
    await prepare_topic(context, topic, partitions if partitions is not None or known is not None else tasks)

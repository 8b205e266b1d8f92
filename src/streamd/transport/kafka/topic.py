"""How a topic is named and made, as sources and sinks let a user say it."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from streamd.component.context import PipelineContext
from streamd.component.model import Model
from streamd.errors import ConfigError, FatalError, NotFoundError
from streamd.transport.kafka.admin import open_admin
from streamd.transport.kafka.settings import KafkaSettings

_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")


def _topic_name(value: str) -> str:
    if value in (".", "..") or not _NAME.fullmatch(value):
        raise ValueError("expected a topic's name: 1 to 249 of the characters A-Z a-z 0-9 . _ -")
    return value


TopicName = Annotated[str, AfterValidator(_topic_name)]


class CreateTopic(Model):
    """How a missing topic is made, where `create_topics` allows it at all. An existing topic is left as it is."""

    partitions: int | None = Field(
        None, description="How many partitions; the broker's default without it.", examples=[12], ge=1, le=100_000
    )
    replication_factor: int | None = Field(
        None,
        description="How many brokers keep each record; the broker's default without it.",
        examples=[3],
        ge=1,
        le=1000,
    )
    config: dict[str, str | int | float | bool] = Field(
        default_factory=dict,
        description="Further settings of the topic by their Kafka names.",
        examples=[{"retention.ms": -1, "cleanup.policy": "compact"}],
    )

    def texts(self) -> dict[str, str]:
        """`config` as Kafka wants it."""
        return {
            name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in self.config.items()
        }


def cluster_of(context: PipelineContext, component: str) -> KafkaSettings:
    """The cluster of a pipeline. Raises ConfigError when none is named."""
    settings = context.kafka
    if not isinstance(settings, KafkaSettings):
        raise ConfigError(
            f"{component} of pipeline {context.pipeline} needs a cluster: name one as "
            "`kafka: {bootstrap: host:port}` in the pipeline or in streamd.yaml"
        )
    return settings


async def prepare_topic(settings: KafkaSettings, topic: str, create: bool, how: CreateTopic | None) -> None:
    """Check that the topic is there, or make it. Raises NotFoundError when it is missing and may not be made."""
    async with open_admin(settings) as admin:
        if how is None:
            await admin.ensure_topic(topic, create)
        else:
            await admin.ensure_topic(topic, create, how.partitions, how.replication_factor, how.texts())


# What is read and committed is deleted by streamd itself, and nothing before that: the times of records are those of
# events, which may be long ago, or ahead.
_EXCHANGE = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "segment.bytes": "52428800",
}
_ANY_TIME = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(2**63 - 1)}


async def prepare_exchange(
    settings: KafkaSettings, topic: str, create: bool, partitions: int | None, tasks: int
) -> None:
    """Check that the topic of an exchange is there, or make it: with `partitions`, or as many as `tasks` write to it.

    Raises NotFoundError when it is missing and may not be made, FatalError when it has not `partitions`.
    """
    async with open_admin(settings) as admin:
        found = (await admin.topics([topic])).get(topic)
        wanted = partitions or tasks
        if found is None and not create:
            raise NotFoundError(
                f"The exchange {topic} does not exist, and streamd may not make it (`create_topics: false`): make it "
                f"with {wanted} partition{'' if wanted == 1 else 's'}, cleanup.policy=delete and retention.ms=-1."
            )
        if found is None:
            try:
                await admin.create_topic(topic, wanted, None, {**_EXCHANGE, **_ANY_TIME})
            except FatalError:
                # Brokers before 3.6 do not know the setting, and take any time.
                await admin.create_topic(topic, wanted, None, _EXCHANGE)
            found = await admin.ensure_topic(topic, create)
        if partitions not in (None, found.partitions):
            raise FatalError(
                f"The exchange {topic} has {found.partitions} partitions, the settings say {partitions}. The number "
                "cannot change, since keys would change their partition: set it back, or give the stage another id, "
                "which begins anew behind it."
            )

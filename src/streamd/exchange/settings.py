"""What the two ends of an exchange are told, and as what the plan knows them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from streamd.codecs import BesideFormat
from streamd.component.context import PipelineContext
from streamd.component.model import Model
from streamd.component.spec import ComponentSpec

Transport = Literal["kafka", "embedded"]


class ExchangeSettings(Model):
    """Of an exchange's sink, and of its source."""

    stage: str = Field(description="The stage that sets the key.")
    topic: str = Field(description="What the records go through.")
    transport: Transport = Field(description="Whose topic it is.")
    partitions: int | None = Field(None, description="How many partitions; without it as many as tasks write to it.")
    group: str | None = Field(None, description="The consumer group of the pipeline, where it names one.")
    by: str = Field(description="The key, for people.")
    keys: tuple[str, ...] = Field((), description="The key's expressions; none for the same key everywhere.")
    why: str = Field(description="Why there is an exchange, for people.")
    timed: bool = Field(description="Whether event time matters anywhere behind it.")
    format: Literal["json"] = Field("json", description="What a value is.")
    key_lost: bool = Field(False, description="What `_key` was before is not to be told any more.")
    header_formats: dict[str, BesideFormat] = Field(
        default_factory=dict, description="What headers are that are no text, as their sources say."
    )
    tombstones: Literal["forward"] = Field("forward", description="Records without value go on.")


def exchange_topic(app: str, pipeline: str, stage: str) -> str:
    """The topic of an exchange."""
    return f"streamd.{app}.{pipeline}.{stage}.exchange"


def sink_id(stage: str) -> str:
    """The id of an exchange's sink; no user can write such a one."""
    return f"{stage}.write"


def source_id(stage: str) -> str:
    """The id of an exchange's source."""
    return f"{stage}.read"


def _sink(settings: Any, context: PipelineContext) -> Any:
    # Here, since a plan must not load the clients of transports.
    from streamd.exchange.sink import ExchangeSink

    return ExchangeSink(settings, context)


def _source(settings: Any, context: PipelineContext) -> Any:
    from streamd.exchange.source import ExchangeSource

    return ExchangeSource(settings, context)


def sink_spec(transport: Transport) -> ComponentSpec:
    """An exchange's sink as a component."""
    return ComponentSpec("sink", "exchange", ExchangeSettings, _sink, transport=transport, delivery="exactly once")


def source_spec(transport: Transport) -> ComponentSpec:
    """An exchange's source as a component."""
    return ComponentSpec("source", "exchange", ExchangeSettings, _source, transport=transport)

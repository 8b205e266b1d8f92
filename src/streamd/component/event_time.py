"""The time of a record, as sources let a user say where it is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, model_validator

from streamd.component.fields import Duration, ExpressionField
from streamd.component.model import Model
from streamd.errors import ExtractError


class EventTime(Model):
    """When things happened, as opposed to when they are processed."""

    field: ExpressionField | None = Field(
        None,
        description="Where the time is: ms since the epoch (`ts * 1000` where it is seconds), or ISO 8601 text; "
        "without it the time that the source itself gives.",
        examples=["ts", "ts * 1000"],
    )
    clock: Literal["event", "processing"] = Field(
        "event",
        description="`processing` takes the time at which a record is processed, by this machine's clock: windows then "
        "depend on when a pipeline runs, and running it again gives others.",
        examples=["processing"],
    )
    out_of_order: Duration = Field(
        0.0, description="How much later than others a record may come and still be in time.", examples=["5s"]
    )
    idle: Duration | None = Field(
        None,
        description="A partition that is read to its end and quiet for this long does not hold back windows.",
        examples=["30s"],
    )
    max_future: Duration | None = Field(
        3600.0,
        description="A record further ahead in time is an error: one bad clock must not close all windows.",
        examples=["1h"],
    )

    @model_validator(mode="after")
    def _one_clock(self) -> EventTime:
        if self.clock == "processing" and self.field is not None:
            raise ValueError("`clock: processing` takes no time from the record: expected no `field`")
        return self


def _field_alone(value: object) -> object:
    return {"field": value} if isinstance(value, str) else value


class _OrField:
    """In the JSON schema: a field alone will do."""

    def __get_pydantic_json_schema__(self, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(core)]}


# `event_time: ts` stands for `event_time: {field: ts}`.
EventTimeField: TypeAlias = Annotated[EventTime, BeforeValidator(_field_alone), _OrField()]


def event_time(value: Any) -> int:
    """A field's value as event time: ms since the epoch as a number, or ISO 8601 text."""
    if type(value) is int:
        return value
    if type(value) is float and value == value and abs(value) < 1e17:
        return int(value)
    if type(value) is str:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ExtractError("the event time is text, but not an ISO 8601 time") from None
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    got = "a number that is no time" if type(value) is float else json_name(value)
    raise ExtractError(f"the event time must be a number of milliseconds or ISO 8601 text, this one is {got}")


_NAMES: Mapping[type, str] = {
    type(None): "null", list: "a list", dict: "an object", str: "a string", bool: "a boolean", int: "a number",
    float: "a number", bytes: "bytes",
}  # fmt: skip


def json_name(value: Any) -> str:
    """What a JSON value is, in words."""
    return _NAMES.get(type(value), type(value).__name__)

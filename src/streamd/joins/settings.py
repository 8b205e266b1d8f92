"""What a user writes of a join: its key, how far apart records may be, which input is a table."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from streamd.component.fields import Duration, ExpressionField
from streamd.component.model import Model


class TableInput(Model):
    """An input that is a table."""

    table: str = Field(description="Id of the source or stage that gives the table's records.", examples=["users"])
    ttl: Duration | None = Field(
        None,
        ge=0.001,
        description="How long a record of the table is kept that no other of its key replaces, in event time; without "
        "it for ever. For a stream that meets the latest version.",
        examples=["30d"],
    )

    def __str__(self) -> str:
        # What is kept depends on whether there is a time to live, and not on how long it is.
        return f"table={self.table!r}" + ("" if self.ttl is None else " ttl")


class Keys(Model):
    """The key of each side, where they differ."""

    left: list[ExpressionField] = Field(min_length=1, description="Of the left side.", examples=[["id"]])
    right: list[ExpressionField] = Field(min_length=1, description="Of the right side.", examples=[["order_id"]])

    @model_validator(mode="after")
    def _as_many(self) -> Keys:
        if len(self.left) != len(self.right):
            raise ValueError(f"the key has {len(self.left)} parts on the left, and {len(self.right)} on the right")
        return self


class Within(Model):
    """When right comes, seen from left."""

    before: Duration = Field(0.0, description="How much earlier than left it may be.", examples=["1m"])
    after: Duration = Field(0.0, description="How much later than left it may be.", examples=["10m"])


def _both_keys(value: object) -> object:
    if isinstance(value, dict):
        return {side: key if isinstance(key, list) else [key] for side, key in value.items()}
    both = value if isinstance(value, list) else [value]
    return {"left": both, "right": both}


def _both_ways(value: object) -> object:
    return value if isinstance(value, dict | Within) or value is None else {"before": value, "after": value}


_ON_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
        {
            "type": "object",
            "properties": {
                side: {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
                for side in ("left", "right")
            },
            "required": ["left", "right"],
            "additionalProperties": False,
        },
    ]
}
_DURATION_SCHEMA: dict[str, Any] = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}
_WITHIN_SCHEMA: dict[str, Any] = {
    "anyOf": [
        *_DURATION_SCHEMA["anyOf"],
        {
            "type": "object",
            "properties": {"before": _DURATION_SCHEMA, "after": _DURATION_SCHEMA},
            "additionalProperties": False,
        },
    ]
}

# `on: id`, `on: [a, b]` and `on: {left: a, right: b}`.
KeysField: TypeAlias = Annotated[Keys, BeforeValidator(_both_keys), WithJsonSchema(_ON_SCHEMA)]
# `within: 10m` and `within: {before: 1m, after: 10m}`.
WithinField: TypeAlias = Annotated[Within | None, BeforeValidator(_both_ways), WithJsonSchema(_WITHIN_SCHEMA)]

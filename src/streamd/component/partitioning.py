"""By what records are shared out among partitions: the setting of sources, and the key's bytes that decide it."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema

from streamd.component.fields import ExpressionField
from streamd.component.state import MAX_KEY_BYTES, key_of


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


_TEXTS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}

# The key's expressions in order, None where nothing is said.
PartitionedBy: TypeAlias = Annotated[list[ExpressionField] | None, BeforeValidator(_as_list), WithJsonSchema(_TEXTS)]

PARTITIONED_BY: Any = Field(
    None,
    description="Records are partitioned by this field (or these): all that have the same value are in one partition, "
    "as they are when they were written with it as their key (by murmur2 of its text or JSON, as Kafka clients do). "
    "Stages that work by this key then need no exchange.",
    examples=["user"],
)


def key_bytes(value: Any) -> bytes:
    """A value as the key of a record: a text as UTF-8, an integer as its digits, anything else as JSON.

    Values that are the same key of a store have the same bytes. Raises TransformError for null, what is no JSON, and
    more than 64 KiB.
    """
    key = key_of(value)
    if key.__class__ is str:
        return key.encode()
    return b"%d" % key if key.__class__ is int else key  # type: ignore[return-value]


def composite_bytes(values: list[Any]) -> bytes:
    """As `key_bytes`, for the key that several values are together: a JSON list of them."""
    return key_bytes([_same(value) if value.__class__ is float else value for value in values])


def _same(value: float) -> Any:
    """1.0 as 1: see `key_of`."""
    key = key_of(value)
    return key if key.__class__ is int else value


# A text of so many characters is no key that is too large.
SHORT = MAX_KEY_BYTES // 4

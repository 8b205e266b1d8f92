"""What a stage groups by: the fields of a key, how a user writes them, and the key that they make."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Annotated, Any, TypeAlias

import orjson
from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from streamd.component.fields import ExpressionField
from streamd.component.model import Model
from streamd.component.stage import Body
from streamd.component.state import key_of
from streamd.errors import TransformError

# Longer texts, and those that are not ASCII, are looked at more closely.
_SHORT = 1000


class Grouping(Model):
    """The fields of a key by name, and the sets of them that there is a group for; None: all fields together."""

    fields: dict[str, ExpressionField] = Field(
        description="The fields of the key, each with the expression of its value.",
        examples=[{"country": "user.country"}],
    )
    sets: tuple[tuple[str, ...], ...] | None = Field(
        None,
        description="Sets of the fields: each record counts once for each set, with null for the fields left out.",
        examples=[[["region"], ["region", "product"], []]],
    )

    @model_validator(mode="after")
    def _sets_of_fields(self) -> Grouping:
        for one in self.sets or ():
            unknown = [name for name in one if name not in self.fields]
            if unknown:
                raise ValueError(f"{unknown[0]!r} is in `sets`, but not in `fields`: expected one of {[*self.fields]}")
        orders = {frozenset(one) for one in self.sets or ()}
        if len(orders) < len(self.sets or ()) or any(len(set(one)) < len(one) for one in self.sets or ()):
            raise ValueError("expected each set once in `sets`, with each of its fields once")
        return self

    def settings(self) -> dict[str, str]:
        """What the meaning of keys depends on."""
        found = {f"by.{name}": str(expression) for name, expression in self.fields.items()}
        if len(self.fields) > 1:
            found["by"] = ", ".join(self.fields)  # a key is the list of their values, in this order
        if self.sets is not None:
            found["by.sets"] = str(sorted(sorted(one) for one in self.sets))
        return found


def _grouping(value: object) -> object:
    """{fields, sets} of a field's name, of several, of names with their expressions, or of `{sets: …}`."""
    if isinstance(value, dict) and isinstance(value.get("sets"), list):
        return _with_sets(value)
    if isinstance(value, dict):
        return {"fields": value}
    return {"fields": _named([value] if isinstance(value, str) else value)}


def _named(names: object) -> dict[str, str]:
    if not isinstance(names, list) or not all(isinstance(name, str) and name.isidentifier() for name in names):
        raise ValueError(
            "expected a field's name, several, or names with their expressions, like {country: user.country}"
        )
    if len(set(names)) < len(names):
        raise ValueError("expected a list with each field once")
    return {name: name for name in names}


def _with_sets(value: dict[Any, Any]) -> dict[Any, Any]:
    if not value["sets"] or not all(isinstance(one, list) for one in value["sets"]):
        raise ValueError("expected a list of lists in `sets`, like [[region], [region, product], []]")
    if "fields" in value:
        return value
    names = list(dict.fromkeys(name for one in value["sets"] for name in one))
    return {**value, "fields": _named(names)}


_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
        {"type": "object", "minProperties": 1},
    ]
}

GroupingField: TypeAlias = Annotated[Grouping, BeforeValidator(_grouping), WithJsonSchema(_SCHEMA)]


def lift_keys(body: Body, by: Grouping | None) -> list[str]:
    """Write the lines that make the record's keys, one for each set, and give their names in the generated code.

    A key is what `key_of` gives: of one field its value, of several or of sets the JSON of the list of all, with null
    for those not in the set. A field that is null fails the record.
    """
    if by is None or not by.fields:
        return ["''"] if by is None or by.sets is None else [repr(orjson.dumps([]))]
    # The brackets: a variable of their own, even where the value is another one's, which is not to be changed.
    names = {name: body.local(f"by_{name}", f"({body.value(source)})") for name, source in by.fields.items()}
    if by.sets is None and len(names) == 1:
        [key] = names.values()
        own = body.constant("key_of", key_of)
        short = f"{key}.__class__ is not str or len({key}) > {_SHORT} or not {key}.isascii()"
        body.line(f"if {short}: {key} = {own}({key})")
        return [key]
    make = body.constant("composite_key", composite_key)
    for value in names.values():
        body.line(f"if {value} is None: {body.constant('key_of', key_of)}(None)")
    wanted = [tuple(names)] if by.sets is None else by.sets
    keys = []
    for one in wanted:
        values = ", ".join(value if name in one else "None" for name, value in names.items())
        keys.append(body.local("group", f"{make}([{values}])"))
    return keys


def composite_key(values: Sequence[Any]) -> Hashable:
    """The key of several values: 1 and 1.0 are the same there too. Raises TransformError for what makes no key."""
    for value in values:
        if value.__class__ is float:
            values = [_whole(value) if value.__class__ is float else value for value in values]
            break
    return key_of(values)


def _whole(value: float) -> float | int:
    if not math.isfinite(value):
        raise TransformError("a key is no finite number")
    return int(value) if value.is_integer() else value


def named_key(key: Hashable) -> tuple[Any, bytes | None]:
    """(the value or the values, the record's key) of a key that `lift_keys` has made of something."""
    if key.__class__ is str:
        return key, key.encode()
    if key.__class__ is int:
        return key, b"%d" % key
    return orjson.loads(key), key  # type: ignore[arg-type, return-value]

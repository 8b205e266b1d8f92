"""`coerce`: values brought to a type, by rules that say what fits and what becomes of what does not.

| type | takes |
| --- | --- |
| `int` | whole numbers, also written 2.0; text of digits with a sign |
| `float` | numbers; text of a number: digits, a point, an exponent |
| `number` | numbers; text of a number, which is whole where no point or exponent is in it |
| `text` | text; numbers and bools as JSON writes them |
| `bool` | bools; 0 and 1; text true, yes, on, 1, false, no, off, 0 in any case |
| `timestamp` | numbers of `unit` since 1970, and times as text: gives ms since 1970 |
| `time` | the same: gives ISO 8601 text in UTC |
| `list` | lists; anything else as the only element of one |
| `object` | objects; text that is JSON of an object |
| `json` | text that is JSON: gives what it says; anything else as it is |
| `json_text` | anything: gives its JSON as text |

Spaces around text do not count. No number is cut, rounded or guessed: 1.5 is no `int`, true is no number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, field_validator, model_validator

from streamd.component.fields import parse_field_path
from streamd.component.model import Model
from streamd.component.stage import Body
from streamd.errors import RecordError, TransformError
from streamd.expr.functions import FUNCTIONS
from streamd.expr.functions.time import iso_time, parse_time
from streamd.expr.functions.types import MAX_DIGITS, json_parse, json_text, to_bool
from streamd.expr.limits import type_name
from streamd.expr.paths import MISSING
from streamd.transform.fields import at, found

Type: TypeAlias = Literal[
    "int", "float", "number", "text", "bool", "timestamp", "time", "list", "object", "json", "json_text"
]
Unit: TypeAlias = Literal["s", "ms", "us", "ns"]
_PER_MS: Mapping[str, int] = {"us": 1_000, "ns": 1_000_000}
_INT = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def _null_is_a_word(value: Any) -> Any:
    return "null" if value is None else value


class Coercion(Model):
    """What one field becomes."""

    to: Type = Field(description="The type.", examples=["int"])
    on_failure: Annotated[
        Literal["error", "null", "keep", "default"],
        BeforeValidator(_null_is_a_word, json_schema_input_type=Literal["error", "null", "keep", "default"] | None),
    ] = Field(
        "error",
        description="What becomes of a value that does not fit: the record fails, the field is null, the value stays "
        "as it is, or `default` takes its place.",
        examples=["null"],
    )
    on_null: Literal["keep", "error", "default"] = Field(
        "keep", description="What becomes of a null.", examples=["default"]
    )
    on_missing: Literal["error", "skip", "default"] = Field(
        "error", description="What a record without the field means.", examples=["skip"]
    )
    default: Any = Field(None, description="The value where one of them says `default`.", examples=[0])
    format: str | None = Field(
        None, description="How times are written as text; ISO 8601 where not said.", examples=["%d.%m.%Y %H:%M"]
    )
    unit: Unit = Field("ms", description="What numbers count, of timestamp and time.", examples=["s"])

    @field_validator("format")
    @classmethod
    def _is_format(cls, value: str | None) -> str | None:
        return None if value is None else str(FUNCTIONS["parse_time"].literals["format"](value))

    @model_validator(mode="after")
    def _default_is_used(self) -> Coercion:
        wanted = "default" in (self.on_failure, self.on_null, self.on_missing)
        if wanted is not ("default" in self.model_fields_set):
            raise ValueError(
                "`default` is missing: expected the value to take" if wanted
                else "`default` is never used: expected `default` in on_failure, on_null or on_missing"
            )  # fmt: skip
        if self.to not in ("timestamp", "time") and self.model_fields_set & {"format", "unit"}:
            raise ValueError(f"`format` and `unit` are for timestamp and time, not for {self.to}")
        return self


def write_coerce(body: Body, fields: Mapping[str, Type | Coercion]) -> None:
    """Bring each field to its type."""
    for name, given in fields.items():
        rule = given if isinstance(given, Coercion) else Coercion.model_validate({"to": given})
        path = parse_field_path(name)
        coerce = body.constant(f"to_{rule.to}", coercer(rule))
        if rule.on_missing == "skip":
            value = body.local(path[-1], found(body, path))
            there = f"if {value} is not {body.constant('MISSING', MISSING)}:"

            def change(path: tuple[str, ...] = path, new: str = f"{coerce}({value})") -> None:
                body.set_field(path, new)

            body.choose([(there, change), ("else:", lambda: None)])
        elif rule.on_missing == "default":
            body.set_field(path, f"{coerce}({found(body, path)})")
        else:
            body.set_field(path, f"{coerce}({body.value(at(path))})")


def coercer(rule: Coercion) -> Callable[[Any], Any]:
    """The function from a value, MISSING for none, to what it becomes. Raises TransformError where it fails."""
    convert, default = _converter(rule), rule.default
    null = None if rule.on_null == "keep" else default
    fail_null, on_failure = rule.on_null == "error", rule.on_failure

    def coerce(value: Any) -> Any:
        if value is None:
            if fail_null:
                raise TransformError(f"coerce: null is no {rule.to} here")
            return null
        if value is MISSING:
            return default
        try:
            return convert(value)
        except (RecordError, TypeError, ValueError, OverflowError):
            if on_failure == "error":
                raise TransformError(f"coerce: the value, of type {type_name(value)}, is no {rule.to}") from None
            return None if on_failure == "null" else value if on_failure == "keep" else default

    def coerce_int(value: Any) -> Any:
        if value.__class__ is int:
            return value
        if value.__class__ is str and value.isdigit() and value.isascii() and len(value) <= MAX_DIGITS:
            return int(value)
        return coerce(value)

    return coerce_int if rule.to == "int" else coerce


def _converter(rule: Coercion) -> Callable[[Any], Any]:
    if rule.to in ("timestamp", "time"):
        moment = _moment_in(rule.format, rule.unit)
        return moment if rule.to == "timestamp" else lambda value: iso_time(moment(value))
    return _CONVERT[rule.to]


def to_int(value: Any) -> int:
    kind = type(value)
    if kind is int:
        return value  # type: ignore[no-any-return]
    if kind is str and len(value) <= MAX_DIGITS and _INT.fullmatch(text := value.strip()):
        return int(text)
    if kind is float and value.is_integer():
        return int(value)
    raise ValueError


def to_float(value: Any) -> float:
    if value.__class__ is float or value.__class__ is int:
        return float(value)
    if value.__class__ is str and len(value) <= MAX_DIGITS and _NUMBER.fullmatch(text := value.strip()):
        number = float(text)
        if math.isfinite(number):
            return number
    raise ValueError


def to_number(value: Any) -> int | float:
    if value.__class__ is int or value.__class__ is float:
        return value
    if value.__class__ is str and len(value) <= MAX_DIGITS and _INT.fullmatch(text := value.strip()):
        return int(text)
    return to_float(value)


def to_text(value: Any) -> str:
    if value.__class__ is str:
        return value
    if value.__class__ in (int, float, bool):
        return json_text(value)
    raise ValueError


def to_truth(value: Any) -> bool:
    if value.__class__ is bool:
        return value
    if value.__class__ is str or (value.__class__ in (int, float) and value in (0, 1)):
        return to_bool(value)
    raise ValueError


def to_list(value: Any) -> list[Any]:
    return value if value.__class__ is list else [value]


def to_object(value: Any) -> dict[str, Any]:
    read = json_parse(value) if value.__class__ is str else value
    if read.__class__ is not dict:
        raise ValueError
    return read


def to_json(value: Any) -> Any:
    return json_parse(value) if value.__class__ is str else value


_CONVERT: Mapping[str, Callable[[Any], Any]] = {
    "int": to_int,
    "float": to_float,
    "number": to_number,
    "text": to_text,
    "bool": to_truth,
    "list": to_list,
    "object": to_object,
    "json": to_json,
    "json_text": json_text,
}


def _moment_in(form: str | None, unit: Unit) -> Callable[[Any], int]:
    def moment(value: Any) -> int:
        if value.__class__ is str:
            return parse_time(value.strip(), form)
        if value.__class__ is int or value.__class__ is float:
            ms = value // _PER_MS[unit] if unit in _PER_MS else value * 1000 if unit == "s" else value
            iso_time(ms)  # in range
            return int(ms)
        raise ValueError

    return moment

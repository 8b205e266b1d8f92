"""Types of the fields that a user writes: durations, sizes, expressions, paths, secrets, nested components."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, Self, TypeAlias, TypeVar, get_args, get_origin

from pydantic import BeforeValidator, PlainValidator, SecretStr, WithJsonSchema

from streamd.component.spec import ComponentSpec, Kind

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from streamd.expr import Aggregate, Argument, Expression

T = TypeVar("T")

_SECONDS: Mapping[str, float] = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)")

_BYTES: Mapping[str, int] = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")

_DURATION_HINT = 'a duration: a number of seconds, or text like "500ms", "10s", "1m30s", "2h", "1d"'
_SIZE_HINT = 'a size: a number of bytes, or text like "512KiB", "4MB"'


def parse_duration(value: object) -> float:
    """Seconds, of 10, 0.5, "10s", "500ms", "1m30s". Raises ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str):
        seconds = _seconds(value)
    else:
        raise ValueError(f"expected {_DURATION_HINT}")
    if not 0 <= seconds < math.inf:
        raise ValueError(f"expected {_DURATION_HINT}, and not negative")
    return seconds


def _seconds(text: str) -> float:
    stripped = text.strip()
    parts = list(_DURATION.finditer(stripped))
    if parts and "".join(part.group(0) for part in parts) == re.sub(r"(?<=[a-z])\s+", "", stripped):
        return sum(float(part.group(1)) * _SECONDS[part.group(2)] for part in parts)
    try:
        return float(stripped)
    except ValueError:
        raise ValueError(f"expected {_DURATION_HINT}") from None


def parse_size(value: object) -> int:
    """Bytes, of 1000, "512KiB", "4MB". KB is 1000 bytes, KiB 1024. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None or match.group(2).upper() not in _BYTES:
            raise ValueError(f"expected {_SIZE_HINT}")
        size = int(float(match.group(1)) * _BYTES[match.group(2).upper()])
    if size < 0:
        raise ValueError(f"expected {_SIZE_HINT}, and not negative")
    return size


class ParameterText(str):
    """A text of a chain in which parameters stand: `template`, with `arguments` for them.

    Itself it is what it means where it is no expression. `read`: whether it was taken as one.
    """

    __slots__ = ("arguments", "plain", "read", "template")

    def __new__(cls, text: str, template: str, arguments: Mapping[str, Argument]) -> Self:
        made = super().__new__(cls, text)
        made.plain, made.template, made.arguments, made.read = text, template, arguments, False
        return made

    plain: str
    template: str
    arguments: Mapping[str, Argument]
    read: bool

    def read_by(self, parse: Callable[[str], T]) -> T:
        """`parse` of the expression that it means. Raises ExpressionError with places in `template`."""
        from streamd.expr.parameters import read

        self.read = True
        return read(self.template, self.arguments, parse)


def parse_field_path(value: object) -> tuple[str, ...]:
    """("a", "b") of "a.b", or of the list [a, b] for names that hold dots. Raises ValueError."""
    parts: list[Any] | tuple[Any, ...]
    if isinstance(value, str):
        parts = value.split(".")
    elif isinstance(value, list | tuple):
        parts = value
    else:
        raise ValueError("expected a field's name, like `user` or `user.country`")
    if not parts or not all(isinstance(part, str) and part.strip() == part and part for part in parts):
        raise ValueError("expected a field's name, like `user` or `user.country`, without empty parts")
    return tuple(parts)


def parse_expression(value: object) -> Expression:
    """The expression of a text, or of a YAML number or boolean. Raises ValueError; ExpressionError has the offset."""
    from streamd.expr import Expression, parse

    if isinstance(value, Expression):
        return value
    if isinstance(value, ParameterText):
        return value.read_by(parse)
    if isinstance(value, str):
        return parse(value)
    if isinstance(value, bool):
        return parse("True" if value else "False")
    if isinstance(value, int | float) and math.isfinite(value):
        return parse(repr(value))
    if value is None:
        raise ValueError("expected an expression, got nothing; for the value null write 'null' in quotes")
    raise ValueError("expected an expression, written as one text")


def parse_aggregate_field(value: object) -> Aggregate:
    """The aggregate of a text such as `sum(amount)`. Raises ValueError; ExpressionError has the offset."""
    from streamd.expr import Aggregate, parse_aggregate

    if isinstance(value, Aggregate):
        return value
    if isinstance(value, ParameterText):
        return value.read_by(parse_aggregate)
    if isinstance(value, str):
        return parse_aggregate(value)
    raise ValueError("expected an aggregate such as count() or sum(amount), written as one text")


class ResolvedComponent(Protocol):
    """A nested component after loading: a `streamd.config.pipeline.ComponentConfig`."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> Any: ...
    @property
    def spec(self) -> ComponentSpec: ...


@dataclass(frozen=True, slots=True)
class NestedComponent:
    """Marks a field as a nested component; the loader resolves the mapping before the model sees it."""

    kind: Kind


def nested_component(annotation: object) -> NestedComponent | None:
    """The mark of a field's annotation, also inside `ComponentRef | None`; None for any other field."""
    if isinstance(annotation, NestedComponent):
        return annotation
    for argument in get_args(annotation):
        found = nested_component(argument)
        if found is not None:
            return found
    return None


class Condition:
    """Marks a field as a condition: `all`, `any`, `not` and named filters are made one expression by the loader."""


def condition_field(info: FieldInfo) -> bool | None:
    """Whether a field is a mapping of names to conditions, or one condition; None when it is no condition."""
    if any(isinstance(part, Condition) for part in info.metadata):
        return False
    inside = [part for argument in get_args(info.annotation) for part in get_args(argument)]
    return True if any(isinstance(part, Condition) for part in inside) else None


def literals_of(annotation: object) -> frozenset[object]:
    """The values that a field takes as they are, `Literal`s inside a union among them."""
    if get_origin(annotation) is Literal:
        return frozenset(get_args(annotation))
    return frozenset().union(*(literals_of(argument) for argument in get_args(annotation)))


def _resolved(value: object) -> Any:
    if not isinstance(getattr(value, "spec", None), ComponentSpec):
        raise ValueError("expected a component: a mapping with one key, like {kafka: {topic: late-orders}}")
    return value


def duration_text(seconds: float, space: str = "") -> str:
    """A duration for people, in the largest unit that it is a whole number of: "7d", "7.5s", "200ms".

    `space` stands before the unit.
    """
    for length, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{space}{unit}"
    return f"{seconds * 1000:g}{space}ms" if 0 < seconds < 1 else f"{seconds:g}{space}s"


# Seconds, ≥ 0.
Duration: TypeAlias = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": r"^\s*(\d+(\.\d+)?\s*(us|ms|s|m|h|d)?\s*)+$|\$\{"},
            ],
            "description": 'Seconds, or text like "500ms", "10s", "1m30s", "2h", "1d".',
        }
    ),
]

# Bytes, ≥ 0.
ByteSize: TypeAlias = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*([KMGT]i?)?B?\s*$|\$\{"},
            ],
            "description": 'Bytes, or text like "512KiB" (1024), "4MB" (1000 × 1000).',
        }
    ),
]

# The names on the way to a field: ("user", "country").
FieldPath: TypeAlias = Annotated[
    tuple[str, ...],
    BeforeValidator(parse_field_path),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
    ),
]


class EnvironmentText(str):
    """A text that begins with an environment variable's value: who set it knows the working directory, no file."""

    __slots__ = ()


def parse_local_path(value: object) -> object:
    """A relative path from the environment starts at the working directory; any other is left to the component."""
    value = value.plain if isinstance(value, ParameterText) else value
    if isinstance(value, EnvironmentText) and value and not value.startswith("~"):
        return os.path.join(os.getcwd(), value)  # noqa: PTH109, PTH118 — text that may hold a pattern, not a path
    return value


# The name of a file or a pattern, as text. A relative one starts at the folder of the pipeline's file.
LocalPath: TypeAlias = Annotated[str, BeforeValidator(parse_local_path)]

# Shown nowhere: repr and str are asterisks, `get_secret_value()` gives it.
Secret: TypeAlias = SecretStr

_EXPRESSION_SCHEMA = WithJsonSchema({"type": ["string", "number", "boolean"], "description": "An expression."})
_AGGREGATE_SCHEMA = WithJsonSchema({"type": "string", "description": "An aggregate, such as sum(amount)."})
_COMPONENT_SCHEMA = WithJsonSchema({"type": "object", "minProperties": 1, "maxProperties": 1})

if TYPE_CHECKING:
    ExpressionField: TypeAlias = Expression
    ConditionField: TypeAlias = Expression
    AggregateField: TypeAlias = Aggregate
    ComponentRef: TypeAlias = ResolvedComponent
    LateField: TypeAlias = Literal["drop", "dead_letter"] | ResolvedComponent
else:
    # A `streamd.expr.Expression`; not named at run time, so that components without expressions load without them.
    ExpressionField = Annotated[Any, PlainValidator(parse_expression), _EXPRESSION_SCHEMA]

    # The same, where `all`, `any`, `not` and named filters may combine several.
    ConditionField = Annotated[Any, Condition(), PlainValidator(parse_expression), _EXPRESSION_SCHEMA]

    # A `streamd.expr.Aggregate`.
    AggregateField = Annotated[Any, PlainValidator(parse_aggregate_field), _AGGREGATE_SCHEMA]

    # A nested sink, as in `late: {kafka: {topic: late-orders}}`.
    ComponentRef = Annotated[Any, NestedComponent("sink"), PlainValidator(_resolved), _COMPONENT_SCHEMA]

    # What becomes of late records: nothing, the pipeline's dead letters, or a sink of their own.
    LateField = Literal["drop", "dead_letter"] | ComponentRef

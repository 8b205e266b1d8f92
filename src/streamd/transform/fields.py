"""Settings and sources that the operations share: fields as expressions, elements of lists, names in the document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from streamd.component.fields import parse_field_path
from streamd.component.stage import Body
from streamd.errors import MissingFieldError, TransformError
from streamd.expr import Expression, parse
from streamd.expr.errors import ExpressionError
from streamd.expr.limits import type_name
from streamd.expr.paths import MISSING, find
from streamd.transform.jsonpath import JsonPath, parse_jsonpath

LIST = "the list"  # the name by which a loop reads its list: no field that an expression can name otherwise
_PATH_SCHEMA = WithJsonSchema({"type": "string", "pattern": r"^\$", "description": "A JSONPath (RFC 9535)."})
_TEMPLATE_SCHEMA = WithJsonSchema({"type": "string", "description": "Text with expressions in braces."})


def parse_template(value: object) -> Expression:
    """The expression of a text with expressions in braces: an f-string. Raises ExpressionError."""
    if isinstance(value, Expression):
        return value
    text = str(value)
    written = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    quote = "'''" if '"""' in written or written.endswith('"') else '"""'
    try:
        return parse(f"f{quote}{written}{quote}")
    except ExpressionError as error:
        if error.message.startswith("the expression ends too early"):
            # The parser knows no place for what is wrong with a brace itself.
            message, hint = "a brace has no partner, or nothing in it", "write {name}, and {{ or }} for a brace itself"
            raise ExpressionError(message, 0, max(1, len(text)), hint) from None
        offset = max(0, min(error.offset - 4, len(text)))
        raise ExpressionError(
            error.message, offset, min(error.length, max(1, len(text) - offset)), error.hint
        ) from None


def _text_for(read: Any) -> Any:
    """A reader of texts alone: what is none has the wrong shape, so that a mapping beside it may be meant."""

    def checked(value: object) -> Any:
        if not isinstance(value, str | JsonPath | Expression):
            raise PydanticCustomError("string_type", "Input should be text")
        return read(value)

    return checked


if TYPE_CHECKING:
    JsonPathField: TypeAlias = JsonPath
    TemplateField: TypeAlias = Expression
else:
    JsonPathField = Annotated[Any, PlainValidator(_text_for(parse_jsonpath)), _PATH_SCHEMA]
    TemplateField = Annotated[Any, PlainValidator(_text_for(parse_template)), _TEMPLATE_SCHEMA]


def tops(names: Mapping[str, Any] | list[str] | tuple[str, ...]) -> frozenset[str]:
    """The top-level fields that lie under field paths."""
    return frozenset(parse_field_path(name)[0] for name in names)


def at(path: tuple[str, ...]) -> Expression:
    """The expression that reads a field, whatever its name is."""
    return parse("_value" + "".join(f"[{_literal(name)}]" for name in path))


def _literal(name: str) -> str:
    return repr(name)


def found(body: Body, path: tuple[str, ...]) -> str:
    """Source of a field's value, MISSING where it is not there."""
    missing = body.constant("MISSING", MISSING)
    top = body.field_or(path[0], missing, usual=True)
    if len(path) == 1:
        return top
    return f"{body.constant('find', find)}({top}, {', '.join(map(repr, path[1:]))})"


def need(value: Any, name: str) -> Any:
    """The value of a field that is there."""
    if value is MISSING:
        raise MissingFieldError(f"field {name!r} is missing")
    return value


def field_path(expression: Expression) -> tuple[str, ...] | None:
    """The field that an expression is, if it is no more than that."""
    names = str(expression).split(".")
    return tuple(names) if all(name.isidentifier() for name in names) and expression.fields else None


def as_list(value: Any, operation: str) -> list[Any]:
    """The list that an operation works on."""
    if type(value) is not list:
        raise TransformError(f"{operation} needs a list, the value is of type {type_name(value)}")
    return value


def as_object(value: Any, operation: str) -> dict[str, Any]:
    """The object that an operation works on."""
    if type(value) is not dict:
        raise TransformError(f"{operation} needs an object, the value is of type {type_name(value)}")
    return value


def loop(each: str, value: str, where: str | None = None) -> Expression:
    """`[value for each in the list if where]` as an expression, with all the bounds that it sets to loops.

    Raises ExpressionError where the parts, which are expressions, cannot stand in a loop.
    """
    condition = f" if (\n{where}\n)" if where is not None else ""
    return parse(f"[(\n{value}\n) for {each} in _value[{LIST!r}]{condition}]")

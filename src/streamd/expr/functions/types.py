"""Functions that ask for the type of a value, change it, or make a value of none."""

from __future__ import annotations

import math
import uuid as ids
from typing import Any

import orjson

from streamd.errors import TransformError
from streamd.expr.functions.catalogue import Catalogue
from streamd.expr.limits import as_text, check_text, type_name

TYPE = Catalogue("type")
_NAMESPACE = ids.UUID("6f1f3d7e-53b1-4f3c-9a55-5a0f7f0f2f10")
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
MAX_DIGITS = 1000  # of a number written as text


@TYPE.function(
    "str(value)",
    ("str(12)", "12"),
    ("str(1.5)", "1.5"),
    ("str(null)", "null"),
    ('str([1, true, "a"])', '[1,true,"a"]'),
    result="text",
    linear=True,
)
def to_str(value: Any) -> str:
    """The value as text: a text as it is, anything else as JSON writes it. So are values in braces: `f"{value}"`."""
    return as_text(value)


@TYPE.function(
    "int(value)", ("int(3.9)", 3), ('int("12")', 12), ('int(" -7 ")', -7), ("int(true)", 1), result="int", cheap=True
)
def to_int(value: Any) -> int:
    """The whole number that a text says, or a number without its fraction."""
    if isinstance(value, str):
        if len(value) > MAX_DIGITS:
            raise TransformError(f"int: the text has more than {MAX_DIGITS} characters")
        try:
            return int(value)
        except ValueError:
            raise TransformError("int: the text is not a whole number") from None
    if not isinstance(value, int | float):
        raise TypeError(f"int takes a number or a text, not a {type_name(value)}")
    if not math.isfinite(value):
        raise TransformError("int: the number is infinite, or not a number")
    return int(value)


@TYPE.function("float(value)", ('float("1.5")', 1.5), ("float(2)", 2.0), result="float", cheap=True)
def to_float(value: Any) -> float:
    """The number that a text says, with a fraction. `nan` and `inf` are not numbers here."""
    if isinstance(value, str):
        if len(value) > MAX_DIGITS:
            raise TransformError(f"float: the text has more than {MAX_DIGITS} characters")
        try:
            number = float(value)
        except ValueError:
            raise TransformError("float: the text is not a number") from None
    elif isinstance(value, int | float):
        number = float(value)
    else:
        raise TypeError(f"float takes a number or a text, not a {type_name(value)}")
    if not math.isfinite(number):
        raise TransformError("float: the number is infinite, or not a number")
    return number


@TYPE.function(
    "bool(value)",
    ('bool("yes")', True),
    ('bool("False")', False),
    ("bool(0)", False),
    ("bool(2)", True),
    result="bool",
    cheap=True,
)
def to_bool(value: Any) -> bool:
    """The truth that a value says: true/yes/on/1 or false/no/off/0 in any case, other texts are errors; 0 is false.

    Other than in Python, where every text but the empty one is true.
    """
    if isinstance(value, str):
        word = value[:16].strip().lower()
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
        raise TransformError("bool: the text is none of true, yes, on, 1, false, no, off, 0")
    if not isinstance(value, int | float):
        raise TypeError(f"bool takes a text, a number or a bool, not a {type_name(value)}")
    return value != 0


@TYPE.function("is_null(value)", ("is_null(null)", True), ("is_null(0)", False), result="bool", cheap=True)
def is_null(value: Any) -> bool:
    """Whether the value is null. A missing field is an error; see `has`."""
    return value is None


@TYPE.function("is_text(value)", ('is_text("a")', True), result="bool", cheap=True)
def is_text(value: Any) -> bool:
    """Whether the value is a text."""
    return isinstance(value, str)


@TYPE.function("is_number(value)", ("is_number(1.5)", True), ("is_number(true)", False), result="bool", cheap=True)
def is_number(value: Any) -> bool:
    """Whether the value is a number. A bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


@TYPE.function("is_bool(value)", ("is_bool(false)", True), ("is_bool(0)", False), result="bool", cheap=True)
def is_bool(value: Any) -> bool:
    """Whether the value is true or false."""
    return isinstance(value, bool)


@TYPE.function("is_list(value)", ("is_list([])", True), result="bool", cheap=True)
def is_list(value: Any) -> bool:
    """Whether the value is a list."""
    return isinstance(value, list | tuple)


@TYPE.function("is_object(value)", ("is_object({})", True), ("is_object([])", False), result="bool", cheap=True)
def is_object(value: Any) -> bool:
    """Whether the value is an object."""
    return isinstance(value, dict)


TYPE.add(
    "type_of(value)",
    "The value's type: text, number, bool, list, object or null.",
    type_name,
    ("type_of(1.5)", "number"),
    ('type_of("a")', "text"),
    ("type_of(null)", "null"),
    result="text",
    cheap=True,
)


@TYPE.function(
    "coalesce(value, *more)",
    ("coalesce(null, null, 3)", 3),
    ("coalesce(0, 3)", 0),
    ("coalesce(null)", None),
    cheap=True,
)
def coalesce(*values: Any) -> Any:
    """The first value that is not null; null where all are."""
    for value in values:
        if value is not None:
            return value
    return None


@TYPE.function("json_parse(text)", ('json_parse("{\\"a\\": [1]}").a[0]', 1), ('json_parse("true")', True))
def json_parse(text: Any) -> Any:
    """The value that a JSON text says."""
    if not isinstance(text, str):
        raise TypeError(f"json_parse takes a text, not a {type_name(text)}")
    check_text(len(text))
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise TransformError("json_parse: the text is not JSON") from None


@TYPE.function("json_text(value)", ('json_text({"a": [1, null, true]})', '{"a":[1,null,true]}'), result="text")
def json_text(value: Any) -> str:
    """The value as JSON, without spaces."""
    try:
        written = orjson.dumps(value).decode()
    except (orjson.JSONEncodeError, RecursionError):
        raise TransformError("json_text: the value cannot be written as JSON") from None
    check_text(len(written))
    return written


@TYPE.function("uuid()", ("len(uuid())", 36), result="text", deterministic=False, cheap=True)
def uuid() -> str:
    """A random UUID (version 4). Another one when a record is processed again; `uuid_of` stays the same."""
    return str(ids.uuid4())


@TYPE.function("uuid_of(text)", ('uuid_of("order-17") == uuid_of("order-17")', True), result="text")
def uuid_of(text: Any) -> str:
    """A UUID (version 5) that is always the same for the same text."""
    if not isinstance(text, str):
        raise TypeError(f"uuid_of takes a text, not a {type_name(text)}")
    return str(ids.uuid5(_NAMESPACE, text.encode("utf-8", "replace").decode()))

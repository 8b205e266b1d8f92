"""Documents → messages: a function for each message type, put together once from its descriptor.

Protobuf's own constructors take a number for a boolean, bytes for a text, and quote the value in their errors. So each
value is checked here first, and told with its path where it does not fit.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any

from streamd.codecs.protobuf.reading import BY_JSON_FORMAT, TIMESTAMP, WRAPPERS
from streamd.errors import LoadError

Write = Callable[[Any], Any]

_MAX_SINGLE = 3.4028235677973366e38
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_NUMBERS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_TOLD: Mapping[type, str] = {
    bool: "a boolean",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
    bytes: "bytes",
    type(None): "null",
}


class _UnfitError(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []


def _told(value: Any) -> str:
    return _TOLD.get(value.__class__, f"a {type(value).__name__}")


class Writing:
    """Writes documents as messages of one type. `ignores`: fields that it lacks are left out and counted."""

    def __init__(self, message: Any, *, ignores: bool) -> None:
        self._ignores = ignores
        self._left_out = 0
        self._pool = message.DESCRIPTOR.file.pool
        self._made: dict[str, Write] = {}
        self._write = self._message(message.DESCRIPTOR)

    def encode(self, document: Any) -> bytes:
        """The bytes of the document's message. Raises LoadError."""
        from google.protobuf.message import EncodeError

        try:
            data: bytes = self._write(document).SerializeToString(deterministic=True)
        except _UnfitError as error:
            where = f"field `{'.'.join(error.path)}`: " if error.path else ""
            raise LoadError(f"the document does not fit the Protobuf message: {where}{error.reason}") from None
        except UnicodeEncodeError:
            raise LoadError("the document does not fit the Protobuf message: a text has no UTF-8 form") from None
        except EncodeError:
            raise LoadError("the document does not fit the Protobuf message: a required field is missing") from None
        except RecursionError:
            raise LoadError("the document does not fit the Protobuf message: it is nested too deeply") from None
        return data

    def taken(self) -> int:
        """How many fields were left out since the last call."""
        number, self._left_out = self._left_out, 0
        return number

    def _message(self, of: Any) -> Write:
        from google.protobuf.message_factory import GetMessageClass

        known = self._made.get(of.full_name)
        if known is not None:
            return known
        # One within itself is asked for before it is there.
        self._made[of.full_name] = lambda value: self._made[of.full_name](value)
        made: Any = GetMessageClass(of)
        fields: dict[str, tuple[str, Write, str | None, bool]] = {}
        for field in of.fields:
            oneof = field.containing_oneof
            several = oneof.name if oneof is not None and len(oneof.fields) > 1 else None
            null = field.message_type is not None and field.message_type.full_name == "google.protobuf.Value"
            entry = (field.name, self._field(field), several, null and not field.is_repeated)
            fields[field.json_name] = fields[field.name] = entry
        ignores = self._ignores

        def write(value: Any) -> Any:
            if value.__class__ is not dict:
                raise _UnfitError(f"expected an object, got {_told(value)}")
            parts: dict[str, Any] = {}
            chosen: set[str] = set()
            for key, part in value.items():
                try:
                    name, put, several, null = fields[key]
                except KeyError:
                    if not ignores:
                        raise _at(key, _UnfitError("is no field of the message")) from None
                    self._left_out += 1
                    continue
                if part is None and not null:
                    continue
                if name in parts:
                    raise _at(name, _UnfitError("is there by both of its names"))
                if several is not None:
                    if several in chosen:
                        raise _at(name, _UnfitError(f"another field of the oneof `{several}` is there as well"))
                    chosen.add(several)
                try:
                    parts[name] = put(part)
                except _UnfitError as error:
                    raise _at(name, error) from None
            return made(**parts)

        self._made[of.full_name] = write
        return write

    def _field(self, field: Any) -> Write:
        of = field.message_type
        if of is not None and of.GetOptions().map_entry:
            return _map(_key(of.fields_by_name["key"]), self._one(of.fields_by_name["value"]))
        return _list(self._one(field)) if field.is_repeated else self._one(field)

    def _one(self, field: Any) -> Write:
        of = field.message_type
        if of is None:
            return _plain(field)
        if of.full_name in WRAPPERS:
            return self._wrapper(of)
        if of.full_name == TIMESTAMP:
            return self._timestamp(of)
        return self._by_json_format(of) if of.full_name in BY_JSON_FORMAT else self._message(of)

    def _wrapper(self, of: Any) -> Write:
        from google.protobuf.message_factory import GetMessageClass

        made: Any = GetMessageClass(of)
        put = _plain(of.fields_by_name["value"])
        return lambda value: made(value=put(value))

    def _timestamp(self, of: Any) -> Write:
        from google.protobuf.message_factory import GetMessageClass

        made: Any = GetMessageClass(of)

        def write(value: Any) -> Any:
            moment = made()
            try:
                if value.__class__ is str:
                    moment.FromJsonString(value)
                elif value.__class__ is int:
                    moment.FromMilliseconds(value)
                elif value.__class__ is float:
                    moment.FromMicroseconds(round(value * 1000))
                else:
                    raise TypeError
                moment.ToJsonString()  # which refuses what lies beyond the years 1 to 9999
            except (ValueError, TypeError, OverflowError):
                expected = "expected a time in ms since the epoch, or ISO 8601 text with a zone"
                raise _UnfitError(expected) from None
            return moment

        return write

    def _by_json_format(self, of: Any) -> Write:
        from google.protobuf.json_format import ParseDict, ParseError
        from google.protobuf.message_factory import GetMessageClass

        made: Any = GetMessageClass(of)

        def write(value: Any) -> Any:
            try:
                return ParseDict(value, made(), descriptor_pool=self._pool)
            except (ParseError, TypeError, ValueError, AttributeError, KeyError):
                raise _UnfitError(f"expected the JSON of a {of.full_name}, got {_told(value)}") from None

        return write


def _at(name: Any, error: _UnfitError) -> _UnfitError:
    error.path.insert(0, str(name))
    return error


def _list(put: Write) -> Write:
    def write(value: Any) -> Any:
        if value.__class__ is not list:
            raise _UnfitError(f"expected a list, got {_told(value)}")
        parts: list[Any] = []
        try:
            for part in value:
                parts.append(put(part))  # noqa: PERF401 — their number says which one failed
        except _UnfitError as error:
            raise _at(len(parts), error) from None
        return parts

    return write


def _map(name: Write, put: Write) -> Write:
    def write(value: Any) -> Any:
        if value.__class__ is not dict:
            raise _UnfitError(f"expected an object, got {_told(value)}")
        try:
            return {name(key): put(part) for key, part in value.items()}
        except _UnfitError as error:
            # Keys of a map are contents.
            raise _at("{}", error) from None

    return write


def _key(field: Any) -> Write:
    """A map's key, which is a text in documents."""
    put = _plain(field)
    if field.type != field.TYPE_BOOL:
        return put

    def write(value: Any) -> Any:
        if value not in ("true", "false"):
            raise _UnfitError("expected true or false as a map's key")
        return value == "true"

    return write


def _plain(field: Any) -> Write:
    if field.enum_type is not None:
        return _enum(field.enum_type)
    match field.cpp_type:
        case field.CPPTYPE_INT32:
            return _integer(-(2**31), 2**31 - 1, "32 bits")
        case field.CPPTYPE_INT64:
            return _integer(-(2**63), 2**63 - 1, "64 bits")
        case field.CPPTYPE_UINT32:
            return _integer(0, 2**32 - 1, "32 bits without a sign")
        case field.CPPTYPE_UINT64:
            return _integer(0, 2**64 - 1, "64 bits without a sign")
        case field.CPPTYPE_BOOL:
            return _boolean
        case field.CPPTYPE_DOUBLE:
            return _number
        case field.CPPTYPE_FLOAT:
            return _single
    return _bytes if field.type == field.TYPE_BYTES else _text


def _integer(low: int, high: int, size: str) -> Write:
    def write(value: Any) -> Any:
        if value.__class__ is not int:
            text = value.__class__ is str and _INTEGER.fullmatch(value)
            if not text and not (value.__class__ is float and value.is_integer()):
                raise _UnfitError(f"expected a whole number, got {_told(value)}")
            value = int(value)
        if not low <= value <= high:
            raise _UnfitError(f"expected a whole number of {size}, got one beyond that")
        return value

    return write


def _boolean(value: Any) -> Any:
    if value.__class__ is not bool:
        raise _UnfitError(f"expected a boolean, got {_told(value)}")
    return value


def _number(value: Any) -> Any:
    if value.__class__ is float:
        return value
    if value.__class__ is str and value in _NUMBERS:
        return _NUMBERS[value]
    if value.__class__ is not int:
        raise _UnfitError(f"expected a number, got {_told(value)}")
    try:
        return float(value)
    except OverflowError:
        raise _UnfitError("expected a number of 64 bits, got one beyond that") from None


def _single(value: Any) -> Any:
    value = _number(value)
    if abs(value) >= _MAX_SINGLE and value - value == 0.0:
        raise _UnfitError("expected a number of 32 bits, got one beyond that")
    return value


def _text(value: Any) -> Any:
    if value.__class__ is not str:
        raise _UnfitError(f"expected text, got {_told(value)}")
    return value


def _bytes(value: Any) -> Any:
    if value.__class__ is bytes:
        return value
    try:
        return b64decode(value.replace("-", "+").replace("_", "/"), validate=True)
    except (ValueError, TypeError, AttributeError):
        raise _UnfitError("expected bytes as base64 text") from None


def _enum(of: Any) -> Write:
    numbers = {value.name: value.number for value in of.values}
    known = frozenset(numbers.values())
    null = of.full_name == "google.protobuf.NullValue"

    def write(value: Any) -> Any:
        if value.__class__ is str and value in numbers:
            return numbers[value]
        if value.__class__ is int and (value in known or (not of.is_closed and -(2**31) <= value < 2**31)):
            return value
        if value is None and null:
            return 0
        got = "another text" if value.__class__ is str else _told(value)
        raise _UnfitError(f"expected a name of the enum {of.full_name}, got {got}")

    return write

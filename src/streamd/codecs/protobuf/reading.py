"""Messages → documents: one Python function for each message type, written once from its descriptor.

json_format walks the descriptors for each record, which takes several times as long. What it does for types of
Google's own (Struct, Any, FieldMask) is asked of it here as well: they are rare.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from streamd.codecs.protobuf.settings import MessageSettings
from streamd.codecs.timestamps import as_milliseconds
from streamd.errors import ExtractError

Read = Callable[[Any], dict[str, Any]]

WRAPPERS = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
TIMESTAMP, DURATION = "google.protobuf.Timestamp", "google.protobuf.Duration"
# Types whose JSON is no object with their fields; json_format knows them.
BY_JSON_FORMAT = frozenset(
    f"google.protobuf.{name}" for name in ("Any", "FieldMask", "Struct", "Value", "ListValue", "Duration")
)
_SINGLE = struct.Struct("<f")


def reader(descriptor: Any, settings: MessageSettings) -> Read:
    """What makes the document of a message. What it gives raises ExtractError, ValueError and TypeError."""
    source = _Source(settings, descriptor.file.pool)
    name = source.function(descriptor)
    text = "\n\n\n".join(source.functions) + "\n"
    exec(compile(text, f"<streamd protobuf {descriptor.full_name}>", "exec"), source.namespace)
    read: Read = source.namespace[name]
    return read


class _Source:
    """The functions as they are written."""

    def __init__(self, settings: MessageSettings, pool: Any) -> None:
        self._settings = settings
        self.functions: list[str] = []
        self._names: dict[str, str] = {}
        iso = settings.timestamps == "iso"
        self.namespace: dict[str, Any] = {
            "text_of": _base64_text,
            "number": _number,
            "single": _single,
            "timestamp": _iso if iso else _milliseconds,
            "json": _json_format(settings, pool),
        }

    def function(self, descriptor: Any) -> str:
        """The name of the function for a message type."""
        known = self._names.get(descriptor.full_name)
        if known is not None:
            return known
        name = self._names[descriptor.full_name] = f"read_{len(self._names)}_{descriptor.name}"
        always, lines = [], []
        for field in descriptor.fields:
            key = repr(field.name if self._settings.field_names == "proto" else field.json_name)
            at = _attribute(field.name)
            value = self._value(field, at)
            if field.has_presence:
                lines.append(f"    if has({field.name!r}): d[{key}] = {value}")
            elif self._settings.defaults:
                always.append(f"{key}: {value}")
            elif field.is_repeated:
                lines.append(f"    if {at}: d[{key}] = {value}")
            else:
                # A zero that is negative is no default.
                zero = f"{at} or str({at}) == '-0.0'" if field.cpp_type in (5, 6) else at
                lines.append(f"    if {zero}: d[{key}] = {value}")
        begin = ["    has = m.HasField"] if any(field.has_presence for field in descriptor.fields) else []
        body = [*begin, f"    d = {{{', '.join(always)}}}", *lines, "    return d"]
        self.functions.append("\n".join([f"def {name}(m):", *body]))
        return name

    def _value(self, field: Any, at: str) -> str:
        """Python source of what a field is in a document."""
        of = field.message_type
        if of is not None and of.GetOptions().map_entry:
            key, value = of.fields_by_name["key"], of.fields_by_name["value"]
            name = {8: "('true' if k else 'false')", 9: "k"}.get(key.type, "str(k)")
            # Iterating over items of messages would make them anew.
            part = self._one(value, "v")
            return f"dict({at})" if (name, part) == ("k", "v") else f"{{{name}: {part} for k, v in {at}.items()}}"
        if field.is_repeated:
            part = self._one(field, "x")
            return f"[*{at}]" if part == "x" else f"[{part} for x in {at}]"
        return self._one(field, at)

    def _one(self, field: Any, at: str) -> str:
        """Python source of a single value."""
        if field.message_type is not None:
            return self._message(field.message_type, at)
        if field.enum_type is not None:
            if field.enum_type.full_name == "google.protobuf.NullValue":
                return "None"
            names = self._constant({value.number: value.name for value in reversed(field.enum_type.values)}, "names")
            return f"{names}.get({at}, {at})" if at.isidentifier() else f"{names}.get(n := {at}, n)"
        if field.type == field.TYPE_BYTES:
            return f"text_of({at})"
        if field.type == field.TYPE_DOUBLE:
            return f"number({at})"
        return f"single({at})" if field.type == field.TYPE_FLOAT else at

    def _message(self, of: Any, at: str) -> str:
        if of.full_name in WRAPPERS:
            return self._one(of.fields_by_name["value"], f"{at}.value")
        if of.full_name == TIMESTAMP:
            return f"timestamp({at})"
        if of.full_name in BY_JSON_FORMAT:
            return f"json({at})"
        return f"{self.function(of)}({at})"

    def _constant(self, value: Any, hint: str) -> str:
        name = f"{hint}_{len(self.namespace)}"
        self.namespace[name] = value
        return name


def _attribute(name: str) -> str:
    """A field of `m`, also one whose name is a word of Python's."""
    import keyword

    return f"getattr(m, {name!r})" if keyword.iskeyword(name) or name.startswith("__") else f"m.{name}"


def _base64_text(value: bytes) -> str:
    return b64encode(value).decode()


def _number(value: float) -> Any:
    """As JSON has it: what is no number is a text."""
    if value - value == 0.0:
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _single(value: float) -> Any:
    """A number of 32 bits with as many digits as it needs."""
    if value - value != 0.0:
        return _number(value)
    if value == int(value) and abs(value) < 1e7:
        return value
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        try:
            if _SINGLE.unpack(_SINGLE.pack(short))[0] == value:
                return short
        except OverflowError:
            continue
    return float(f"{value:.9g}")


def _iso(value: Any) -> str:
    text: str = value.ToJsonString()
    return text


def _milliseconds(value: Any) -> int | float:
    if not 0 <= value.nanos < 1_000_000_000:
        raise ExtractError("a Timestamp in it is none")
    return as_milliseconds(value.seconds * 1_000_000 + value.nanos // 1000)


def _json_format(settings: MessageSettings, pool: Any) -> Callable[[Any], Any]:
    from google.protobuf.json_format import MessageToDict

    def json(value: Any) -> Any:
        return MessageToDict(
            value,
            preserving_proto_field_name=settings.field_names == "proto",
            always_print_fields_with_no_presence=settings.defaults,
            descriptor_pool=pool,
        )

    return json

"""What generated chains call by name: the few functions that have no plain Python operator. Pure."""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import orjson

from streamd.codecs import Undecodable
from streamd.component.event_time import event_time as event_time
from streamd.component.event_time import json_name
from streamd.component.partitioning import composite_bytes, key_bytes
from streamd.errors import ExtractError, MissingFieldError, TransformError
from streamd.record import Headers

UNSET = msgspec.UNSET
loads = orjson.loads
dumps = orjson.dumps

# Names that a generated function uses for itself, and Python's own, which expressions call.
RESERVED = frozenset(dir(builtins)) | {
    *("records", "partition", "failed", "r", "v", "d", "error", "kept", "counts", "limit_ms"),
    *("chain", "chain_plain", "decode", "loads", "dumps", "UNSET", "DecodeError", "Record"),
    *("need", "key_text", "header_map", "to_key", "with_path", "without_path", "without_fields", "deepcopy"),
    *("document_of", "event_time", "too_far_ahead", "now_ms", "dropped"),
    *("times", "high", "watermark", "floor", "processing_ms", "before_1970"),
}


def attribute(name: str) -> str:
    """The attribute of the decoded struct that holds a field: its own name, where that cannot clash."""
    plain = name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_")
    return name if plain else "field_" + "".join(c if c.isalnum() else f"_{ord(c)}_" for c in name)


def need(value: Any, name: str) -> Any:
    """The value of a field that may be absent, or the error that says which one is."""
    if value is UNSET:
        raise MissingFieldError(f"field {name!r} is missing")
    return value


def document_of(value: Any) -> dict[str, Any]:
    """The parsed value, if it is a document."""
    if type(value) is not dict:
        if isinstance(value, Undecodable):
            raise ExtractError(value.reason)
        raise ExtractError(f"a record must be a JSON object, this one is {json_name(value)}")
    return value


def key_text(key: bytes | None) -> str | None:
    """A record's key as text."""
    if key is None:
        return None
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise TransformError("the record's key is not UTF-8 text") from None


def header_map(headers: Headers) -> dict[str, str | None]:
    """Headers as a mapping; the last of several with one name wins, as in Kafka."""
    return {name: None if value is None else value.decode("utf-8", "replace") for name, value in headers}


def to_key(value: Any) -> bytes | None:
    """A value as a record's key: text as UTF-8, None as no key, anything else as JSON."""
    if type(value) is str:
        return value.encode()
    if value is None or type(value) is bytes:
        return value
    return dumps(value, option=orjson.OPT_SORT_KEYS)


def table_key(value: Any, names: Sequence[str]) -> bytes | None:
    """The key of a record without a value, as `key_by` would make it of a document: of an object its fields `names`.

    Raises TransformError.
    """
    if value is None:
        return None
    if type(value) is not dict or not names:
        return key_bytes(value)
    lacking = [name for name in names if name not in value]
    if lacking:
        raise TransformError(f"the key of a record without a value has no `{lacking[0]}`, by which records are keyed")
    return key_bytes(value[names[0]]) if len(names) == 1 else composite_bytes([value[name] for name in names])


def refuse_tombstone() -> None:
    """Refuse a record without a value, of whose key nobody behind could tell the format."""
    raise TransformError("a record without a value comes with the key that was read, and others with one in text")


def with_path(value: Any, path: Sequence[str], new: Any) -> Any:
    """`value` with `new` at the path inside it; missing objects are made, and nothing is changed in place."""
    name = path[0]
    if value is None:
        value = {}
    elif type(value) is not dict:
        raise TransformError(f"cannot set {name!r} inside {json_name(value)}")
    if len(path) > 1:
        new = with_path(value.get(name), path[1:], new)
    return {**value, name: new}


def without_path(value: Any, path: Sequence[str]) -> Any:
    """`value` without what is at the path inside it."""
    if type(value) is not dict or path[0] not in value:
        return value
    if len(path) == 1:
        return {name: inner for name, inner in value.items() if name != path[0]}
    return {**value, path[0]: without_path(value[path[0]], path[1:])}


def without_fields(document: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The document, which is the caller's own, without some of its fields."""
    for name in names:
        document.pop(name, None)
    return document


def too_far_ahead(timestamp: int, limit: int) -> None:
    """Refuse a record from the future: one bad clock must not close every window."""
    unit = "nanoseconds" if timestamp >= 10**17 else "microseconds" if timestamp >= 10**14 else ""
    hint = f"; it looks like {unit}, and milliseconds are expected" if unit else ""
    raise ExtractError(f"the record's time is {timestamp - limit} ms further ahead than max_future allows{hint}")


def before_1970(timestamp: int) -> None:
    """Refuse a time that no event can have had: -1 is how Kafka says that a record has none."""
    raise ExtractError(
        "the record has no time" if timestamp == -1 else "the record's time is before 1970, as a number of milliseconds"
    )


def decoder(fields: Sequence[tuple[str, bool]]) -> Any:
    """A function bytes → struct of just these (name, required) fields; others are skipped over, unparsed.

    Raises msgspec.DecodeError for what is not JSON, ValidationError (a kind of it) for a missing field.
    """
    definitions = [
        (attribute(name), Any) if required else (attribute(name), Any, msgspec.UNSET) for name, required in fields
    ]
    rename = {attribute(name): name for name, _ in fields}
    struct = msgspec.defstruct("Fields", definitions, rename=rename, gc=False)
    return msgspec.json.Decoder(struct).decode

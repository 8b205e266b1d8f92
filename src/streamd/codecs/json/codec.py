"""The codec of the format json: bare objects, or objects behind the id of their schema."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import Any

import orjson

from streamd.codecs.codec import Codec, CodecContext, PlainCodec
from streamd.codecs.json.settings import JsonSettings
from streamd.codecs.undecodable import refuse
from streamd.component.event_time import json_name
from streamd.errors import ExtractError, LoadError


def decode(value: Any) -> dict[str, Any]:
    """The document in the bytes. Raises ExtractError when they are not JSON, or not an object."""
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        if not isinstance(value, bytes | bytearray | memoryview | str):
            refuse(value, "JSON")
        # `error.msg` says what was expected and where; it never quotes the text.
        raise ExtractError(f"not valid JSON at byte {error.pos}: {error.msg.split(':')[0]}") from None
    if type(document) is not dict:
        raise ExtractError(f"a record must be a JSON object, this one is {json_name(document)}")
    return document


def decode_any(value: bytes) -> Any:
    """The value in the bytes, of any type. Raises ExtractError."""
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ExtractError(f"not valid JSON at byte {error.pos}: {error.msg.split(':')[0]}") from None


def encode_any(value: Any) -> bytes:
    """Compact JSON, names in their order: equal values have equal bytes. Raises LoadError."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError) as error:
        raise LoadError(f"the document cannot be written as JSON: {error}") from None


def encode(document: Any) -> bytes:
    """Compact JSON. Raises LoadError when the document holds something that JSON has no word for."""
    try:
        return orjson.dumps(document)
    except (TypeError, ValueError) as error:
        # orjson names the type, not the value.
        raise LoadError(f"the document cannot be written as JSON: {error}") from None


def encode_finite(document: Any) -> bytes:
    """As `encode`, for documents that may hold what is no number: that would be written as null. Raises LoadError."""
    data = encode(document)
    # A document may well hold null: to read it again and compare takes a fraction of what a walk through it does.
    if b"null" in data and orjson.loads(data) != document and (path := _not_finite(document)) is not None:
        where = ".".join(path)
        raise LoadError(f"field `{where}` is NaN or an infinity, which JSON has no word for")
    return data


def _not_finite(value: Any) -> list[str] | None:
    """The way to the first number in a document that is none."""
    if value.__class__ is float:
        return None if isfinite(value) else []
    parts: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    for name, part in parts:
        if (path := _not_finite(part)) is not None:
            return [str(name), *path]
    return None


def codec(settings: JsonSettings, context: CodecContext) -> Codec:
    """The codec that the settings ask for. Raises ConfigError."""
    if settings.registry:
        from streamd.codecs.json.registered import RegisteredJsonCodec

        return RegisteredJsonCodec(settings, context)
    return PlainCodec(decode, encode) if context.whole else PlainCodec(decode_any, encode_any)

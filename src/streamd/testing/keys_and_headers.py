"""Keys and headers of a test's records: JSON in the test, bytes of their formats in the records."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import orjson

from streamd.codecs import Codec
from streamd.codecs.avro.evolution import schema_of
from streamd.codecs.avro.schema import Schema
from streamd.codecs.avro.values import Forms
from streamd.codecs.avro.writing import Writing
from streamd.codecs.beside import header_of, key_of, owner_of
from streamd.codecs.schema_registry import SchemaRegistry
from streamd.errors import StreamdError
from streamd.record import Headers, Row
from streamd.testing.case_file import Given

_RAW = "base64"


class UnfitValueError(StreamdError):
    """A key or a header of a test cannot be one of its source."""


def given_key(given: Given, source: str, codecs: Mapping[str, Codec]) -> bytes | None:
    """The key as it lies in the record. `codecs`: of keys and headers, by name. Raises UnfitValueError."""
    return _bytes(given.key, codecs.get(key_of(source)), "the key")


def given_headers(given: Given, source: str, codecs: Mapping[str, Codec]) -> Headers:
    """The headers as they lie in the record. Raises UnfitValueError."""
    return tuple(
        (name, _bytes(value, codecs.get(header_of(source, name)), f"the header `{name}`"))
        for name, value in given.headers
    )


def _bytes(value: Any, codec: Codec | None, what: str) -> bytes | None:
    """Without a format text as UTF-8, None as none, anything else as JSON. {base64: text} are bytes as they are."""
    if value is None or isinstance(value, bytes):
        return value
    try:
        if isinstance(value, dict) and value.keys() == {_RAW}:
            return b64decode(value[_RAW], validate=True)
        if codec is not None:
            # What a registry is to say is made up before the test runs (`registered`).
            return codec.encode(value) if codec.writable else _written(value, 0, getattr(codec, "kind", ""))
    except (StreamdError, ValueError, TypeError) as error:
        raise UnfitValueError(f"{what} is not of its format: {error}") from None
    return value.encode() if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


async def registered(given: Given, source: str, codecs: Mapping[str, Codec], registry: SchemaRegistry) -> Given:
    """The record with bytes of schemas made up for what has none: a source takes them from the registry."""

    async def made(value: Any, name: str) -> Any:
        codec: Any = codecs.get(name)
        if codec is None or codec.writable or value is None or (isinstance(value, dict) and value.keys() == {_RAW}):
            return value
        text = "{}" if codec.kind == "JSON" else _schema(value).text
        found = await registry.register(f"{name} of the test", text, codec.kind)
        return _written(value, found.id, codec.kind)

    key = await made(given.key, key_of(source))
    headers = tuple([(name, await made(value, header_of(source, name))) for name, value in given.headers])
    return Given(given.node, given.value, given.partition, key, given.timestamp, headers)


def _schema(value: Any) -> Schema:
    schema = schema_of(value)
    if schema is None:
        raise UnfitValueError("no Avro schema can be made up for it")
    return schema


def _written(value: Any, schema_id: int, kind: str) -> bytes:
    """The value of a schema made up for it, behind the schema's id."""
    if kind == "PROTOBUF":
        raise UnfitValueError("no Protobuf message can be made up for it; give the source `proto` and `message`")
    if kind == "JSON":
        return b"\x00" + schema_id.to_bytes(4) + orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return Writing(_schema(value), Forms()).encode(value, b"\x00" + schema_id.to_bytes(4))


def shown_key(row: Row, sink: str, codecs: Mapping[str, Codec]) -> Any:
    """The key as a test sees it: read by the sink's format, or as text."""
    return _shown(row.key, codecs.get(key_of(sink)), "backslashreplace")


def shown_headers(row: Row, sink: str, codecs: Mapping[str, Codec]) -> dict[str, Any]:
    """The headers as a test sees them: read by the sink's formats, or as text."""
    return {name: _shown(value, codecs.get(header_of(sink, name)), "replace") for name, value in row.headers}


def _shown(value: bytes | None, codec: Codec | None, errors: str) -> Any:
    if value is None:
        return None
    if codec is not None:
        try:
            read = codec.decode(value)
        except StreamdError:
            read = value
        if read.__class__ is not bytes:
            return read
    return value.decode("utf-8", errors)


def codecs_of_one(component: str, codecs: Mapping[str, Codec]) -> list[Codec]:
    """All codecs of one source or sink."""
    return [codec for name, codec in codecs.items() if owner_of(name) == component]

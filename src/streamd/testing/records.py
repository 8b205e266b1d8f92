"""Records between a test file and the pipeline: into what a source gives, and out of what a sink takes."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from copy import deepcopy
from types import MappingProxyType
from typing import Any

import orjson

from streamd.codecs import Codec
from streamd.codecs.format import format_of
from streamd.component.fields import parse_field_path
from streamd.config.pipeline import ComponentConfig
from streamd.errors import StreamdError
from streamd.record import Row, SourceRecord
from streamd.testing.case_file import Expected, Given, Wanted
from streamd.testing.keys_and_headers import UnfitValueError, given_headers, given_key, shown_headers, shown_key

_MARK = "streamd."


class UnfitRecordError(StreamdError):
    """A record of a test cannot be one of its source."""


def source_record(given: Given, source: ComponentConfig, codecs: Mapping[str, Codec], now_ms: int) -> SourceRecord:
    """The record as the source would give it. `codecs`: the source's own, and of its keys and headers, by name.

    Raises UnfitRecordError.
    """
    timestamp = now_ms if given.timestamp is None else given.timestamp
    value = _source_value(given.value, source, codecs.get(source.id))
    try:
        key, headers = given_key(given, source.id, codecs), given_headers(given, source.id, codecs)
    except UnfitValueError as error:
        raise UnfitRecordError(f"not a record of source {source.id!r}: {error}") from None
    return SourceRecord(key, value, timestamp, 0, headers)


def _source_value(value: Any, source: ComponentConfig, codec: Codec | None) -> Any:
    if value is None:
        return None
    if codec is None:
        if not isinstance(value, dict):
            raise UnfitRecordError(f"source {source.id!r} gives documents, expected a mapping")
        return deepcopy(value)
    form = format_of(source.settings)
    try:
        if isinstance(value, str):
            return b64decode(value, validate=True) if codec.binary else value.encode()
        # A source that takes each record's schema from a registry has none to write by.
        return codec.encode(value) if codec.writable else deepcopy(value)
    except ValueError:
        raise UnfitRecordError(
            f"not a record of source {source.id!r}, whose format is {form}: expected its document, or its bytes as "
            "base64 text"
        ) from None
    except StreamdError as error:
        raise UnfitRecordError(f"not a record of source {source.id!r}, whose format is {form}: {error}") from None


def shown(row: Row, sink: ComponentConfig, codecs: Mapping[str, Codec] = MappingProxyType({})) -> dict[str, Any]:
    """A row as a test sees it: key, value, timestamp and headers, of JSON. `codecs`: those to be used, by name.

    Of a format whose bytes are no text, `base64` has them beside the document.
    """
    key, headers = shown_key(row, sink.id, codecs), shown_headers(row, sink.id, codecs)
    codec = codecs.get(sink.id)
    record = {"key": key, "value": _value(row.value, sink), "timestamp": row.timestamp, "headers": headers}
    if codec is not None and codec.binary and isinstance(row.value, bytes):
        record["base64"] = b64encode(row.value).decode()
        try:
            record["value"] = codec.decode(row.value)
        except StreamdError:
            record["value"] = record["base64"]
    return record


def _value(value: Any, sink: ComponentConfig) -> Any:
    if not isinstance(value, bytes):
        return value if value is None else orjson.loads(orjson.dumps(value, default=str))
    form = getattr(sink.settings, "format", "json")
    if form in ("json", "ndjson", "pretty"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            pass
    return value.decode("utf-8", "backslashreplace")


def dead_letter_shown(row: Row, sink: ComponentConfig) -> dict[str, Any]:
    """A dead letter as a test sees it, whether it is one with headers or an envelope."""
    record = shown(row, sink)
    headers = record["headers"]
    if f"{_MARK}error" in headers:
        facts: Mapping[str, Any] = {name.removeprefix(_MARK): value for name, value in headers.items()}
        value = record["value"]
    else:
        envelope = record["value"]
        facts, value = envelope["error"], envelope["record"]["value"]
    return {
        "component": facts["stage"],
        "error": facts["error"],
        "message": facts["message"],
        "phase": facts["phase"],
        "key": record["key"],
        "value": value,
    }


def compared(expected: Expected, wanted: Wanted, got: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(expected, got) of two records, reduced to what is to be compared."""
    ours: dict[str, Any] = dict(wanted.parts)
    theirs = {name: got.get(name) for name in ours}
    if "headers" in ours and isinstance(ours["headers"], Mapping):
        theirs["headers"] = {name: value for name, value in got["headers"].items() if name in ours["headers"]}
    if expected.kind == "dead_letters" and isinstance(ours.get("message"), str) and ours["message"] in got["message"]:
        theirs["message"] = ours["message"]
    if "key" in ours and not isinstance(ours["key"], str | None) and isinstance(theirs["key"], str):
        ours["key"] = orjson.dumps(ours["key"], option=orjson.OPT_SORT_KEYS).decode()
    if isinstance(ours.get("value"), str) and "base64" in got:
        theirs["value"] = got["base64"]
    if expected.fields and "value" in ours:
        ours["value"] = only(ours["value"], expected.fields)
        theirs["value"] = only(theirs["value"], expected.fields)
    return (ours["value"], theirs["value"]) if wanted.whole else (ours, theirs)  # type: ignore[return-value]


def only(value: Any, fields: Sequence[str]) -> Any:
    """The document with just these fields; dotted names are inside objects."""
    if not isinstance(value, Mapping):
        return value
    kept: dict[str, Any] = {}
    for name in fields:
        path = parse_field_path(name)
        found: Any = value
        for part in path:
            if not isinstance(found, Mapping) or part not in found:
                break
            found = found[part]
        else:
            inner = kept
            for part in path[:-1]:
                inner = inner.setdefault(part, {})
            inner[path[-1]] = found
    return kept

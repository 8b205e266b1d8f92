"""When two outputs are the same record: values as JSON means them, without what is left out on purpose."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from streamd.verify.outputs import OutputRecord

# When a dead letter was written, and after how many attempts, is different each time; so is the time of `stamp`.
TIMES = ("streamd.time", "streamd.attempt")
DEAD_LETTER_TIMES = ("error.time", "error.attempt")

_SORTED = orjson.OPT_SORT_KEYS


class Canonical:
    """Makes records comparable. `ignored`: dotted names of fields, `_headers.NAME` for headers; `parse`: values are
    JSON.
    """

    def __init__(self, ignored: Iterable[str], *, parse: bool) -> None:
        names = tuple(ignored)
        self._headers = {*TIMES, *(name.removeprefix("_headers.") for name in names if name.startswith("_headers."))}
        self._paths = [tuple(name.split(".")) for name in names if not name.startswith("_headers.")]
        self._parse = parse

    def document(self, value: bytes | None) -> Any:
        """The value without the ignored fields; what is no JSON as it is."""
        if not self._parse or value is None:
            return value
        try:
            document = orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
        for path in self._paths:
            _remove(document, path)
        return document

    def headers(self, record: OutputRecord) -> list[tuple[str, bytes | None]]:
        """The headers that count."""
        return [(name, value) for name, value in record.headers if name not in self._headers]

    def hash(self, record: OutputRecord, *more: int) -> int:
        """64 bits that are the same for equal records, and `more` numbers."""
        document = self.document(record.value)
        body = document if document is None or isinstance(document, bytes) else orjson.dumps(document, option=_SORTED)
        hashed = hashlib.blake2b(repr((record.key, self.headers(record), more)).encode(), digest_size=8)
        hashed.update(b"" if body is None else b"=" + body)
        return int.from_bytes(hashed.digest(), "big", signed=True)

    def differences(self, one: OutputRecord, other: OutputRecord) -> list[str]:
        """Names of what differs: fields, `_key`, `_headers`."""
        found = [] if one.key == other.key else ["_key"]
        found += (
            [] if self.headers(one) == self.headers(other) else _header_names(self.headers(one), self.headers(other))
        )
        return found + different_fields(self.document(one.value), self.document(other.value))


def hash_key(key: bytes | None) -> int | None:
    """64 bits of a key."""
    if key is None:
        return None
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big", signed=True)


def different_fields(one: Any, other: Any, path: str = "") -> list[str]:
    """Dotted names of the fields in which two values differ; `_value` for the whole."""
    if isinstance(one, dict) and isinstance(other, dict):
        found: list[str] = []
        for name in [*one, *(name for name in other if name not in one)]:
            inner = f"{path}.{name}" if path else str(name)
            if name not in one or name not in other:
                found.append(inner)
            else:
                found += different_fields(one[name], other[name], inner)
        return found
    return [] if type(one) is type(other) and one == other else [path or "_value"]


def _header_names(one: Sequence[tuple[str, bytes | None]], other: Sequence[tuple[str, bytes | None]]) -> list[str]:
    different = {name for name, _ in set(one) ^ set(other)}
    return [f"_headers.{name}" for name in sorted(different)] or ["_headers"]


def _remove(document: Any, path: Sequence[str]) -> None:
    for name in path[:-1]:
        if isinstance(document, list):
            for item in document:
                _remove(item, path[path.index(name) :])
            return
        document = document.get(name) if isinstance(document, dict) else None
    if isinstance(document, dict):
        document.pop(path[-1], None)
    elif isinstance(document, list):
        for item in document:
            _remove(item, path[-1:])

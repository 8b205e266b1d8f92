"""One store: a stage's memory in one task, as plain dicts."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import orjson

from streamd.component.transaction import Change
from streamd.errors import TransformError

MAX_KEY_BYTES = 64 * 1024
# The integers that JSON is written with here.
SMALLEST, LARGEST = -(2**63), 2**64 - 1


class DictStore:
    """`Store` (component/state.py), held whole in memory.

    Texts and integers are their own keys; all other values, which Python's dicts would mix up (True is 1) or refuse
    (lists), are keyed by their JSON.
    """

    def __init__(self) -> None:
        self.values: dict[Hashable, Any] = {}
        self.dirty: set[Hashable] = set()

    def key_of(self, value: Any) -> Hashable:
        """See `Store.key_of`. Refuses null, what is no JSON, and more than 64 KiB."""
        if type(value) is int:
            if not SMALLEST <= value <= LARGEST:
                raise TransformError("a key is an integer of more than 64 bits")
            return value
        if type(value) is str:
            if len(value) > MAX_KEY_BYTES // 4 or not value.isascii():
                _check_text(value)
            return value
        if value is None:
            raise TransformError("a key is null; leave such records out before this stage")
        if type(value) is float:
            if not math.isfinite(value):
                raise TransformError("a key is no finite number")
            if value.is_integer() and SMALLEST <= value <= LARGEST:
                return int(value)
        try:
            key = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        except TypeError:
            raise TransformError(f"a key is no JSON value, but of type {type(value).__name__}") from None
        _check_length(len(key))
        return key

    def changes(self) -> list[Change]:
        """What has changed since `committed`, as the changelog takes it."""
        values, dumps = self.values, orjson.dumps
        return [
            (key if type(key) is bytes else dumps(key), dumps(values[key]) if key in values else None)
            for key in self.dirty
        ]

    def committed(self) -> None:
        """The changes are durable."""
        self.dirty.clear()

    def load(self, changes: Sequence[Change]) -> None:
        """Take what a changelog gives. Raises ValueError for what no store has written."""
        values, loads = self.values, orjson.loads
        for name, value in changes:
            key = loads(name)
            if type(key) is not str and type(key) is not int:
                key = name
            if value is None:
                values.pop(key, None)
            else:
                values[key] = loads(value)


def _check_text(text: str) -> None:
    try:
        _check_length(len(text.encode()))
    except UnicodeEncodeError:
        raise TransformError("a key has half of a surrogate pair, which is no text") from None


def _check_length(length: int) -> None:
    if length > MAX_KEY_BYTES:
        raise TransformError(f"a key has {length} bytes, a store takes at most {MAX_KEY_BYTES}")

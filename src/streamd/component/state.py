"""The contract of a store: what a stateful stage remembers between records, in one task; and what can be a key."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Final, Protocol

import orjson

from streamd.errors import TransformError
from streamd.expr.limits import type_name

MAX_KEY_BYTES: Final = 64 * 1024
# The integers that JSON is written with here.
SMALLEST, LARGEST = -(2**63), 2**64 - 1


class Table(Protocol):
    """{key: value}: a dict, so that a stage reads its own writes at the price of a dict.

    `table[key]` is None for a key that is not there; a value is never None. Whoever sets a value, or changes one in
    place, adds the key to `dirty`. `get`, `in` and iteration see only what is in memory: use `[]` and `scan`. A value
    that was read is not kept until the next batch: by then it may have left memory, and what is changed there is lost.
    """

    dirty: set[Hashable]

    def __getitem__(self, key: Hashable) -> Any: ...
    def __setitem__(self, key: Hashable, value: Any) -> None: ...

    def remove(self, key: Hashable) -> None:
        """Forget a key, whether it is there or not."""

    def scan(self) -> Iterator[tuple[Hashable, Any]]:
        """All keys with their values, in no order. The table must not change meanwhile."""


class TimeTable(Protocol):
    """{time: table}: tables that come and go as a whole, as windows do. A dict of ints (ms).

    `times[time]` makes the table where there is none; `in`, `get` and iteration tell which there are. A time without
    keys is gone after a restore.
    """

    def __getitem__(self, time: int) -> Table: ...
    def __contains__(self, time: object) -> bool: ...
    def __iter__(self) -> Iterator[int]: ...
    def __len__(self) -> int: ...
    def get(self, time: int) -> Table | None: ...

    def drop(self, time: int) -> None:
        """Forget a time and all its keys."""


class Store(Protocol):
    """The tables of one stage in one task. Values are JSON, or what `pack` makes JSON of and `unpack` makes of JSON.

    At each checkpoint the dirty keys go to the changelog, in the checkpoint's transaction; after a crash the tables are
    as at the last checkpoint. A key is what `key_of` gives.

    `in_memory`: tables are held whole there, so that `get`, `in` and iteration see all of them, and values stay.
    """

    in_memory: bool

    def table(
        self, name: str, pack: Callable[[Any], Any] | None = None, unpack: Callable[[Any], Any] | None = None
    ) -> Table:
        """The stage's table of that name. Asked for in the stage's `open`, before the state is restored."""

    def times(
        self, name: str, pack: Callable[[Any], Any] | None = None, unpack: Callable[[Any], Any] | None = None
    ) -> TimeTable:
        """As `table`, by times."""

    def key_of(self, value: Any) -> Hashable:
        """See `key_of` below."""


def key_of(value: Any) -> Hashable:
    """The key for a JSON value: equal values have equal keys, others do not.

    Texts and integers are their own keys; of all others, which Python's dicts would mix up (True is 1) or refuse
    (lists), a key is the JSON, as bytes. Raises TransformError for null, what is no JSON, and more than 64 KiB.
    """
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
        if value.is_integer():
            if not SMALLEST <= value <= LARGEST:
                # Where a whole document is decoded, integers so large come as floats, and several as the same one.
                raise TransformError("a key is a whole number of more than 64 bits")
            return int(value)
    try:
        key = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        raise TransformError(f"a key is no JSON value, but of type {type_name(value)}") from None
    _check_length(len(key))
    return key


def _check_text(text: str) -> None:
    try:
        _check_length(len(text.encode()))
    except UnicodeEncodeError:
        raise TransformError("a key has half of a surrogate pair, which is no text") from None


def _check_length(length: int) -> None:
    if length > MAX_KEY_BYTES:
        raise TransformError(f"a key has {length} bytes, a store takes at most {MAX_KEY_BYTES}")

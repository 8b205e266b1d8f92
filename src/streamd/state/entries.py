"""A changelog's records as people and programs outside read them: which table, which time, which key. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from streamd.component.state import key_of
from streamd.errors import FatalError, TransformError
from streamd.state.tables import TIME_DIGITS, name_of, time_from

# Event times lie within a million years of the epoch; longer numbers that are keys look like no such time.
_LONGEST: Final = 1 << 55
_TIME: Final = re.compile(rb"[0-9a-f]{%d}" % TIME_DIGITS)


class Entry(NamedTuple):
    """A key of a table. `time`: in ms, of a table of times, else None. `key`: the JSON value. `name`: its JSON."""

    table: str
    time: int | None
    key: Any
    name: bytes


def entry_of(key: bytes) -> Entry:
    """The entry that a changelog's key names. Raises FatalError for what no store has written."""
    table, colon, rest = key.partition(b":")
    time = None
    if _TIME.match(rest) and len(rest) > TIME_DIGITS:
        found = time_from(rest[:TIME_DIGITS])
        if -_LONGEST < found < _LONGEST:
            time, rest = found, rest[TIME_DIGITS:]
    try:
        if not colon:
            raise ValueError("without a table")
        return Entry(table.decode(), time, orjson.loads(rest), rest)
    except ValueError:
        raise FatalError(f"a changelog has a key of {len(key)} bytes that no store has written") from None


def key_text(key: Any) -> str:
    """A key for people: text as it is, all others as JSON."""
    return key if isinstance(key, str) else orjson.dumps(key).decode()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which keys of which tables somebody asks for. `names`: the JSON of the keys; `prefix`: of `key_text`."""

    names: frozenset[bytes] | None = None
    prefix: str = ""
    table: str | None = None

    def __contains__(self, entry: object) -> bool:
        assert isinstance(entry, Entry)
        return (
            (self.names is None or entry.name in self.names)
            and (self.table is None or entry.table == self.table)
            and (not self.prefix or key_text(entry.key).startswith(self.prefix))
        )


def keys_meant(text: str) -> Iterator[Any]:
    """The keys that a text from a command line or a URL may mean: the text itself, and the value that it is JSON of.

    As in tables: what `key_of` gives. A text in quotes means itself without them as well.
    """
    yield text
    try:
        value = orjson.loads(text)
        key = key_of(value)
    except (orjson.JSONDecodeError, TransformError):
        return
    if key != text or type(key) is not str:
        yield key


def names_meant(text: str) -> frozenset[bytes]:
    """`keys_meant`, as a changelog has them."""
    return frozenset(name_of(key) for key in keys_meant(text))

"""A source that is read whole into a table, and the table as stages look rows up in it."""

from __future__ import annotations

from typing import Any, Final

import orjson
from pydantic import Field

from streamd.component.fields import ExpressionField
from streamd.component.model import Model
from streamd.errors import TransformError

# Settings of sources that say where to begin, whose positions count, or at what time something was: a table is read
# whole by whoever needs it, and has no time.
NOT_OF_A_TABLE: Final = ("start", "end", "span", "group", "event_time", "partitioned_by", "on_position_lost")


class TableSettings(Model):
    """What makes a table of a source: `table:` beside it."""

    key: ExpressionField | None = Field(
        None, description="The key of a row, compared as text; the record's key without it.", examples=["id"]
    )


class LookupTable:
    """{key as text: row as JSON}: what a source with `table:` holds now, the same for all tasks of a process.

    `columns`: the fields that rows were cut down to, None for whole ones. Rows change between two batches only: never
    while a chain runs.
    """

    def __init__(self, name: str, columns: tuple[str, ...] | None = None) -> None:
        self.name, self.columns = name, columns
        # Bytes, not dicts: a third of the memory, nothing for the garbage collector to walk, and a row of one's own at
        # each lookup.
        self.rows: dict[str, bytes] = {}

    def __contains__(self, key: Any) -> bool:
        """Whether there is a row of that key. Raises TransformError for what is no key."""
        return (key if key.__class__ is str else self._text(key)) in self.rows

    def find(self, key: Any) -> dict[str, Any] | None:
        """The row of a key, which is the caller's to change; None where there is none, and for a key that is null.

        Raises TransformError for what is no key.
        """
        value = self.rows.get(key if key.__class__ is str else self._text(key))
        return None if value is None else orjson.loads(value)

    def _text(self, key: Any) -> Any:
        text = as_text(key)
        if text is not None and text.__class__ is not str:
            raise TransformError(f"the key for the table {self.name} must be text or a number, got {type_name(key)}")
        return text


def as_text(key: Any) -> Any:
    """A key as text: 7 and 7.0 as "7", true as "true". What is neither text, number nor boolean stays as it is."""
    kind = key.__class__
    if kind is int:
        return str(key)
    if kind is bool:
        return "true" if key else "false"
    if kind is float:
        return str(int(key)) if key.is_integer() and abs(key) < 1e16 else repr(key)
    return key


def type_name(value: Any) -> str:
    """What a JSON value is, for messages."""
    names: dict[type, str] = {dict: "an object", list: "a list", type(None): "nothing"}
    return names.get(type(value), type(value).__name__)

"""What a source gives in place of a value that it could not read."""

from __future__ import annotations

from typing import NoReturn

from streamd.component.event_time import json_name
from streamd.errors import ExtractError


class Undecodable:
    """The value of a record that the source found, but could not read: the chain makes it an ExtractError.

    `reason` is one sentence without record contents. `raw` are the bytes as they were found, for a dead letter: only
    their beginning when there were too many, which `reason` then says; None when there were none. `cut` is True where
    they are not all. The record still has its key, timestamp and offset, so that a dead letter says where it came from.
    """

    __slots__ = ("cut", "raw", "reason")

    def __init__(self, reason: str, raw: bytes | None = None, *, cut: bool = False) -> None:
        self.reason = reason
        self.raw = raw
        self.cut = cut or raw is None

    def __repr__(self) -> str:
        return f"Undecodable({self.reason!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Undecodable) and other.reason == self.reason

    def __hash__(self) -> int:
        return hash((Undecodable, self.reason))


def refuse(value: object, expected: str) -> NoReturn:
    """Raise the ExtractError for a value that is not bytes. `expected` names the format: "JSON", "a line of text"."""
    if isinstance(value, Undecodable):
        raise ExtractError(value.reason)
    if value is None:
        raise ExtractError(f"the record has no value (a tombstone), expected {expected}")
    raise ExtractError(f"the record's value is {json_name(value)}, expected bytes holding {expected}")

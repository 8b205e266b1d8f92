"""Records as lines, one each: what sinks of lines make of values that hold a line end themselves."""

from __future__ import annotations

from typing import Any

import orjson

from streamd.codecs.json import encode
from streamd.errors import LoadError


def json_line(value: bytes) -> bytes:
    """JSON on one line: records that nobody changed come as they were read, and may be spread over several."""
    return (value if b"\n" not in value else encode(parsed(value))) + b"\n"


def text_line(value: bytes) -> bytes:
    """A text with its line end. Raises LoadError for one that would be read as several lines, or as another one."""
    if b"\n" in value or value.endswith(b"\r"):
        raise LoadError("a text with a line end is not one line")
    return value + b"\n"


def parsed(value: bytes) -> Any:
    """What JSON says. Raises LoadError."""
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise LoadError(f"the record is not JSON, from byte {error.pos} on") from None

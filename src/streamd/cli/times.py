"""Moments as people write and read them on a command line."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from streamd.component.fields import parse_duration
from streamd.errors import ConfigError

_AGO = re.compile(r"(?P<duration>.+?)\s+ago", re.IGNORECASE)


def parse_moment(text: str, option: str, now_ms: int | None = None, others: str = "") -> int:
    """Ms since the epoch of an ISO date and time, or of `2h ago`. Without a zone it is UTC.

    Raises ConfigError, which names `others` first: what else the option takes.
    """
    now = int(time.time() * 1000) if now_ms is None else now_ms
    if text.strip() == "now":
        return now
    match = _AGO.fullmatch(text.strip())
    try:
        if match is not None:
            return max(0, now - int(parse_duration(match["duration"]) * 1000))
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigError(
            f"{option}: expected {others}a time, like 2026-01-31T12:00:00Z or `2h ago`, got {text[:60]!r}"
        ) from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return max(0, int(found.timestamp() * 1000))


def moment(ms: int) -> str:
    """A time for people, in UTC; with its milliseconds where it has any."""
    try:
        found = datetime.fromtimestamp(ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms"
    whole = f"{found:%Y-%m-%d %H:%M:%S}"
    return f"{whole}Z" if ms % 1000 == 0 else f"{whole}.{ms % 1000:03}Z"


def ago(ms: int, now_ms: int | None = None) -> str:
    """How long ago that was: `3 s ago`."""
    seconds = max(0.0, ((int(time.time() * 1000) if now_ms is None else now_ms) - ms) / 1000)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"

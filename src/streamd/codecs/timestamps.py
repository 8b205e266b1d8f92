"""Moments in documents: ms since the epoch, as expressions and `event_time` count, or ISO 8601 text in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(moment: datetime) -> int:
    """Since the epoch; a moment without a zone is one of UTC."""
    return ((moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)) - EPOCH) // _MICROSECOND


def as_milliseconds(micros: int) -> int | float:
    """With a fraction where there are microseconds."""
    whole, rest = divmod(micros, 1000)
    return whole if not rest else micros / 1000


def as_iso(micros: int) -> str:
    """With as many digits as it needs: none, three or six. Raises OverflowError beyond the years 1 to 9999."""
    digits = "seconds" if not micros % 1_000_000 else "milliseconds" if not micros % 1000 else "microseconds"
    return f"{(EPOCH + timedelta(microseconds=micros)).isoformat(timespec=digits)[:-6]}Z"

"""Functions of time. A moment is an int: milliseconds since 1970-01-01T00:00:00Z. Calendar and clock are UTC's."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from streamd.clock import SYSTEM_CLOCK
from streamd.errors import TransformError
from streamd.expr.functions.catalogue import Catalogue
from streamd.expr.limits import type_name

TIME = Catalogue("time")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_NAMED = {"second": 1_000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
_DIRECTIVES = "aAbBdfHIjmMpSuVGwyYzZ%"
# A Monday, so that weeks start on Mondays: 1970-01-01 was a Thursday.
_WEEK_START = -3 * 86_400_000


def _moment(ms: Any) -> datetime:
    if not isinstance(ms, int | float):
        raise TypeError(f"a time is a number of milliseconds since 1970, not a {type_name(ms)}")
    try:
        return _EPOCH + timedelta(milliseconds=ms)
    except (OverflowError, ValueError):
        raise TransformError("the time is out of range: not milliseconds since 1970, from year 1 to 9999") from None


def _ms(moment: datetime) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MS


def duration_ms(text: str) -> int:
    """A duration such as `10s`, `1m30s`, `2h`, `1d`, `500ms`, `1w`, in milliseconds. Raises ValueError."""
    parts = re.findall(r"(\d{1,15})(ms|s|m|h|d|w)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError('not a duration; right would be "10s", "1m30s", "2h", "1d", "500ms"')
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def _positive_duration(text: str) -> int:
    """Also the names second, minute, hour, day and week."""
    if text == "week":
        return _UNITS["w"]
    ms = _NAMED.get(text) or duration_ms(text)
    if not ms:
        raise ValueError("the duration is zero")
    return ms


def _format(text: str) -> str:
    """A strftime format with only plain directives: C's own take widths, which could make the text huge."""
    rest = re.sub(f"%[{_DIRECTIVES}]", "", text)
    if "%" in rest:
        wrong = rest[rest.index("%") : rest.index("%") + 2]
        raise ValueError(f"{wrong!r} is not a time directive; there are %{' %'.join(_DIRECTIVES)}")
    if len(text) > 200 or "\0" in text or not text.isprintable():
        raise ValueError("the format is longer than 200 characters, or has characters that cannot be printed")
    return text


@TIME.function("now()", ("now() > 1700000000000", True), result="int", deterministic=False, cheap=True)
def now() -> int:
    """The wall clock, in milliseconds since 1970. Another value when a record is processed again after a crash."""
    return SYSTEM_CLOCK.now_ms()


@TIME.function(
    "timestamp(year, month, day, hour=0, minute=0, second=0)",
    ("timestamp(2026, 1, 1)", 1767225600000),
    ("timestamp(2026, 1, 1, 12, minute=30)", 1767270600000),
    result="int",
    cheap=True,
)
def timestamp(year: Any, month: Any, day: Any, hour: Any, minute: Any, second: Any) -> int:
    """The moment with this date and time of day."""
    try:
        return _ms(datetime(year, month, day, hour, minute, second, tzinfo=UTC))
    except ValueError:
        raise TransformError("timestamp: there is no such date or time of day") from None


@TIME.function(
    "parse_time(text, format=null)",
    ('parse_time("2026-01-01T00:00:00Z")', 1767225600000),
    ('parse_time("2026-01-01T01:00:00+01:00")', 1767225600000),
    ('parse_time("31.12.2025 23:59", "%d.%m.%Y %H:%M")', 1767225540000),
    result="int",
    literals={"format": _format},
)
def parse_time(text: Any, form: Any) -> int:
    """The moment that a text says: ISO 8601, or in the given format such as `%d.%m.%Y %H:%M:%S`. Without a zone UTC."""
    if not isinstance(text, str):
        raise TypeError(f"parse_time takes a text, not a {type_name(text)}")
    try:
        return _ms(datetime.fromisoformat(text) if form is None else datetime.strptime(text, form))  # noqa: DTZ007
    except (ValueError, OverflowError):
        raise TransformError(f"parse_time: the text is not a time in {form or 'ISO 8601'!r}") from None


@TIME.function(
    "format_time(time, format)",
    ('format_time(1767225600000, "%Y-%m-%d")', "2026-01-01"),
    ('format_time(1767225780000, "%H:%M")', "00:03"),
    result="text",
    literals={"format": _format},
)
def format_time(time: Any, form: Any) -> str:
    """The moment as text in a format such as `%Y-%m-%d %H:%M:%S`."""
    return _moment(time).strftime(form)


@TIME.function("iso_time(time)", ("iso_time(1767225600123)", "2026-01-01T00:00:00.123Z"), result="text")
def iso_time(time: Any) -> str:
    """The moment as ISO 8601 text with milliseconds."""
    return _moment(time).isoformat(timespec="milliseconds")[:-6] + "Z"


@TIME.function("date(time)", ("date(1767225600000)", "2026-01-01"), result="text")
def date(time: Any) -> str:
    """The moment's date, `YYYY-MM-DD`."""
    return _moment(time).date().isoformat()


@TIME.function("year(time)", ("year(1767225600000)", 2026), result="int", cheap=True)
def year(time: Any) -> int:
    """The year."""
    return _moment(time).year


@TIME.function("month(time)", ("month(1767225600000)", 1), result="int", cheap=True)
def month(time: Any) -> int:
    """The month, 1 to 12."""
    return _moment(time).month


@TIME.function("day(time)", ("day(1767225600000)", 1), result="int", cheap=True)
def day(time: Any) -> int:
    """The day of the month, 1 to 31."""
    return _moment(time).day


@TIME.function("weekday(time)", ("weekday(1767225600000)", 4), result="int", cheap=True)
def weekday(time: Any) -> int:
    """The day of the week: 1 is Monday, 7 is Sunday."""
    return _moment(time).isoweekday()


@TIME.function("day_of_year(time)", ("day_of_year(1767225600000)", 1), result="int", cheap=True)
def day_of_year(time: Any) -> int:
    """The day of the year, 1 to 366."""
    return _moment(time).timetuple().tm_yday


@TIME.function("hour(time)", ("hour(1767270600000)", 12), result="int", cheap=True)
def hour(time: Any) -> int:
    """The hour of the day, 0 to 23."""
    return int(time // 3_600_000 % 24)


@TIME.function("minute(time)", ("minute(1767270600000)", 30), result="int", cheap=True)
def minute(time: Any) -> int:
    """The minute of the hour, 0 to 59."""
    return int(time // 60_000 % 60)


@TIME.function("second(time)", ("second(1767225601500)", 1), result="int", cheap=True)
def second(time: Any) -> int:
    """The second of the minute, 0 to 59."""
    return int(time // 1_000 % 60)


@TIME.function(
    "truncate_time(time, unit)",
    ('truncate_time(1767270612345, "minute")', 1767270600000),
    ('truncate_time(1767270612345, "10s")', 1767270610000),
    ('truncate_time(1767270612345, "week")', 1766966400000),
    result="int",
    literals={"unit": _positive_duration},
    cheap=True,
)
def truncate_time(time: Any, unit: Any) -> int:
    """The moment moved back to the start of its second, minute, hour, day or week (Monday), or of a span like `10s`."""
    if unit == _UNITS["w"]:
        return int((time - _WEEK_START) // unit * unit + _WEEK_START)
    return int(time // unit * unit)


@TIME.function(
    "duration(text)",
    ('duration("1m30s")', 90000),
    ('timestamp(2026, 1, 1) + duration("1h") == timestamp(2026, 1, 1, 1)', True),
    result="int",
    literals={"text": duration_ms},
    cheap=True,
)
def duration(ms: Any) -> int:
    """The milliseconds of a duration such as `"500ms"`, `"10s"`, `"1m30s"`, `"2h"`, `"1d"`, `"1w"`."""
    return int(ms)

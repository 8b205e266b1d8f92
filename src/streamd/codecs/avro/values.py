"""Avro's values that JSON has no word for: how they stand in a document, and back.

What reads gets fastavro's plain value (a number, bytes, a text) and gives the document's; what writes gets the
document's value and gives the number or the bytes to be written.
"""

from __future__ import annotations

import re
import struct
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, InvalidOperation
from math import isfinite
from typing import Any, Literal
from uuid import UUID

from streamd.codecs.avro.schema import Type, kind, logical

Convert = Callable[[Any], Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOCAL_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 — a wall clock's, which has no zone
_DAY_ZERO = date(1970, 1, 1).toordinal()
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
_DURATION = struct.Struct("<III")
_DAY_MS = 86_400_000
_MICROSECOND = timedelta(microseconds=1)


class UnfitError(Exception):
    """A value of a document does not fit its type. `path` leads to it; `reason` is free of what the record holds.

    `node` is the type, `value` what is there; `added` is the name of a field that the schema does not have.
    """

    def __init__(self, reason: str, node: Type = None, value: Any = None, added: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.node, self.value, self.added = reason, node, value, added
        self.path: list[str] = []


@dataclass(frozen=True, slots=True)
class Forms:
    """How values stand in documents where there is a choice."""

    timestamps: Literal["ms", "iso"] = "ms"
    decimals: Literal["text", "float"] = "text"
    unions: Literal["plain", "tagged"] = "plain"


# Reading.


def reads(node: Type, forms: Forms) -> Convert | None:
    """What makes the document's value of one of a type without parts; None where it is the same."""
    name, of = logical(node), kind(node)
    if name == "decimal":
        return _decimal_reader(int(node.get("scale", 0)), forms)
    if name in _READERS:
        return _READERS[name]
    if name.startswith("timestamp-"):
        return _instant_reader(name, forms)
    if name == "uuid" and of == "fixed":
        return lambda value: str(UUID(bytes=value))
    return base64_text if of in ("bytes", "fixed") else None


def base64_text(value: bytes) -> str:
    """Bytes as text."""
    return b64encode(value).decode()


def _decimal_reader(scale: int, forms: Forms) -> Convert:
    def text(value: bytes) -> str:
        return format(_EXACT.scaleb(Decimal(int.from_bytes(value, signed=True)), -scale), "f")

    return text if forms.decimals == "text" else lambda value: float(text(value))


def _instant_reader(name: str, forms: Forms) -> Convert | None:
    if name == "timestamp-nanos":
        return _milliseconds_of_nanos if forms.timestamps == "ms" else lambda value: f"{_nanos(value)}Z"
    if forms.timestamps == "ms":
        return None if name == "timestamp-millis" else _milliseconds
    factor = 1000 if name == "timestamp-millis" else 1
    digits = "milliseconds" if factor == 1000 else "microseconds"
    return lambda value: f"{(_EPOCH + timedelta(microseconds=value * factor)).isoformat(timespec=digits)[:-6]}Z"


def _milliseconds(micros: int) -> int | float:
    whole, rest = divmod(micros, 1000)
    return whole if not rest else micros / 1000


def _milliseconds_of_nanos(nanos: int) -> int | float:
    whole, rest = divmod(nanos, 1_000_000)
    return whole if not rest else nanos / 1_000_000


def _nanos(nanos: int) -> str:
    """With nine digits."""
    seconds, rest = divmod(nanos, 1_000_000_000)
    return f"{(_LOCAL_EPOCH + timedelta(seconds=seconds)).isoformat()}.{rest:09}"


def _local(micros: int, digits: str) -> str:
    return (_LOCAL_EPOCH + timedelta(microseconds=micros)).isoformat(timespec=digits)


def _time_of_day(micros: int, digits: str) -> str:
    return (_LOCAL_EPOCH + timedelta(microseconds=micros)).time().isoformat(timespec=digits)


def _duration_parts(value: bytes) -> dict[str, int]:
    months, days, milliseconds = _DURATION.unpack(value)
    return {"months": months, "days": days, "milliseconds": milliseconds}


_READERS: dict[str, Convert] = {
    "date": lambda days: date.fromordinal(days + _DAY_ZERO).isoformat(),
    "time-millis": lambda value: _time_of_day(value * 1000, "milliseconds"),
    "time-micros": lambda value: _time_of_day(value, "microseconds"),
    "local-timestamp-millis": lambda value: _local(value * 1000, "milliseconds"),
    "local-timestamp-micros": lambda value: _local(value, "microseconds"),
    "local-timestamp-nanos": _nanos,
    "duration": _duration_parts,
}

# Writing.


def writes(node: Type) -> Convert | None:
    """What makes of a document's value the number, bytes or text that is written; None where it is the same.

    It raises UnfitError.
    """
    name, of = logical(node), kind(node)
    if name == "decimal":
        return _decimal_writer(node)
    if name == "timestamp-nanos":
        return _instant_nanos
    if name in ("timestamp-millis", "timestamp-micros"):
        return _instant_writer(1000 if name == "timestamp-millis" else 1)
    if name in _WRITERS:
        return _WRITERS[name]
    if name == "uuid":
        return _uuid_text if of == "string" else _uuid_bytes
    return _bytes if of in ("bytes", "fixed") else None


def _decimal_writer(node: Any) -> Convert:
    scale, precision = int(node.get("scale", 0)), int(node["precision"])
    size = node["size"] if kind(node) == "fixed" else None
    expected = f"expected a decimal number with up to {precision} digits, {scale} of them behind the point"

    def write(value: Any) -> bytes:
        if value.__class__ not in (str, int, float):
            raise UnfitError(f"{expected}, as text or a number")
        try:
            given = Decimal(str(value))
        except InvalidOperation:
            raise UnfitError(expected) from None
        # By the place of the first digit: what is far too large must not be multiplied out.
        if not given.is_finite() or (given and not -scale <= given.adjusted() < precision - scale):
            raise UnfitError(expected)
        moved = given.scaleb(scale, _EXACT) if given else given
        whole = int(moved)
        if whole != moved:
            raise UnfitError(expected)
        return whole.to_bytes(size or (whole + (whole < 0)).bit_length() // 8 + 1, signed=True)

    return write


def _instant_writer(micros: int) -> Convert:
    """`micros`: how many microseconds the unit of the type has."""

    def write(value: Any) -> int:
        if value.__class__ is int:
            return int(value) if micros == 1000 else int(value) * 1000
        if value.__class__ is float:
            exact = value * (1000 // micros)
            if exact.is_integer() or (micros == 1 and isfinite(exact)):
                return round(exact)
        elif value.__class__ is str:
            return _ticks(value, micros)
        raise UnfitError("expected a time in ms since the epoch, or ISO 8601 text, no finer than the type")

    return write


def _instant_nanos(value: Any) -> int:
    if value.__class__ is int:
        return int(value) * 1_000_000
    if value.__class__ is float and isfinite(value):
        # By the digits that the number shows: a float has no more than some 0.2 µs of a time of today.
        return int(Decimal(repr(value)).scaleb(6, _EXACT).to_integral_value())
    if value.__class__ is str:
        since, beyond = _since_epoch(value)
        return since // _MICROSECOND * 1000 + beyond
    raise UnfitError("expected a time in ms since the epoch, or ISO 8601 text")


def _since_epoch(text: str) -> tuple[timedelta, int]:
    """The time since the epoch, and the nanoseconds beyond its microseconds."""
    try:
        moment, beyond = datetime.fromisoformat(text), _beyond_micros(text)
    except ValueError:
        raise UnfitError("expected a time as ISO 8601 text") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)) - _EPOCH, beyond


_FINE = re.compile(r"[.,]\d{6}(\d+)")


def _beyond_micros(text: str) -> int:
    """What a text has beyond microseconds, which Python's own reading leaves out, in nanoseconds. Raises UnfitError."""
    found = _FINE.search(text)
    if found is None:
        return 0
    digits = found[1].rstrip("0")
    if len(digits) > 3:
        raise UnfitError("the time is finer than nanoseconds")
    return int(digits.ljust(3, "0"))


def _ticks(text: str, micros: int) -> int:
    since, beyond = _since_epoch(text)
    return _in_units(since, micros, beyond)


def _in_units(since: timedelta, micros: int, beyond: int = 0) -> int:
    whole, rest = divmod(since // _MICROSECOND, micros)
    if rest or beyond:
        unit = "milliseconds" if micros == 1000 else "microseconds"
        raise UnfitError(f"the time is finer than {unit}, which is what the type holds")
    return whole


def _local_writer(micros: int) -> Convert:
    def write(value: Any) -> int:
        if value.__class__ is int:
            return int(value) * (1000 // micros)
        return _in_units(*_since_local_epoch(value, micros))

    return write


def _local_nanos(value: Any) -> int:
    if value.__class__ is int:
        return int(value) * 1_000_000
    since, _, beyond = _since_local_epoch(value, 1)
    return since // _MICROSECOND * 1000 + beyond


def _since_local_epoch(value: Any, micros: int) -> tuple[timedelta, int, int]:
    """What `_in_units` takes."""
    try:
        moment, beyond = datetime.fromisoformat(value), _beyond_micros(value)
    except (ValueError, TypeError):
        raise UnfitError("expected a date and time without a zone, as ISO 8601 text") from None
    if moment.tzinfo is not None:
        raise UnfitError("expected a date and time without a zone, this one has one")
    return moment - _LOCAL_EPOCH, micros, beyond


def _time_writer(micros: int) -> Convert:
    def write(value: Any) -> int:
        try:
            moment = time.fromisoformat(value)
        except (ValueError, TypeError):
            raise UnfitError("expected a time of day as text, such as 12:30:00.000") from None
        if moment.tzinfo is not None:
            raise UnfitError("expected a time of day without a zone, this one has one")
        since = timedelta(
            hours=moment.hour, minutes=moment.minute, seconds=moment.second, microseconds=moment.microsecond
        )
        return _in_units(since, micros, _beyond_micros(value))

    return write


def _days(value: Any) -> int:
    if value.__class__ is int:
        return int(value)
    try:
        return date.fromisoformat(value).toordinal() - _DAY_ZERO
    except (ValueError, TypeError):
        raise UnfitError("expected a date as text, such as 2026-01-31") from None


def _duration_bytes(value: Any) -> bytes:
    try:
        if value.keys() <= {"months", "days", "milliseconds"}:
            return _DURATION.pack(*(value.get(name, 0) for name in ("months", "days", "milliseconds")))
    except (AttributeError, struct.error):
        pass
    raise UnfitError("expected {months, days, milliseconds}, whole numbers that are not negative") from None


_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def _uuid_text(value: Any) -> str:
    if value.__class__ is str and _UUID.fullmatch(value):
        return str(value)
    raise UnfitError("expected a UUID as text")


def _uuid_bytes(value: Any) -> bytes:
    return UUID(_uuid_text(value)).bytes


def _bytes(value: Any) -> bytes:
    if value.__class__ is bytes:
        return bytes(value)
    try:
        return b64decode(value, validate=True)
    except (ValueError, TypeError):
        raise UnfitError("expected bytes as base64 text") from None


_WRITERS: dict[str, Convert] = {
    "date": _days,
    "time-millis": _time_writer(1000),
    "time-micros": _time_writer(1),
    "local-timestamp-millis": _local_writer(1000),
    "local-timestamp-micros": _local_writer(1),
    "local-timestamp-nanos": _local_nanos,
    "duration": _duration_bytes,
}

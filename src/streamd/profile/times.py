"""Whether a field's values are times, in which unit, and how far out of order they come."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

Unit = Literal["iso", "ms", "s"]

# Numbers are taken for times between the years 2000 and 2100.
_FIRST, _LAST = 946_684_800, 4_102_444_800


class Times:
    """Follows the values of one field as long as all are times of one unit. Times are ms since the epoch."""

    __slots__ = ("_latest", "behind", "count", "first", "last", "unit")

    def __init__(self) -> None:
        self.unit: Unit | None = None
        self.count = 0
        self.first = self.last = 0
        # The most that a time lay before another one of its partition that had come already.
        self.behind = 0
        self._latest: dict[int, int] = {}

    def add(self, value: Any, partition: int) -> bool:
        """Take a value; False when it is none of these times, so that the field has no times."""
        found = _time(value)
        if found is None or (self.unit is not None and found[0] != self.unit):
            return False
        self.unit, time = found
        latest = self._latest.get(partition, time)
        self.behind = max(self.behind, latest - time)
        self._latest[partition] = max(latest, time)
        self.first = time if not self.count else min(self.first, time)
        self.last = time if not self.count else max(self.last, time)
        self.count += 1
        return True

    def expression(self, path: str) -> str:
        """What `event_time` wants of the field at a path."""
        return f"{path} * 1000" if self.unit == "s" else path


def _time(value: Any) -> tuple[Unit, int] | None:
    if type(value) is str:
        if not 10 <= len(value) <= 40 or not value[:4].isdigit() or value[4] != "-":
            return None
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        return "iso", int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    if type(value) is int or type(value) is float:
        if _FIRST <= value <= _LAST:
            return "s", int(value * 1000)
        if _FIRST * 1000 <= value <= _LAST * 1000:
            return "ms", int(value)
    return None

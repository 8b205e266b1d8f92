"""What is to be looked at when the watermark passes a time."""

from __future__ import annotations

from typing import Any, Final

from streamd.record import BEGINNING

Lists = dict[int, list[Any]]


class Timers:
    """{time in ms: what is to be looked at}; a time that has passed is put off to the next one.

    Nothing is kept sorted: most times are taken soon after each other, ms by ms.
    """

    __slots__ = ("at", "passed")

    def __init__(self) -> None:
        self.at: Final[Lists] = {}
        self.passed = BEGINNING

    def new(self, time: int) -> list[Any]:
        """The list of a time that has none."""
        found = self.at[time] = []
        return found

    def add(self, time: int, what: Any) -> int:
        """Look at something then; the time that it really is."""
        time = max(time, self.passed + 1)
        found = self.at.get(time)
        if found is None:
            found = self.at[time] = []
        found.append(what)
        return time

    def take(self, until: int) -> list[tuple[int, list[Any]]]:
        """All up to a time, in order: (time, what is to be looked at)."""
        at, passed = self.at, self.passed
        if until <= passed:
            return []
        self.passed = until
        if until - passed < len(at):
            times = [time for time in range(passed + 1, until + 1) if time in at]
        else:
            times = sorted(time for time in at if time <= until)
        return [(time, at.pop(time)) for time in times]

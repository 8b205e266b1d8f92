"""The watermark of a task that does not run: its inputs say what a test wants, and its clock is moved by hand."""

from __future__ import annotations

from typing import Any

from streamd.component.event_time import EventTime
from streamd.config.pipeline import ComponentConfig
from streamd.runtime.watermark import Watermark


class HandClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.wall, self.seconds = 1_700_000_000_000, 100.0

    def now_ms(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds

    def pass_(self, seconds: float) -> None:
        self.seconds += seconds
        self.wall += round(1000 * seconds)


class StillReader:
    """A reader as far as the watermark looks at it: at its present end, unless it is told otherwise."""

    def __init__(self) -> None:
        self.left: int | None = 0
        self.ended = False

    def lag(self) -> int | None:
        return self.left


class Settings:
    def __init__(self, event_time: EventTime | None) -> None:
        self.event_time = event_time


class Inputs:
    """The watermark of a task with sources `a`, `b`, … that are all being asked for more."""

    def __init__(self, *settings: dict[str, Any] | None, stored: dict[str, int] | None = None) -> None:
        self.clock = HandClock()
        self.places = {("abc"[n], 0): given for n, given in enumerate(settings)}
        components: Any = {
            place: ComponentConfig(
                place[0], "source", "still", Settings(given and EventTime.model_validate(given)), None, None
            )  # type: ignore[arg-type]
            for place, given in self.places.items()
        }
        self.watermark = Watermark(components, stored or {}, self.clock)
        self.readers = {place: StillReader() for place in self.places}
        for place, reader in self.readers.items():
            self.watermark.attach(place, reader)  # type: ignore[arg-type]
            self.watermark._inputs[place].ask()

    def reader(self, name: str) -> Any:
        return self.readers[name, 0]

    def batch(self, name: str, high: int) -> int:
        """A batch comes through, and the next is asked for. The watermark after it."""
        place = (name, 0)
        one = self.watermark._inputs[place]
        one.answer()
        times = self.watermark.times(place)
        self.watermark.seen(place, max(high, times[0]))
        self.watermark.took(place)
        moved = self.watermark.move()
        one.ask()
        return moved

    def after(self, seconds: float) -> int:
        """The watermark when that long nothing has come."""
        self.clock.pass_(seconds)
        return self.watermark.move()

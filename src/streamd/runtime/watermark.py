"""The watermark of a task: up to which event time nothing more is expected. Milliseconds; it never goes back.

It is the least over the task's inputs of the highest time that each has seen, less what may come out of order. An input
that is read to its end for now, and quiet for `idle`, holds nothing back. When all are quiet it goes on with the wall
clock: what has begun ends although nothing comes. An input that is over for good holds nothing back either, and when
all are, the watermark is END.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamd.clock import Clock
from streamd.component.event_time import EventTime
from streamd.component.source import Reader
from streamd.component.stage import BEGINNING, END
from streamd.config.pipeline import ComponentConfig

# No source has this id.
ALL = ""


class _Input:
    """One input: its reader, the highest time seen, and since when it is quiet (monotonic seconds)."""

    def __init__(self, settings: EventTime | None, high: int, clock: Clock) -> None:
        self._clock = clock
        self.bound = round(settings.out_of_order * 1000) if settings is not None else 0
        self.processing = settings is not None and settings.clock == "processing"
        self.idle = settings.idle if settings is not None else None
        self.high = high
        self.quiet_since = clock.monotonic()
        self.reader: Reader | None = None

    @property
    def reached(self) -> int:
        """The watermark that this input alone would allow."""
        told: int | None = getattr(self.reader, "watermark", None)
        if told is not None:
            return told
        if self.processing:
            return self._clock.now_ms() - self.bound
        return BEGINNING if self.high == BEGINNING else self.high - self.bound

    def idle_now(self, now: float) -> bool:
        """Whether it is left out now, as what comes through an exchange is when all who send it are."""
        return bool(getattr(self.reader, "idle", False)) or self.quiet(now) is not None

    def quiet(self, now: float) -> float | None:
        """Seconds for which it has been quiet, once that is long enough to leave it out."""
        if self.idle is None or self.reader is None or self.reader.lag() != 0:
            return None
        seconds = now - self.quiet_since
        return seconds if seconds >= self.idle else None


class Watermark:
    """The watermark of one task. `inputs`: {place of a reader: its source}; `stored`: what `state` gave before."""

    def __init__(
        self, inputs: Mapping[tuple[str, int], ComponentConfig], stored: Mapping[str, int], clock: Clock
    ) -> None:
        self._clock = clock
        self._inputs = {
            place: _Input(getattr(source.settings, "event_time", None), stored.get(source.id, BEGINNING), clock)
            for place, source in inputs.items()
        }
        self._reached: int = stored.get(ALL, BEGINNING)
        self._over = False

    @property
    def now(self) -> int:
        """What it was when last asked to `move`."""
        return END if self._over else self._reached

    @property
    def idle(self) -> bool:
        """Whether all inputs that are not over are quiet, and hold nothing back."""
        now = self._clock.monotonic()
        active = [one for one in self._inputs.values() if one.reader is None or not one.reader.ended]
        return bool(active) and all(one.idle_now(now) for one in active)

    def attach(self, place: tuple[str, int], reader: Reader) -> None:
        """The reader of an input is open."""
        self._inputs[place].reader = reader

    def times(self, place: tuple[str, int]) -> list[int]:
        """What a chain is given with a batch of an input: highest time, watermark, what others allow at most."""
        others = self._least(one for other, one in self._inputs.items() if other != place)
        floor = max(others, self._reached)
        told = getattr(self._inputs[place].reader, "watermark_before", None)
        if told is not None:
            # The times of what comes through an exchange say nothing of what is still to come.
            return [END, min(max(told, self._reached), floor), floor]
        return [self._inputs[place].high, self._reached, floor]

    def seen(self, place: tuple[str, int], high: int) -> None:
        """A batch of an input went through: the highest time is this now."""
        one = self._inputs[place]
        one.high = max(one.high, high) if high != END else one.high
        one.quiet_since = self._clock.monotonic()

    def move(self) -> int:
        """The watermark by what is known now."""
        active = [one for one in self._inputs.values() if one.reader is None or not one.reader.ended]
        if not active:
            self._over = True
            return END
        now = self._clock.monotonic()
        quiet = [one.quiet(now) for one in active]
        awake = [one.reached for one, seconds in zip(active, quiet, strict=True) if seconds is None]
        if awake:
            reached = min(awake)
        else:
            reached = max(
                (one.reached + round(1000 * seconds) for one, seconds in zip(active, quiet, strict=True)
                 if seconds is not None and one.reached != BEGINNING),
                default=BEGINNING,
            )  # fmt: skip
        # `streamd test` moves the time by hand: its readers have such an attribute.
        moved = [to for one in active if (to := getattr(one.reader, "moved_to", None)) is not None]
        self._reached = max(self._reached, reached, min(moved, default=BEGINNING))
        return self._reached

    @property
    def due(self) -> float | None:
        """Seconds until an input that is quiet now is left out, at the earliest; None when none will be."""
        now = self._clock.monotonic()
        waits = [max(0.0, one.quiet_since + one.idle - now) for one in self._inputs.values() if one.idle is not None]
        return min(waits, default=None)

    def state(self) -> dict[str, int]:
        """What a checkpoint keeps: {source id: highest time, ALL: the watermark}.

        The end of all input is not kept: a file may have grown until the next start.
        """
        highs = {source: one.high for (source, _), one in self._inputs.items() if one.high != BEGINNING}
        return highs if self._reached == BEGINNING else {**highs, ALL: self._reached}

    def _least(self, inputs: Any) -> int:
        """What these allow: those that are over or quiet allow anything."""
        now = self._clock.monotonic()
        return min(
            (
                one.reached
                for one in inputs
                if not (one.reader is not None and one.reader.ended) and one.quiet(now) is None
            ),
            default=END,
        )

"""The watermark of a task: up to which event time nothing more is expected. Milliseconds; it never goes back.

It is the least over the task's inputs of the highest time that each has seen, less what may come out of order. An input
that is read to its end for now, and quiet for `idle`, holds nothing back. When all are quiet it goes on with the wall
clock: what has begun ends although nothing comes. An input that is over for good holds nothing back either, and when
all are, the watermark is END.

Only time in which an input was asked and had nothing makes it quiet: while a task is busy or held back records may be
there that nobody has seen, and behind a broker that is out of reach, or in a transaction that is open, as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from streamd.clock import Clock
from streamd.component.event_time import EventTime
from streamd.component.source import Reader
from streamd.config.pipeline import ComponentConfig
from streamd.record import BEGINNING, END, RawRecord

# No source has this id.
ALL = ""


# Times of today in seconds, taken for ms: they lie in 1970 to 1973, where hardly any real ones do.
SECONDS = range(10**9, 10**11)


class _Input:
    """One input: its reader, the highest time seen, and for how long it was asked and had nothing."""

    def __init__(self, settings: EventTime | None, high: int, clock: Clock) -> None:
        self._clock = clock
        self.bound = round(settings.out_of_order * 1000) if settings is not None else 0
        self.processing = settings is not None and settings.clock == "processing"
        self.field = settings.field if settings is not None else None
        # A clock that goes on by itself holds nothing back.
        self.idle = settings.idle if settings is not None and not self.processing else None
        self.high = high
        self.reader: Reader | None = None
        self.suspected = False
        # Seconds of silence up to the last answer; when the read under way was begun (monotonic), None without one.
        self._silence = 0.0
        self._asked: float | None = None
        # A read is done that nobody has taken yet.
        self._untaken = False

    @property
    def reached(self) -> int:
        """The watermark that this input alone would allow."""
        told: int | None = getattr(self.reader, "watermark", None)
        if told is not None:
            return told
        if self.processing:
            return self._clock.now_ms() - self.bound
        return BEGINNING if self.high == BEGINNING else self.high - self.bound

    @property
    def ended(self) -> bool:
        """Whether it is over for good."""
        return self.reader is not None and self.reader.ended

    def ask(self) -> None:
        """A read begins."""
        self._asked = self._clock.monotonic()

    def answer(self) -> None:
        """The read is done."""
        if self._asked is not None:
            self._silence += self._clock.monotonic() - self._asked
        self._asked, self._untaken = None, True

    def take(self) -> None:
        """What was read is processed, or was nothing."""
        self._untaken = False

    def heard(self) -> None:
        """There was something."""
        self._silence = 0.0
        if self._asked is not None:
            self._asked = self._clock.monotonic()

    def left_out(self) -> bool:
        """Whether it holds nothing back now, as what comes through an exchange does when all who send it are idle."""
        if bool(getattr(self.reader, "idle", False)):
            return not self._untaken and self._drained()
        return self.quiet() is not None

    def quiet(self) -> float | None:
        """Seconds for which it has been quiet, once that is long enough to leave it out."""
        if self.idle is None or self._untaken or not self._drained():
            return None
        under_way = 0.0 if self._asked is None else self._clock.monotonic() - self._asked
        seconds = self._silence + under_way
        return seconds if seconds >= self.idle else None

    def gone_on(self) -> int:
        """What it allows while it is left out: it goes on with the wall clock, as an exchange's reader does itself."""
        if self.reached == BEGINNING:
            return BEGINNING
        return self.reached + round(1000 * (self.quiet() or 0.0))

    def _drained(self) -> bool:
        """Whether all that is there is read, as far as one can know now."""
        reader = self.reader
        if reader is None or reader.lag() != 0 or getattr(reader, "stale", False):
            return False
        return not getattr(reader, "unstable", (0, 0.0))[0]


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
        active = [one for one in self._inputs.values() if not one.ended]
        return bool(active) and all(one.left_out() for one in active)

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

    async def while_asked(
        self, place: tuple[str, int], read: Callable[[], Awaitable[Sequence[RawRecord]]]
    ) -> Sequence[RawRecord]:
        """A read of an input: what has passed when it is done is silence, if it gives nothing."""
        self._inputs[place].ask()
        try:
            return await read()
        finally:
            self._inputs[place].answer()

    def took(self, place: tuple[str, int]) -> None:
        """What was read of an input, if anything, is processed."""
        self._inputs[place].take()

    def seen(self, place: tuple[str, int], high: int) -> None:
        """A batch of an input went through: the highest time is this now."""
        one = self._inputs[place]
        one.high = max(one.high, high) if high != END else one.high
        one.heard()

    def in_seconds(self, place: tuple[str, int]) -> str | None:
        """When the times of an input look like seconds, for the first time: what to write instead."""
        one = self._inputs[place]
        if one.high not in SECONDS or one.suspected or one.field is None:
            return None
        one.suspected = True
        text = str(one.field)
        field = text if text.replace(".", "").isidentifier() else f"({text})"
        return f"event_time: {{field: {field} * 1000}}, as times are milliseconds"

    def move(self) -> int:
        """The watermark by what is known now."""
        active = [one for one in self._inputs.values() if not one.ended]
        if not active:
            self._over = True
            return END
        awake = [one.reached for one in active if not one.left_out()]
        reached = min(awake) if awake else max(one.gone_on() for one in active)
        # `streamd test` moves the time by hand: its readers have such an attribute.
        moved = [to for one in active if (to := getattr(one.reader, "moved_to", None)) is not None]
        self._reached = max(self._reached, reached, min(moved, default=BEGINNING))
        return self._reached

    def state(self) -> dict[str, int]:
        """What a checkpoint keeps: {source id: highest time, ALL: the watermark}.

        The end of all input is not kept: a file may have grown until the next start.
        """
        highs = {source: one.high for (source, _), one in self._inputs.items() if one.high != BEGINNING}
        return highs if self._reached == BEGINNING else {**highs, ALL: self._reached}

    def _least(self, inputs: Iterable[_Input]) -> int:
        """What these allow: those that are over or left out allow anything."""
        return min((one.reached for one in inputs if not one.ended and not one.left_out()), default=END)

"""What the tasks before an exchange tell those behind it: how far each is in event time. Pure.

A control record is one without key and value, and with one header. Each task writes one to every partition of the
exchange at its checkpoints, so that it lies behind all that the task gave before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from streamd.record import BEGINNING, END, Headers, RawRecord

HEADER: Final = "streamd.exchange"


class Control(msgspec.Struct, frozen=True, omit_defaults=True):
    """Task `sender` of `senders` has given all before `watermark` (ms). `idle`: it holds nobody up. `over`: it is
    done for good.
    """

    sender: int = msgspec.field(name="from")
    senders: int = msgspec.field(name="of")
    watermark: int = BEGINNING
    idle: bool = False
    over: bool = False


_decoder = msgspec.json.Decoder(Control)


def headers_of(control: Control) -> Headers:
    """The headers that make a record a control record."""
    return [(HEADER, msgspec.json.encode(control))]


def control_in(record: RawRecord) -> Control | None:
    """What a record tells, None for a user's own. Raises msgspec.DecodeError for one that nobody has written."""
    if record.value is not None or record.key is not None:
        return None
    headers = record.headers
    if len(headers) != 1 or headers[0][0] != HEADER:
        return None
    return _decoder.decode(headers[0][1] or b"")


class Told:
    """What all senders have said so far, and the watermark that follows: it never goes back.

    It is the least of theirs. A sender that is idle or over holds nothing back; one that was not heard of yet does.
    """

    def __init__(self) -> None:
        self._reached = BEGINNING
        self._times: list[int | None] = []
        self._idle: set[int] = set()
        self._over: set[int] = set()

    @property
    def watermark(self) -> int:
        """Before which nothing more comes; END when all senders are over."""
        return END if self.over else self._reached

    @property
    def over(self) -> bool:
        """All senders are over."""
        return bool(self._times) and len(self._over) == len(self._times)

    @property
    def idle(self) -> bool:
        """All senders have nothing to give for now."""
        return bool(self._times) and len(self._over | self._idle) == len(self._times)

    def hear(self, control: Control) -> None:
        """Take what one sender says."""
        self._times += [None] * (control.senders - len(self._times))
        sender = control.sender
        self._times[sender] = max(control.watermark, self._times[sender] or BEGINNING)
        for said, group in ((control.idle, self._idle), (control.over, self._over)):
            group.add(sender) if said else group.discard(sender)
        self._reached = max(self._reached, self._least())

    def moves(self, control: Control) -> bool:
        """Whether hearing this would change what readers see."""
        after = Told()
        after._times, after._idle, after._over = [*self._times], {*self._idle}, {*self._over}
        after._reached = self._reached
        after.hear(control)
        return (after.watermark, after.idle) != (self.watermark, self.idle)

    def _least(self) -> int:
        if None in self._times:
            return BEGINNING
        times = [time for time in self._times if time is not None]
        awake = [time for n, time in enumerate(times) if n not in self._over and n not in self._idle]
        if awake:
            return min(awake)
        return max((times[n] for n in self._idle - self._over), default=BEGINNING)

    def state(self, run: str) -> list[Any]:
        """What to keep beside a position, as JSON: short, since it lies beside an offset. `run`: which run keeps it."""
        known = [time for time in self._times if time is not None and time != BEGINNING]
        base = min(known, default=0)
        times = [None if time is None else -1 if time == BEGINNING else time - base for time in self._times]
        reached = None if self._reached == BEGINNING else self._reached
        return [run, reached, base, times, sorted(self._idle), sorted(self._over)]

    def load(self, state: Sequence[Any], run: str) -> None:
        """Go on from what `state` gave.

        Who was over is so only for the run that knew it: in another the senders begin anew, and say so when they end.
        """
        of, reached, base, times, idle, over = state
        self._reached = BEGINNING if reached is None else reached
        self._times = [None if time is None else BEGINNING if time == -1 else base + time for time in times]
        self._idle, self._over = (set(idle), set(over)) if of == run else (set(), set())
        self._reached = max(self._reached, self._least())

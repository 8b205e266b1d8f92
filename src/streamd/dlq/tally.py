"""How many dead letters there are, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from streamd.dlq.choice import Choice
from streamd.dlq.letter import Letter
from streamd.dlq.marks import Done
from streamd.dlq.places import Kept, Place

Reason = tuple[str, str, str]


@dataclass(slots=True)
class Counts:
    """Letters of one reason. `open`: neither replayed nor purged. `oldest`, `newest`: ms since the epoch."""

    total: int = 0
    replayed: int = 0
    purged: int = 0
    oldest: int | None = None
    newest: int | None = None

    @property
    def open(self) -> int:
        return self.total - self.replayed - self.purged

    def add(self, letter: Letter, done: Done | None) -> None:
        """Count one."""
        self.total += 1
        self.replayed += done == "replayed"
        self.purged += done == "purged"
        self.oldest = letter.time if self.oldest is None else min(self.oldest, letter.time)
        self.newest = letter.time if self.newest is None else max(self.newest, letter.time)


@dataclass(slots=True)
class Tally:
    """One place. `reasons`: {(stage, phase, error): counts}; `others`: {pipeline: letters} of other pipelines that
    share it; `foreign`: records that are no dead letters of streamd.
    """

    place: Place
    all: Counts = field(default_factory=Counts)
    reasons: dict[Reason, Counts] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    foreign: int = 0


async def tallied(place: Place, choice: Choice) -> Tally:
    """Count what is in a place, all of it. Raises NotFoundError, UnavailableError."""
    tally = Tally(place)
    async with place.opened() as kept:
        async for letter, done in letters(kept, read=choice.reads):
            if letter is None:
                tally.foreign += 1
            elif choice.pipeline is not None and letter.pipeline != choice.pipeline:
                tally.others[letter.pipeline] += 1
            elif letter in choice:
                tally.all.add(letter, done)
                tally.reasons.setdefault(letter.reason, Counts()).add(letter, done)
    return tally


async def letters(kept: Kept, *, read: bool) -> AsyncIterator[tuple[Letter | None, Done | None]]:
    """(letter, how it was done with) of everything that is there now; None for a record that is no letter.

    `read`: with what their sources read of them.
    """
    span, marks = await kept.span(), await kept.marks()
    for partition, (first, end) in sorted(span.items()):
        done = marks.get(partition, {})
        async for batch in kept.records(partition, first, end):
            for record, letter in zip(batch, await kept.letters(batch, partition, read=read), strict=True):
                yield letter, done.get(record.offset)

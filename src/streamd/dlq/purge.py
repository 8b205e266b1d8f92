"""Dead letters that nobody wants to replay: marked as done, and deleted where all before them is done as well."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from streamd.clock import SYSTEM_CLOCK
from streamd.component.context import PipelineContext
from streamd.component.transaction import Changelog
from streamd.config.service import ServiceConfig
from streamd.dlq.choice import Choice
from streamd.dlq.marks import STORE, Marks, mark, task_of
from streamd.dlq.places import Kept, Place
from streamd.dlq.replay import marking
from streamd.dlq.tally import Reason, letters
from streamd.errors import ConfigError, FatalError, FencedError
from streamd.runtime.host import clients_closed

_AT_ONCE = 10_000
_COMMIT_INTERVAL = 1.0


@dataclass(slots=True)
class Purge:
    """What a purge marks. `offsets`: {partition: of the letters that are meant and have no mark}."""

    place: Place
    offsets: dict[int, list[int]] = field(default_factory=dict)
    reasons: Counter[Reason] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        return self.reasons.total()


async def meant(place: Place, choice: Choice, kept: Kept) -> Purge:
    """The letters that a purge would mark. Changes nothing. Raises ConfigError for a file."""
    if place.transport is None:
        raise ConfigError(f"{place}: dead letters in a file are not marked; delete the file, or what is in it")
    found = Purge(place)
    async for letter, done in letters(kept, read=choice.reads):
        if letter is not None and done is None and letter in choice:
            found.offsets.setdefault(letter.partition, []).append(letter.offset)
            found.reasons[letter.reason] += 1
    return found


async def purge(found: Purge, kept: Kept, service: ServiceConfig) -> dict[int, int]:
    """Mark the letters, then delete what is done. Gives {partition: the offset before which nothing is left}."""
    place = found.place
    context = PipelineContext(service.app, place.name, place.state_dir, place.base, place.kafka, service.create_topics)
    span = await kept.span()
    try:
        for partition, offsets in sorted(found.offsets.items()):
            await _mark(place, partition, offsets, len(span), span[partition][0], context)
    finally:
        await clients_closed()
    marks = await kept.marks()
    deleted = {}
    for partition, (first, end) in sorted(span.items()):
        # What was marked just now may not be seen yet by who reads what is committed.
        done = marks.get(partition, {}).keys() | set(found.offsets.get(partition, ()))
        before = await _done_before(kept, partition, first, end, done)
        if before > first and await kept.delete(partition, before):
            deleted[partition] = before
    return deleted


async def _mark(
    place: Place, partition: int, offsets: list[int], partitions: int, first: int, context: PipelineContext
) -> None:
    marks = Marks(Changelog(STORE, partitions), first)
    transaction = marking(place, task_of(context.app, place.name, partition), context, _COMMIT_INTERVAL, marks)
    try:
        await transaction.open()
        for start in range(0, len(offsets), _AT_ONCE):
            # A replay may have taken some since they were looked at: those are done already.
            new = [offset for offset in offsets[start : start + _AT_ONCE] if offset not in marks.done]
            transaction.begin()
            transaction.put_state(marks.changelog, [mark(o, "purged", SYSTEM_CLOCK.now_ms()) for o in new])
            await transaction.flush()
            await transaction.put_positions({}, {})
            await transaction.commit()
    except FencedError:
        raise FatalError(f"somebody else has begun to replay or to purge the dead letters of {place}") from None
    finally:
        await transaction.close()


async def _done_before(kept: Kept, partition: int, first: int, end: int, done: set[int]) -> int:
    """The first offset that is not done with; the end when everything is. What is no letter is never done with."""
    async for batch in kept.records(partition, first, end):
        for record in batch:
            if record.offset not in done:
                return record.offset
    return end

"""What is done with: a mark for each dead letter that was replayed or purged, in the transaction that did it.

The marks of a topic are a store of their own, beside those of pipelines: on Kafka the compacted topic
`streamd.APP.dlq.TOPIC.done.changelog`, on the embedded log its table of changelogs, for each partition of the topic
one task. Opening the task's transaction fences whoever else replays or purges the same letters, and settles what a
killed one left open; then its marks are read. So no letter is taken twice, whatever happened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import orjson

from streamd.component.stored import StoredState, StoreId
from streamd.component.transaction import Change, Changelog, Committed, Transaction
from streamd.record import Position, TaskId
from streamd.transport.embedded.transaction import EmbeddedTransaction

STORE: Final = "done"
Done = Literal["replayed", "purged"]


def name_of(topic: str) -> str:
    """What stands for the pipeline in the names of a topic's marks. No pipeline can have a dot in its name."""
    return f"dlq.{topic}"


def task_of(app: str, topic: str, partition: int) -> TaskId:
    """Who marks the letters of a partition."""
    return TaskId(app, name_of(topic), 0, partition)


class Marks:
    """The marks of one partition, for one attempt at it: {offset: how it was done}.

    `given`: the offsets of the letters that a replay has taken so far, in order. `first`: the topic's first offset;
    marks before it are of letters that are gone.
    """

    def __init__(self, changelog: Changelog, first: int) -> None:
        self.changelog, self._first = changelog, first
        self.done: dict[int, Done] = {}
        self.given: list[int] = []
        self._marked = 0
        self._gone: list[Change] = []

    def load(self, changes: Sequence[Change]) -> None:
        """Take what is committed."""
        for key, value in changes:
            offset = int(key)
            if value is None:
                self.done.pop(offset, None)
            else:
                self.done[offset] = how_of(value)

    def loaded(self) -> None:
        """All of it is there."""
        self._gone = [(b"%d" % offset, None) for offset in self.done if offset < self._first]

    def changes(self, position: int, now_ms: int) -> list[Change]:
        """What is to be marked now that the first `position` of the letters are processed."""
        new = [mark(offset, "replayed", now_ms) for offset in self.given[self._marked : position]]
        self._marked = position
        gone, self._gone = self._gone, []
        return gone + new


def mark(offset: int, how: Done, now_ms: int) -> Change:
    """The change that marks a letter."""
    return b"%d" % offset, orjson.dumps({"how": how, "time": now_ms})


def how_of(value: bytes) -> Done:
    """How a letter was done with, by its mark."""
    return "purged" if orjson.loads(value)["how"] == "purged" else "replayed"


async def marks_in(stored: StoredState) -> dict[int, dict[int, Done]]:
    """{partition: {offset: how it was done with}}, as it is committed, looked at from outside."""
    found: dict[int, dict[int, Done]] = {}
    for store in await stored.stores():
        if store.stage == STORE:
            found[store.partition] = await _of_store(stored, store)
    return found


async def _of_store(stored: StoredState, store: StoreId) -> dict[int, Done]:
    done: dict[int, Done] = {}
    async for changes in stored.changes(store):
        for key, value, _ in changes:
            if value is None:
                done.pop(int(key), None)
            else:
                done[int(key)] = how_of(value)
    return done


class MarkingTransaction:
    """A task's transaction (component/transaction.py) that marks the letters whose positions join it.

    Positions say nothing here of where to go on: what has a mark is passed over.
    """

    def __init__(self, inner: Transaction, marks: Marks, now_ms: Any) -> None:
        self._inner, self._marks, self._now_ms = inner, marks, now_ms

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def open(self) -> Committed:
        """As the transaction's own; the marks are read, and nothing is said of positions."""
        await self._inner.open()
        await opened(self._inner, self._marks)
        return Committed()

    async def put_positions(self, positions: Mapping[tuple[str, int], Position], cursors: Mapping[str, Any]) -> None:
        """As the transaction's own, with the marks of what was processed."""
        put(self._inner, self._marks, positions, self._now_ms())
        await self._inner.put_positions(positions, cursors)


class MarkingEmbeddedTransaction(EmbeddedTransaction):
    """The same on the embedded log, whose sinks append to nothing but its own kind of transaction."""

    marks: Marks

    async def open(self) -> Committed:
        """As `MarkingTransaction.open`."""
        await super().open()
        await opened(super(), self.marks)
        return Committed()

    async def put_positions(self, positions: Mapping[tuple[str, int], Position], cursors: Mapping[str, Any]) -> None:
        """As `MarkingTransaction.put_positions`."""
        put(super(), self.marks, positions, self._clock.now_ms())
        await super().put_positions(positions, cursors)


async def opened(transaction: Any, marks: Marks) -> None:
    """Read the marks, now that nobody else can make any."""
    await transaction.restore(marks.changelog, marks.load)
    marks.loaded()


def put(transaction: Any, marks: Marks, positions: Mapping[tuple[str, int], Position], now_ms: int) -> None:
    """Have the marks of all letters before the positions join the transaction."""
    position = max((int(position) for position in positions.values()), default=0)
    if changes := marks.changes(position, now_ms):
        transaction.put_state(marks.changelog, changes)

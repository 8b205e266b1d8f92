"""What a task's views hold, told to whoever asks the node: as of the task's last checkpoint, never of an open one.

A question that comes while records are processed waits for the checkpoint that they become part of, which is at most a
`commit_interval` away. What it costs the task is bounded: by keys that are looked at, and by bytes that are told.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Final, TypeAlias

import orjson

from streamd.errors import StreamdError
from streamd.runtime.control import Look, Seen
from streamd.state.entries import key_text, keys_meant

SCANNED: Final = 1_000_000
"""Keys of a table that a scan looks at, at most: some tenths of a second in which the task does nothing else."""
TOLD: Final = 1024 * 1024
"""Bytes of values in one answer; what follows is asked for again."""

Answer: TypeAlias = Callable[[Seen], None]


class _TooLargeError(Exception):
    """A table has more keys than are looked at."""


class Views:
    """The questions to one task. `stage`: gives a stage of the task by its id."""

    def __init__(self, stage: Callable[[str], Any], checkpoint: Callable[[], int]) -> None:
        self._stage, self._checkpoint = stage, checkpoint
        self._waiting: list[tuple[Look, Answer]] = []

    def look(self, order: Look, answer: Answer, *, committed: bool) -> None:
        """Answer now where everything is committed, else after the next checkpoint."""
        if committed:
            answer(self._seen(order))
        else:
            self._waiting.append((order, answer))

    def committed(self) -> None:
        """Everything is committed now."""
        waiting, self._waiting = self._waiting, []
        for order, answer in waiting:
            answer(self._seen(order))

    def close(self) -> None:
        """The task ends: what waits is answered by the next one."""
        waiting, self._waiting = self._waiting, []
        for order, answer in waiting:
            answer(Seen(order.number, "not_ready"))

    def _seen(self, order: Look) -> Seen:
        stage = self._stage(order.stage)
        table = getattr(stage, "view", None)
        if table is None:
            return Seen(order.number, "no_view")
        try:
            if order.key is not None:
                found = ((key, _value(table, key)) for key in keys_meant(order.key))
                entries, _ = _told(stage, ((key, value) for key, value in found if value is not None), 1)
                more = False
            else:
                entries, more = _told(stage, _scanned(table, order), order.limit)
        except _TooLargeError:
            return Seen(order.number, "too_large", keys=SCANNED)
        except StreamdError as error:
            return Seen(order.number, "failed", message=str(error))
        return Seen(order.number, "ok", entries, more, checkpoint=self._checkpoint())


def _value(table: Any, key: Hashable) -> Any:
    value = table[key]
    if value is None:
        # A table notes what it was asked for in vain; it must not grow by what others ask for.
        getattr(table, "fresh", set()).discard(key)
    return value


def _scanned(table: Any, order: Look) -> Iterator[tuple[Hashable, Any]]:
    """Entries in the order of their keys' texts, one more than asked for."""
    prefix, after = order.prefix, order.after

    def wanted() -> Iterator[tuple[str, Hashable, Any]]:
        for number, (key, value) in enumerate(table.scan()):
            if number >= SCANNED:
                raise _TooLargeError
            text = key if key.__class__ is str else key_text(_shown(key))
            if text.startswith(prefix) and (after is None or text > after):
                yield text, key, value

    found = heapq.nsmallest(order.limit + 1, wanted(), key=lambda one: one[0])
    return ((key, value) for _, key, value in found)


def _told(stage: Any, found: Iterator[tuple[Hashable, Any]], limit: int) -> tuple[list[tuple[bytes, bytes]], bool]:
    """[(key, value) as JSON], and whether there was more than fits."""
    entries: list[tuple[bytes, bytes]] = []
    size = 0
    for key, value in found:
        if len(entries) == limit or size > TOLD:
            return entries, True
        entry = orjson.dumps(_shown(key)), orjson.dumps(stage.shown(key, value), default=str)
        entries.append(entry)
        size += len(entry[0]) + len(entry[1])
    return entries, False


def _shown(key: Hashable) -> Any:
    """The JSON value of a table's key."""
    return orjson.loads(key) if isinstance(key, bytes) else key

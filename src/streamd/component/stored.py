"""The contract of looking at state from outside: what the tasks of a pipeline have committed, without being one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol


class StoreId(NamedTuple):
    """The store of one stage in one task. `part` is -1 where only its changelog is left to tell of it."""

    stage: str
    part: int
    partition: int

    @property
    def task(self) -> str:
        """The task within its pipeline: `part.partition`."""
        return f"{'-' if self.part < 0 else self.part}.{self.partition}"


class StoredChange(NamedTuple):
    """A change as a changelog holds it. `written_ms`: when, in ms since the epoch, None where it does not say."""

    key: bytes
    value: bytes | None
    written_ms: int | None


class StoredState(Protocol):
    """What one transport has of one pipeline. Reads only what is committed; holds nobody up, and changes nothing."""

    async def stores(self) -> Sequence[StoreId]:
        """All stores that have a changelog, in order."""

    def changes(self, store: StoreId) -> AsyncIterator[Sequence[StoredChange]]:
        """Everything that is committed of a store now, batch after batch, each key's newest change last."""

    def where(self, stage: str) -> str:
        """In words, where the changelogs of a stage are."""


class Forgotten(NamedTuple):
    """Something that a reset deletes, or has deleted. `kind`: changelog, positions, exchange, …; `name`: of the topic,
    the group or the file; `what`: of it, in words.
    """

    kind: str
    name: str
    what: str

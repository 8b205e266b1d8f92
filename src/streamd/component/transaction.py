"""The contract of a task's transaction: outputs, state and positions become durable together, or not at all.

`runtime/checkpoint.py` alone calls these methods, in the order open → restore… → (begin → append… → put_state… →
flush → put_positions → commit)… → close. After any exception other than from `open` the transaction is spent: `abandon`
it and make a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from streamd.record import Headers, Position


@dataclass(frozen=True, slots=True)
class Committed:
    """What the last checkpoint of a task left. Empty for a task that never committed.

    `positions`: {(source id, partition): position to go on from}. `cursors`: {sink id: what the sink's writer gave at
    its last flush}; a stateful stage's entry is the number of its last checkpoint.
    """

    positions: Mapping[tuple[str, int], Position] = field(default_factory=dict)
    cursors: Mapping[str, Any] = field(default_factory=dict)


# (key, value); without a value the key is gone.
Change: TypeAlias = tuple[bytes, bytes | None]


@dataclass(frozen=True, slots=True)
class Changelog:
    """Where a store's changes go: the `stage` whose store it is, and how many tasks, each with its own, there are."""

    stage: str
    tasks: int


class Tails(Protocol):
    """What a transaction has as well whose changelogs are logs, with positions: a restore from one of them on."""

    async def changelog_range(self, changelog: Changelog) -> tuple[int, int]:
        """(first position that is there, the one behind the last). Raises as `Transaction.restore`."""

    async def restore_tail(
        self, changelog: Changelog, load: Callable[[Sequence[Change]], None], start: int | None
    ) -> None:
        """As `Transaction.restore`, from a position on; None: everything."""


class Transaction(Protocol):
    """One task's transactions, one after another; at most one is open."""

    async def open(self) -> Committed:
        """Fence every older instance of this task, settle what it left open, and return what is committed.

        May be called once. Raises UnavailableError, AccessDeniedError, FatalError.
        """

    def begin(self) -> None:
        """Open a transaction, lazily: nothing is sent before there is something to send. No-op when one is open."""

    def append(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, timestamp: int, headers: Headers
    ) -> None:
        """Add one output record; never blocks. Raises LoadError when it alone is too large: nothing was added."""

    @property
    def backlog(self) -> int:
        """Bytes appended and not yet accepted by the transport. The task stops reading above its limit."""

    async def drain(self) -> None:
        """Push full batches out, and return when the backlog is small again. Raises what made a batch fail."""

    async def flush(self) -> None:
        """Return when everything appended is in the transport's hands. Raises what made any of it fail."""

    async def restore(self, changelog: Changelog, load: Callable[[Sequence[Change]], None]) -> None:
        """Give everything that was committed of a store to `load`, batch after batch, each key's newest change last.

        Makes the changelog where it is missing and may be made. Raises UnavailableError, NotFoundError, FatalError,
        AccessDeniedError.
        """

    def put_state(self, changelog: Changelog, changes: Sequence[Change]) -> None:
        """Make changes of a store part of the open transaction. Raises FatalError for one that is too large."""

    async def put_positions(self, positions: Mapping[tuple[str, int], Position], cursors: Mapping[str, Any]) -> None:
        """Make positions, and all cursors that there are now, part of the open transaction. Raises FencedError for a
        stale generation.
        """

    async def commit(self) -> None:
        """Commit. Any exception means: outcome unknown, abandon and open anew (`open` tells what is committed)."""

    async def abort(self) -> None:
        """Give up the open transaction, orderly. The transaction can be used again after it."""

    async def close(self) -> None:
        """Close when nothing is open, or abort what is. Bounded in time; never raises."""

    def abandon(self) -> None:
        """Drop everything at once without speaking to the other side. The next instance's `open` settles the rest."""

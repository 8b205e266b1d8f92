"""When a task's snapshot is used, and how it follows its changelogs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

import orjson

from streamd.component.transaction import Change, Changelog, Tails, Transaction
from streamd.errors import StreamdError, TransientError
from streamd.state.snapshot import Mark, Snapshot

META_KEY: Final = b"__meta__"
# Between two marks, in ms: about so much of a changelog is read at a restart, and no more than it could have had.
EVERY: Final = 10_000
# Compaction forgets in a day that a key was removed: an older snapshot could bring it back.
OLDEST: Final = 12 * 3_600_000
# From here on a tail is no shorter way than a whole restore.
LONGEST_TAIL: Final = 2_000_000
LAST_MARK: Final = 2.0  # seconds that a task which ends waits to be told where its changelogs end


class Snapshots:
    """The snapshot of a task's stages, beside their changelogs."""

    def __init__(self, snapshot: Snapshot, changelogs: Mapping[str, Changelog]) -> None:
        self._snapshot, self._changelogs = snapshot, changelogs
        # {stage: its changes}, of the checkpoint that is under way.
        self.written: dict[str, Sequence[Change]] = {}
        self._mark: Mark | None = None
        self._opened = False
        # {stage: its changelog's end when all before that was in the snapshot}
        self._ends: dict[str, int] = {}
        self._next = 0
        # Whether there was a checkpoint since it was opened.
        self._added = False

    async def tail(self, changelog: Changelog, transaction: Transaction, expected: int | None) -> list[Change] | None:
        """What a changelog got since the snapshot of a stage; None when the snapshot is not used.

        `expected`: the number of the stage's last checkpoint.
        """
        if not hasattr(transaction, "restore_tail"):
            return None
        tails = cast("Tails", transaction)
        if not self._opened:
            self._opened, self._mark = True, self._snapshot.open()
        first, end = await tails.changelog_range(changelog)
        self._ends[changelog.stage] = end
        mark, found = self._mark, list[Change]()
        if mark is None or expected is None or changelog.stage not in mark.starts:
            return self._refused(changelog)
        history, start = mark.starts[changelog.stage]
        age = self._snapshot.now_ms() - mark.at_ms
        if max(mark.number, mark.last) > expected or not first <= start < end or not 0 <= age <= OLDEST:
            return self._refused(changelog)
        if end - start > LONGEST_TAIL:
            return self._refused(changelog)
        await tails.restore_tail(changelog, found.extend, start)
        # At least one checkpoint lies behind each mark, so that the tail says itself where it belongs to.
        about = dict(found).get(META_KEY)
        meta = orjson.loads(about) if about else {}
        if meta.get("history") != history or meta.get("checkpoint") != expected:
            return self._refused(changelog)
        self._add(changelog.stage, found, expected)
        return found

    def entries(self, stage: str) -> Iterator[dict[bytes, bytes | None]]:
        """What the snapshot has of a stage. Raises TransientError when it cannot be read: the next attempt does not."""
        try:
            yield from self._snapshot.entries(stage)
        except Exception as error:
            self._snapshot.forget()
            raise TransientError(
                f"the local snapshot of stage {stage!r} cannot be read ({type(error).__name__}) and was deleted: state "
                "is restored from the changelog"
            ) from None

    def loaded(self, stage: str, changes: Sequence[Change]) -> None:
        """Some of a whole restore."""
        self._snapshot.fill(stage, _without_meta(changes))

    def committed(self, number: int) -> None:
        """What is in `written` is durable."""
        for stage, changes in self.written.items():
            self._add(stage, changes, number)
        self.written.clear()
        self._added = True

    async def keep(self, transaction: Transaction, number: int, histories: Mapping[str, str], now_ms: int) -> None:
        """Set a mark if it is time for one. Nothing of the task is open, and a checkpoint was made since the last call
        that set one.
        """
        if not self._opened or now_ms < self._next:
            return
        self._next = now_ms + EVERY
        try:
            ends = await self._range_ends(transaction)
        except StreamdError:
            return  # the next one will do
        self._snapshot.mark(number, {name: (histories[name], end) for name, end in self._ends.items()}, now_ms)
        self._ends = ends

    async def keep_last(self, transaction: Transaction, number: int, histories: Mapping[str, str], now_ms: int) -> None:
        """Set a mark behind which there is nothing but what the last checkpoint says of itself. Nothing is open, and
        nothing follows.
        """
        if not self._opened or not self._added:
            return  # a mark that is there is as good as it was
        try:
            async with asyncio.timeout(LAST_MARK):
                ends = await self._range_ends(transaction)
        except (StreamdError, TimeoutError):
            return
        # The last two: that record, and the transaction's end. Were it anything else, the tail would not say whose it
        # is, and state be restored whole.
        self._snapshot.mark(number, {name: (histories[name], end - 2) for name, end in ends.items()}, now_ms)

    async def _range_ends(self, transaction: Transaction) -> dict[str, int]:
        tails = cast("Tails", transaction)
        return {name: (await tails.changelog_range(log))[1] for name, log in self._changelogs.items()}

    def forget(self) -> None:
        """Begin with nothing: what is there is not to be trusted."""
        self._mark = None
        self._snapshot.forget()

    def close(self) -> None:
        """Finish writing."""
        self._snapshot.close()

    def _add(self, stage: str, changes: Sequence[Change], number: int) -> None:
        self._snapshot.add(stage, _without_meta(changes), number)

    def _refused(self, changelog: Changelog) -> list[Change] | None:
        self._snapshot.forget_stage(changelog.stage)
        return None


def _without_meta(changes: Sequence[Change]) -> list[Change]:
    newest = dict(changes)
    newest.pop(META_KEY, None)
    return list(newest.items())

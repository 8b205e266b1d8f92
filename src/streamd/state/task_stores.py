"""All stores of one task: restored when it opens, written to their changelogs at each checkpoint.

Each changelog carries, beside the keys, one record about itself: the number of the checkpoint that wrote it, the
positions that belong to it, and how far the sources' event times had come. The same number is committed with the task's
positions. So when the two do not say the same, something was lost or changed from outside, and the task does not start:
what it would compute from there is wrong.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final

import orjson

from streamd.component.transaction import Change, Changelog, Committed, Transaction
from streamd.errors import FatalError, TransientError
from streamd.record import Position, TaskId
from streamd.state.snapshot import Snapshot
from streamd.state.snapshots import META_KEY as META_KEY
from streamd.state.snapshots import Snapshots
from streamd.state.spill import Spill
from streamd.state.store import TableStore

FORMAT = 2
_NO_TIMES: Final[Mapping[str, int]] = MappingProxyType({})


class TaskStores:
    """The stores of the stateful stages of a task, by stage id.

    `settings`: {stage id: {setting: text} that its store depends on}. `exact`: whether changelog and positions are
    committed together; at least once, the changelog may be ahead. `times`: {source id: its highest event time, in ms},
    as the last checkpoint before the restore had it. `spill` holds the tables within a budget; None has them whole in
    memory. `snapshot` makes restarts short; it is used where state is exact alone.
    """

    def __init__(
        self,
        task: TaskId,
        settings: Mapping[str, Mapping[str, str]],
        tasks: int,
        *,
        exact: bool,
        spill: Spill | None = None,
        snapshot: Snapshot | None = None,
    ) -> None:
        self._task, self._exact = task, exact
        self._changelogs = {stage: Changelog(stage, tasks) for stage in settings}
        self._settings = {stage: _digests(texts) for stage, texts in settings.items()}
        self.stores = {stage: TableStore(stage, spill) for stage in settings}
        self._spill = spill
        self._snapshots = Snapshots(snapshot, self._changelogs) if snapshot is not None and exact else None
        # {stage: what tells its changelog from one that was begun anew}
        self._histories: dict[str, str] = {}
        self.times: dict[str, int] = {}
        # Keys that a restore found on the local disk.
        self.local = 0
        self._number = 0
        # {stage: when it changed last, in ms since the epoch}
        self._changed: dict[str, int | None] = {}

    @property
    def checkpoint(self) -> int:
        """The number of the last one."""
        return self._number

    def __bool__(self) -> bool:
        return bool(self.stores)

    def refuse_left(self, committed: Committed, others: Collection[str]) -> None:
        """Raise FatalError when the last checkpoint holds the state of a stage that is not here any more.

        `others`: ids of the sources and sinks, which have cursors as well. Without it, the next checkpoint would leave
        that state behind: no stage of its name could go on from it later.
        """
        left = [
            stage
            for stage, number in committed.cursors.items()
            if isinstance(number, int) and stage not in self.stores and stage not in others
        ]
        if left:
            name = min(left)
            raise FatalError(
                f"Task {self._task} has state of a stage {name!r}, as of checkpoint {committed.cursors[name]}, and no "
                "stage of this name remembers anything in this part of the pipeline: it was renamed, taken out, or "
                "moved behind another `key_by`. A stage's id is the name of its state. Nothing was computed. Give "
                f"the stage its name and its place back (`id: {name}`); or stop the pipeline, have this state deleted "
                f"with `streamd state reset FILE {name}`, and start it again."
            )

    async def restore(self, transaction: Transaction, committed: Committed, restored: Callable[[int], None]) -> None:
        """Fill the stores' tables with what is committed; `restored` hears how many records came from changelogs.

        What a local copy had is counted in `local`. The stages have asked for their tables before. Raises FatalError
        when a changelog does not belong to the committed positions, or has tables that its stage does not have;
        TransientError when a local copy does not fit them.
        """
        for stage, changelog in self._changelogs.items():
            found = _Found(self.stores[stage], restored, self._spill)
            try:
                await self._load(stage, changelog, transaction, committed, found)
            except ValueError as error:
                raise FatalError(self._about(stage, f"holds a record that no store has written ({error})")) from None
            self._check(stage, found, committed)
            self.local += found.local
            self.stores[stage].loaded()
            self._changed[stage] = (found.meta or {}).get("changed")
            self._histories[stage] = (found.meta or {}).get("history") or os.urandom(8).hex()
            for source, time in (found.meta or {}).get("times", {}).items():
                self.times[source] = max(time, self.times.get(source, time))

    def write(
        self,
        transaction: Transaction,
        positions: Mapping[tuple[str, int], Position],
        times: Mapping[str, int] = _NO_TIMES,
        now_ms: int | None = None,
    ) -> dict[str, int]:
        """Make what has changed part of the open transaction; gives {stage: checkpoint's number} for the positions.

        `times`: {source id: the highest event time seen, in ms}. `now_ms`: by the wall clock, for people to read.
        """
        self._number += 1
        meta = {
            "format": FORMAT,
            "checkpoint": self._number,
            "positions": [[source, partition, position] for (source, partition), position in positions.items()],
            "times": dict(times),
        }
        for stage, changelog in self._changelogs.items():
            changes = self.stores[stage].changes()
            if changes:
                self._changed[stage] = now_ms
            about = {
                **meta,
                "settings": self._settings[stage],
                "changed": self._changed.get(stage),
                "history": self._histories.get(stage, ""),
            }
            if self._spill is None:
                # Of tables beyond memory it is not known exactly.
                about["keys"] = len(self.stores[stage])
            if self._snapshots is not None:
                self._snapshots.written[stage] = changes
            transaction.put_state(changelog, [*changes, (META_KEY, orjson.dumps(about))])
        return dict.fromkeys(self._changelogs, self._number)

    def committed(self) -> None:
        """The last `write` is durable."""
        if self._spill is not None:
            self._spill.settle()
            self._spill.fit()
        for store in self.stores.values():
            store.committed()
        if self._snapshots is not None:
            self._snapshots.committed(self._number)

    async def keep(self, transaction: Transaction, now_ms: int) -> None:
        """Have the local snapshot follow, from time to time. Called after `committed`, with nothing open."""
        if self._snapshots is not None:
            await self._snapshots.keep(transaction, self._number, self._histories, now_ms)

    async def keep_last(self, transaction: Transaction, now_ms: int) -> None:
        """Have the local snapshot be complete, so that a restart need not read what came since its last mark. Called
        once, with all committed and nothing open.
        """
        if self._snapshots is not None:
            await self._snapshots.keep_last(transaction, self._number, self._histories, now_ms)

    def close(self) -> None:
        """Release what the stores hold beside memory."""
        if self._spill is not None:
            self._spill.close()
        if self._snapshots is not None:
            self._snapshots.close()

    async def _load(
        self, stage: str, changelog: Changelog, transaction: Transaction, committed: Committed, found: _Found
    ) -> None:
        """What is committed of a stage: by its snapshot and its changelog's tail where that can be, else all of it."""
        snapshots = self._snapshots
        if snapshots is None:
            await transaction.restore(changelog, found.load)
        elif (tail := await snapshots.tail(changelog, transaction, committed.cursors.get(stage))) is not None:
            for changes in snapshots.entries(stage):
                found.load(changes, local=True)
                await asyncio.sleep(0)  # the disk gives them at once, and the worker has more to do than this
            found.load(tail)
        else:

            def load(changes: Sequence[Change]) -> None:
                found.load(changes)
                snapshots.loaded(stage, changes)

            await transaction.restore(changelog, load)

    def _check(self, stage: str, found: _Found, committed: Committed) -> None:
        expected = committed.cursors.get(stage)
        meta = found.meta
        number = meta.get("checkpoint") if meta else None
        self._number = max(self._number, number or 0, expected or 0)
        if meta is not None and meta.get("format") != FORMAT:
            raise FatalError(self._about(stage, f"has format {meta.get('format')!r}, this streamd writes {FORMAT}"))
        if meta is not None and (changed := _changed(meta.get("settings"), self._settings[stage])):
            raise FatalError(self._about(stage, f"was written with other settings: {changed}"))
        if unknown := sorted(self.stores[stage].unknown):
            raise FatalError(self._about(stage, f"has tables that the stage does not have: {_shown(unknown)}"))
        if number == expected and (meta is not None or not found.count):
            self._count(stage, found)
            return
        if not self._exact and number is not None and number >= (expected or 0):
            return
        if number is None:
            what = (
                f"has no checkpoint, and the task's positions belong to checkpoint {expected}: it was deleted or "
                "truncated"
            )
        elif expected is None:
            what = (
                f"is of checkpoint {number}, and the task's positions belong to none: they were reset, the "
                "source's `group` is another one than before, or another deployment runs with this `app`"
            )
        else:
            what = f"is of checkpoint {number}, and the task's positions belong to checkpoint {expected}"
        raise FatalError(self._about(stage, what))

    def _count(self, stage: str, found: _Found) -> None:
        """Raise when keys are missing, or there are more than the last checkpoint left.

        FatalError where the changelog alone says so; TransientError where a local copy had a part in it, which is
        deleted: the next attempt does without.
        """
        there, left = len(self.stores[stage]), (found.meta or {}).get("keys")
        if not self._exact or self._spill is not None or left is None or there == left:
            return
        if found.local and self._snapshots is not None:
            self._snapshots.forget()
            raise TransientError(
                f"the local copy of stage {stage!r}, task {self._task}, gave {there} keys where the last checkpoint "
                f"left {left}, and was deleted: state is restored from the changelog"
            )
        why = "part of it was deleted" if there < left else "something else has written to it"
        raise FatalError(self._about(stage, f"has {there} keys, and its last checkpoint left {left}: {why}"))

    def _about(self, stage: str, what: str) -> str:
        return (
            f"The changelog of stage {stage!r}, task {self._task}, {what}. Nothing was computed from it. Put back what "
            "was there before; or, if nobody else uses this changelog, begin anew: stop the pipeline, delete its "
            f"changelogs and positions with `streamd state reset` (with `streamd state reset FILE {stage}` what this "
            "stage remembers alone: the pipeline goes on where it is), and start it again."
        )


def _digests(texts: Mapping[str, str]) -> dict[str, str]:
    # A setting's text may hold a secret, and the changelog lies where others read.
    return {name: blake2b(text.encode(), digest_size=8).hexdigest() for name, text in texts.items()}


def _changed(stored: Mapping[str, str] | None, now: Mapping[str, str]) -> str:
    """Which settings are not as they were; empty when all are."""
    before = stored or {}
    words = [f"{name} is new" for name in now.keys() - before.keys()]
    words += [f"{name} is gone" for name in before.keys() - now.keys()]
    words += [f"{name} has changed" for name in now.keys() & before.keys() if now[name] != before[name]]
    return ", ".join(sorted(words))


def _shown(names: Sequence[str]) -> str:
    """Names of tables; what can be none may be the content of someone else's record."""
    known = [repr(name) for name in names if name.isidentifier() and len(name) <= 40]
    return ", ".join(known + ["some that no streamd writes"] * (len(known) < len(names)))


class _Found:
    """What a changelog gave: its keys go to the store, its record about itself is kept."""

    def __init__(self, store: TableStore, restored: Callable[[int], None], spill: Spill | None) -> None:
        self._store, self._restored, self._spill = store, restored, spill
        self.meta: dict[str, Any] | None = None
        self.count = self.local = 0

    def load(self, changes: Sequence[Change] | Mapping[bytes, bytes | None], *, local: bool = False) -> None:
        newest = dict(changes)
        if META_KEY in newest:
            about = newest.pop(META_KEY)
            self.meta = orjson.loads(about) if about else None
        self._store.load(newest)
        if self._spill is not None:
            self._spill.fit()
        self.count += len(changes)
        self.local += len(changes) if local else 0
        self._restored(0 if local else len(changes))

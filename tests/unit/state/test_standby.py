"""A standby copy: whatever the changelog had, a restore with it gives what a restore without it gives."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd.component.transaction import Committed
from streamd.errors import TransientError
from streamd.record import SourceRecord, TaskId
from streamd.state.snapshot import Snapshot
from streamd.state.snapshots import EVERY, META_KEY, OLDEST
from streamd.state.standby import Standby
from streamd.state.task_stores import TaskStores

TASK = TaskId("app", "p", 0, 0)
STAGES = ("s", "t")


class Changelog:
    """One stage's changelog as Kafka keeps it: {offset: (key, value)}; control records and aborted ones are gaps."""

    def __init__(self):
        self.records, self.end = {}, 0

    def add(self, changes, *, committed=True):
        if committed:
            self.records |= dict(enumerate(changes, self.end))
        self.end += len(changes) + 1

    def compact(self):
        newest = {key: offset for offset, (key, _) in self.records.items()}
        self.records = {offset: self.records[offset] for offset in sorted(newest.values())}


class Prompt(Snapshot):
    """A snapshot whose thread is never behind."""

    def add(self, stage, changes, number):
        super().add(stage, changes, number)
        self._finish()


class Followed:
    """What a standby has of a changelog, so many records at once."""

    def __init__(self, changelog, at_once=3):
        self.changelog, self.position, self.asked, self.at_once = changelog, 0, False, at_once

    async def range(self):
        return 0, self.changelog.end

    def seek(self, position):
        self.position = position

    async def read(self, max_records, timeout):
        self.asked = True
        found = [(at, c) for at, c in sorted(self.changelog.records.items()) if at >= self.position]
        found = found[: self.at_once]
        self.position = found[-1][0] + 1 if len(found) == self.at_once else self.changelog.end
        if not found:
            await asyncio.sleep(0)
        return [SourceRecord(key, value, 0, at) for at, (key, value) in found]

    def lag(self):
        return self.changelog.end - self.position if self.asked else None

    async def close(self):
        pass


class World:
    """The changelogs of a task of two stages, and the folders of the node that runs it and of the one with the copy."""

    def __init__(self, folder, at_once=3, kind=Snapshot):
        self.folder, self.now_ms, self.at_once, self.kind = folder, 1_000_000, at_once, kind
        self.logs = {stage: Changelog() for stage in STAGES}
        self.cursors = {}
        self.read = 0

    def snapshot(self):
        return self.kind(self.folder / "copy", type("Clock", (), {"now_ms": lambda _: self.now_ms})())

    async def follow(self):
        """Follow to the end, and let go."""
        copy = Standby(TASK, self.snapshot(), {name: Followed(log, self.at_once) for name, log in self.logs.items()})
        running = asyncio.create_task(copy.run())
        try:
            async with asyncio.timeout(10):
                while not (running.done() or (copy.ready and copy.lag == 0)):  # noqa: ASYNC110 — there is no event
                    await asyncio.sleep(0)
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    async def task(self, *, copy=False):
        stores = TaskStores(
            TASK, {stage: {} for stage in STAGES}, 1, exact=True, snapshot=self.snapshot() if copy else None
        )
        tables = {stage: (stores.stores[stage].table("a"), stores.stores[stage].times("w")) for stage in STAGES}
        self.read = 0
        try:
            await stores.restore(self, Committed({}, dict(self.cursors)), lambda _: None)
        except BaseException:
            stores.close()
            raise
        return stores, tables

    # The transaction that a task has.

    async def changelog_range(self, changelog):
        return 0, self.logs[changelog.stage].end

    async def restore_tail(self, changelog, load, start):
        records = self.logs[changelog.stage].records
        found = [records[at] for at in sorted(records) if at >= (start or 0)]
        self.read += len(found)
        load(found)

    async def restore(self, changelog, load):
        await self.restore_tail(changelog, load, None)

    def put_state(self, changelog, changes):
        self.written[changelog.stage] = changes

    def write(self, stores, *, committed=True):
        self.written = {}
        cursors = stores.write(self, {})
        for stage, changes in self.written.items():
            self.logs[stage].add(changes, committed=committed)
        if committed:
            self.cursors = cursors
            stores.committed()


def contents(tables):
    return {
        stage: (dict(plain), {time: dict(table) for time, table in times.items()})
        for stage, (plain, times) in tables.items()
    }


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(STAGES), st.sampled_from("abcdef"), st.integers(-(2**63), 2**63 - 1)),
        st.tuples(st.just("window"), st.sampled_from(STAGES), st.sampled_from("ab"), st.integers(0, 2)),
        st.tuples(st.just("drop"), st.sampled_from(STAGES), st.none(), st.integers(0, 2)),
        st.tuples(st.just("remove"), st.sampled_from(STAGES), st.sampled_from("abcdef"), st.none()),
        st.tuples(
            st.sampled_from(["commit", "commit", "abort", "compact", "follow", "follow", "late", "reset"]),
            st.none(), st.none(), st.none(),
        ),
    ),
    max_size=40,
)  # fmt: skip


async def check(folder, steps, at_once, kind):
    world = World(folder, at_once, kind)
    stores, tables = await world.task()
    world.write(stores)
    for step, stage, key, value in steps:
        if step == "put":
            tables[stage][0][key] = value
            tables[stage][0].dirty.add(key)
        elif step == "window":
            tables[stage][1][value][key] = 1
            tables[stage][1][value].dirty.add(key)
        elif step == "drop":
            tables[stage][1].drop(value)
        elif step == "remove":
            tables[stage][0].remove(key)
        elif step == "commit":
            world.write(stores)
        elif step == "abort":
            world.write(stores, committed=False)
            stores, tables = await world.task()
        elif step == "compact":
            for log in world.logs.values():
                log.compact()
        elif step == "reset":
            # As `streamd state reset` and a new beginning: other histories, at the same offsets perhaps.
            world.logs, world.cursors = {name: Changelog() for name in STAGES}, {}
            stores, tables = await world.task()
            world.write(stores)
        elif step == "late":
            world.now_ms += OLDEST + 1
        else:
            world.now_ms += EVERY
            try:
                await world.follow()
            except TransientError:
                await world.follow()
    world.now_ms += 1
    _, plain = await world.task()
    warm, copied = await world.task(copy=True)
    try:
        assert contents(copied) == contents(plain)
    finally:
        warm.close()


@settings(max_examples=60)
@given(STEPS, st.sampled_from([1, 3, 1000]), st.sampled_from([Snapshot, Prompt]))
def test_a_restore_with_a_copy_is_one_without(steps, at_once, kind):
    """Whether a read has a part of a checkpoint or many of them, and however soon the copy's thread writes."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(Path(folder), steps, at_once, kind))


@pytest.mark.parametrize("kind", [Snapshot, Prompt])
async def test_many_checkpoints_in_one_read_are_all_in_the_copy(tmp_path, kind):
    world = World(tmp_path, 1000, kind)
    stores, tables = await history(world)
    for key in range(50):
        tables["s"][0].remove(f"k{key}")
        if key % 10 == 9:
            world.write(stores)
    await world.follow()
    warm, copied = await world.task(copy=True)
    warm.close()
    assert copied["s"][0] == {}


async def history(world, checkpoints=20):
    stores, tables = await world.task()
    for number in range(checkpoints):
        for key in range(50):
            tables["s"][0][f"k{key}"] = number
            tables["s"][0].dirty.add(f"k{key}")
        world.write(stores)
    return stores, tables


async def test_a_restore_reads_what_came_since(tmp_path):
    world = World(tmp_path)
    stores, tables = await history(world)
    await world.follow()
    tables["s"][0]["new"] = 1
    tables["s"][0].dirty.add("new")
    world.write(stores)
    warm, copied = await world.task(copy=True)
    warm.close()
    assert copied["s"][0] == tables["s"][0]
    assert warm.local >= 50
    assert world.read <= 2 * (2 + 1), "of each stage the last checkpoint's record, and what came then"


async def test_a_copy_with_other_keys_is_deleted_and_state_restored_whole(tmp_path):
    """However it came to that: what the last checkpoint left says so."""
    world = World(tmp_path)
    _, tables = await history(world)
    await world.follow()
    damaged = world.snapshot()
    assert damaged.open() is not None
    damaged.add("s", [(b'a:"ghost"', b"1")], 1)
    damaged.close()
    with pytest.raises(TransientError, match=r"gave 51 keys where the last checkpoint left 50, and was deleted"):
        await world.task(copy=True)
    again, copied = await world.task(copy=True)
    again.close()
    assert copied["s"][0] == tables["s"][0]
    assert again.local == 0


async def test_a_copy_goes_on_where_it_was(tmp_path):
    world = World(tmp_path)
    await history(world)
    await world.follow()
    await history(world, 2)
    asked = []
    read = Followed.read

    async def counted(self, max_records, timeout):
        found = await read(self, max_records, timeout)
        asked.extend(record.offset for record in found)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Followed, "read", counted)
        await world.follow()
    assert 100 <= len(asked) < 200


async def test_a_folder_in_use_is_left_alone(tmp_path):
    world = World(tmp_path)
    await history(world, 1)
    theirs = world.snapshot()
    theirs.open()
    with pytest.raises(TransientError, match="in use"):
        await world.follow()
    theirs.close()
    await world.follow()


async def test_a_changelog_that_was_begun_anew_is_copied_anew(tmp_path):
    world = World(tmp_path)
    await history(world, 5)
    await world.follow()
    world.logs, world.cursors = {stage: Changelog() for stage in STAGES}, {}
    stores, _ = await world.task()
    world.write(stores)
    await history(world, 9)
    with pytest.raises(TransientError, match="begun anew"):
        await world.follow()
    await world.follow()
    warm, copied = await world.task(copy=True)
    warm.close()
    assert warm.local == 50
    assert copied["s"][0]["k1"] == 8


async def test_a_changelog_without_any_checkpoint_is_nothing_that_could_be_used(tmp_path):
    world = World(tmp_path)
    await history(world, 3)
    await world.follow()
    for log in world.logs.values():
        log.records = {at: change for at, change in log.records.items() if change[0] != META_KEY}
    with pytest.raises(TransientError, match="has nothing of what the copy is of"):
        await world.follow()

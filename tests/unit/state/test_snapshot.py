"""A task's snapshot: used where it belongs to the changelog, never where that is in doubt."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd.component.transaction import Committed
from streamd.record import TaskId
from streamd.state.snapshot import Snapshot
from streamd.state.snapshots import EVERY, OLDEST
from streamd.state.task_stores import META_KEY, TaskStores

TASK = TaskId("app", "p", 0, 0)


class Log:
    """A changelog as Kafka keeps it: {offset: (key, value)}, whose transactions end with a control record."""

    def __init__(self):
        self.records, self.end, self.cursors = {}, 0, {}
        self.now_ms, self.read = 1_000_000, 0

    def commit(self, changes, cursors):
        for change in changes:
            self.records[self.end] = change
            self.end += 1
        self.end += 1
        self.cursors = cursors

    def compact(self):
        newest = {key: offset for offset, (key, _) in self.records.items()}
        self.records = {offset: self.records[offset] for offset in sorted(newest.values())}

    # A clock, and the transaction that a task has of it.

    async def changelog_range(self, changelog):
        return 0, self.end

    async def restore_tail(self, changelog, load, start):
        found = [change for offset, change in self.records.items() if offset >= (start or 0)]
        self.read += len(found)
        load(found)

    async def restore(self, changelog, load):
        await self.restore_tail(changelog, load, None)


class Attempt:
    """One attempt at the task."""

    def __init__(self, log, folder):
        self.log = log
        clock = type("Clock", (), {"now_ms": staticmethod(lambda: log.now_ms)})
        self.stores = TaskStores(TASK, {"s": {}}, 1, exact=True, snapshot=Snapshot(folder / "snapshot", clock))
        self.table, self.times = self.stores.stores["s"].table("t"), self.stores.stores["s"].times("w")

    async def open(self):
        self.log.read = 0
        await self.stores.restore(self.log, Committed({}, dict(self.log.cursors)), lambda _: None)
        return self

    def put(self, **values):
        self.table |= values
        self.table.dirty |= values.keys()

    def put_state(self, changelog, changes):
        self.changes = changes

    async def commit(self, *, later=0):
        cursors = self.stores.write(self, {}, now_ms=self.log.now_ms)
        self.log.commit(self.changes, cursors)
        self.stores.committed()
        self.log.now_ms += later
        await self.stores.keep(self.log, self.log.now_ms)

    async def end(self):
        await self.stores.keep_last(self.log, self.log.now_ms)


@pytest.fixture
def opened(tmp_path):
    made = []

    async def begin(log, folder=tmp_path):
        for one in made:
            one.stores.close()
        made.append(Attempt(log, folder))
        return await made[-1].open()

    yield begin
    for one in made:
        one.stores.close()


async def long_history(log, opened):
    """A task with 100 keys that has committed 20 times, and its snapshot."""
    task = await opened(log)
    for n in range(20):
        task.put(**{f"k{m}": n for m in range(100)})
        await task.commit(later=EVERY)
    return dict(task.table)


async def test_a_restart_reads_the_tail_alone(opened):
    log = Log()
    expected = await long_history(log, opened)
    task = await opened(log)
    assert task.table == expected
    assert log.read <= 3 * 101
    task.table.remove("k5")
    task.put(new=1)
    await task.commit()
    task = await opened(log)
    assert "k5" not in task.table
    assert task.table["new"] == 1
    assert len(task.table) == 100


async def test_a_snapshot_is_used_again_and_again_without_new_commits(opened):
    log = Log()
    expected = await long_history(log, opened)
    for _ in range(3):
        task = await opened(log)
        assert task.table == expected
        assert log.read <= 3 * 101


async def test_a_task_that_ended_leaves_nothing_to_read_but_the_last_checkpoint_itself(opened):
    log = Log()
    await long_history(log, opened)
    task = await opened(log)
    task.put(last=1)
    await task.commit()
    task.put(last=2, more=3)
    await task.commit()
    await task.end()
    expected = dict(task.table)
    for _ in range(2):  # the second has nothing to add
        task = await opened(log)
        assert task.table == expected
        assert log.read == 1
        await task.end()
    task.table.remove("more")
    await task.commit()
    task = await opened(log)
    assert "more" not in task.table
    assert len(task.table) == len(expected) - 1


async def test_a_last_mark_at_another_place_than_its_checkpoint_is_not_used(opened):
    log = Log()
    expected = await long_history(log, opened)
    task = await opened(log)
    await task.commit()
    log.end += 1  # as of a transaction that was aborted
    await task.end()
    task = await opened(log)
    assert task.table == expected
    assert log.read >= len(log.records)


def another_history(log):
    log.records = {
        at: (key, value.replace(b'"history":"', b'"history":"x') if key == META_KEY else value)
        for at, (key, value) in log.records.items()
    }


def begun_anew(log):
    newest = dict(log.records.values())
    log.records, log.end = dict(enumerate(newest.items())), len(newest)


def grown_old(log):
    log.now_ms += OLDEST + 1


def clock_set_back(log):
    log.now_ms = 5


@pytest.mark.parametrize("damage", [another_history, begun_anew, grown_old, clock_set_back])
async def test_what_is_doubtful_is_restored_whole(opened, damage):
    log = Log()
    expected = await long_history(log, opened)
    damage(log)
    task = await opened(log)
    assert task.table == expected
    assert log.read >= len(log.records)
    await task.commit(later=EVERY)
    task = await opened(log)
    assert task.table == expected


async def test_a_snapshot_ahead_of_what_is_committed_is_not_used(opened):
    log = Log()
    await long_history(log, opened)
    task = await opened(log)
    before = dict(log.records), log.end, log.cursors
    expected = dict(task.table)
    task.put(lost=1)
    await task.commit(later=EVERY)
    log.records, log.end, log.cursors = before
    task = await opened(log)
    assert task.table == expected


async def test_what_is_broken_is_made_anew(opened, tmp_path):
    log = Log()
    expected = await long_history(log, opened)
    task = await opened(log)
    task.stores.close()
    for file in (tmp_path / "snapshot").iterdir():
        file.write_bytes(b"x" * 50)
    for _ in range(2):
        task = await opened(log)
        assert task.table == expected
        await task.commit(later=EVERY)
    assert log.read < len(log.records)


async def test_two_at_once_do_not_share_a_snapshot(opened, tmp_path):
    log = Log()
    expected = await long_history(log, opened)
    await opened(log)
    other = await Attempt(log, tmp_path).open()
    assert other.table == expected
    await other.commit(later=EVERY)
    other.stores.close()


KILLED = """
import sys
from pathlib import Path
from streamd.state.snapshot import Snapshot

snapshot = Snapshot(Path(sys.argv[1]))
snapshot.open()
for number in range(1, 100_000):
    snapshot.add("s", [(b"t:%d" % key, b"%d" % number) for key in range(500)], number)
    if number % 20 == 0:
        snapshot.mark(number, {"s": ("history", number)}, 0)
        print(number, flush=True)
        snapshot._finish()
"""


def test_what_a_killed_process_leaves_is_whole_up_to_its_mark(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "x")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(8):
        process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    snapshot = Snapshot(tmp_path / "x")
    mark = snapshot.open()
    assert mark is not None
    assert mark.number >= 120
    assert mark.starts == {"s": ("history", mark.number)}
    found = {
        name: int(value) for changes in snapshot.entries("s") for name, value in changes.items() if value is not None
    }
    snapshot.close()
    assert len(found) == 500
    assert mark.number <= min(found.values())
    assert max(found.values()) <= mark.last


KEYS = st.sampled_from(["a", "b", "c", 1])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from([None, 0, 1]), KEYS, st.integers(0, 9)),
        st.tuples(st.just("remove"), st.sampled_from([None, 0, 1]), KEYS, st.none()),
        st.tuples(st.just("drop"), st.sampled_from([0, 1]), st.none(), st.none()),
        st.tuples(
            st.sampled_from(["commit", "commit later", "crash", "compact", "lose", "end"]),
            st.none(),
            st.none(),
            st.none(),
        ),
    ),
    max_size=40,
)


async def follows(folder, steps):
    log = Log()
    task = await Attempt(log, folder).open()
    committed, now = {}, {}
    for step, time, key, value in [*steps, ("crash", None, None, None)]:
        at = task.table if time is None else task.times[time]
        if step == "put":
            at[key]
            at[key] = now[time, key] = value
            at.dirty.add(key)
        elif step == "remove":
            at.remove(key)
            now.pop((time, key), None)
        elif step == "drop":
            task.times.drop(time)
            now = {place: kept for place, kept in now.items() if place[0] != time}
        elif step.startswith("commit"):
            await task.commit(later=EVERY if step == "commit later" else 1)
            committed = dict(now)
        elif step == "end":
            await task.commit()
            await task.end()
            committed = dict(now)
            task.stores.close()
            task = await Attempt(log, folder).open()
        elif step == "compact":
            log.compact()
        else:
            task.stores.close()
            if step == "lose":
                for file in (folder / "snapshot").glob("*.log"):
                    file.unlink()
            task = await Attempt(log, folder).open()
            now = dict(committed)
            found = {(None, key): value for key, value in task.table.items()}
            found |= {(time, key): value for time, table in task.times.items() for key, value in table.items()}
            assert found == committed
    task.stores.close()


@settings(max_examples=30)
@given(STEPS)
def test_with_a_snapshot_tables_are_as_at_the_last_commit(steps):
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(follows(Path(folder), steps))

"""A task's stores and their changelogs, on the embedded log: what is committed is restored, and nothing else starts."""

from __future__ import annotations

import sqlite3

import pytest

from streamd.errors import FatalError
from streamd.record import TaskId
from streamd.state.cold import ColdTier
from streamd.state.spill import Spill
from streamd.state.task_stores import TaskStores
from streamd.transport.embedded.log import log_path
from streamd.transport.embedded.transaction import EmbeddedTransaction

TASK = TaskId("app", "p", 0, 3)
POSITIONS = {("source", 3): 17}


class Attempts:
    """One task's attempts, each with its transaction, stores, and a table in each store."""

    table = "t"

    def __init__(self, folder):
        self.path = log_path(folder, "app")
        self.transaction = None

    async def begin(self, *stages, exact=True, settings=None, memory=None):
        if self.transaction is not None:
            self.transaction.abandon()
        self.transaction = EmbeddedTransaction(self.path, TASK)
        committed = await self.transaction.open()
        spill = None if memory is None else Spill(ColdTier(self.path.parent / "cold", "t"), lambda: memory)
        stores = TaskStores(TASK, dict.fromkeys(stages or ("s",), settings or {}), 4, exact=exact, spill=spill)
        self.tables = {stage: store.table(self.table) for stage, store in stores.stores.items()}
        restored = []
        await stores.restore(self.transaction, committed, restored.append)
        return stores, sum(restored)

    async def commit(self, stores, *, number=True, times=None):
        cursors = stores.write(self.transaction, POSITIONS, times or {})
        await self.transaction.put_positions(POSITIONS, cursors if number else {})
        await self.transaction.commit()
        stores.committed()

    def change(self, statement):
        with sqlite3.connect(self.path) as connection:
            connection.execute(statement)
        connection.close()

    def put(self, **values):
        table = self.tables["s"]
        table |= values
        table.dirty |= values.keys()


@pytest.fixture
async def attempts(tmp_path):
    made = Attempts(tmp_path)
    yield made
    if made.transaction is not None:
        await made.transaction.close()


async def test_what_is_committed_is_restored_and_what_is_not_is_gone(attempts):
    stores, _ = await attempts.begin()
    attempts.put(a=1, b=2)
    await attempts.commit(stores)
    attempts.put(a=5, c=3)
    stores.write(attempts.transaction, POSITIONS)
    stores, restored = await attempts.begin()
    assert attempts.tables["s"] == {"a": 1, "b": 2}
    assert restored == 3


@pytest.mark.parametrize(("before", "after"), [(500, 500), (500, None), (None, 500), (None, None)])
async def test_state_beyond_memory_is_restored_whatever_the_memory_was(attempts, before, after):
    """Keys that left memory and are set again without a look at them are some of those that are there."""
    stores, _ = await attempts.begin(memory=before)
    for n in range(3):
        attempts.put(**{f"k{key}": n for key in range(100)})
        await attempts.commit(stores)
    attempts.tables["s"].remove("k7")
    await attempts.commit(stores)
    stores.close()
    stores, restored = await attempts.begin(memory=after)
    assert sorted(attempts.tables["s"].scan()) == sorted((f"k{key}", 2) for key in range(100) if key != 7)
    assert restored == 100
    stores.close()


async def test_only_what_changed_is_written(attempts):
    stores, _ = await attempts.begin()
    attempts.put(a=1, b=2)
    await attempts.commit(stores)
    assert stores.stores["s"].changes() == []
    attempts.put(b=3)
    assert stores.stores["s"].changes() == [(b't:"b"', b"3")]


async def test_a_stage_that_is_new_begins_with_nothing(attempts):
    stores, _ = await attempts.begin()
    attempts.put(a=1)
    await attempts.commit(stores)
    stores, _ = await attempts.begin("s", "new")
    assert attempts.tables["new"] == {}
    await attempts.commit(stores)
    stores, _ = await attempts.begin("s", "new")
    assert attempts.tables["s"] == {"a": 1}


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("DELETE FROM changelog", "has no checkpoint, and the task's positions belong to checkpoint 2"),
        ("DELETE FROM changelog WHERE key=CAST('__meta__' AS BLOB)", "has no checkpoint"),
        ("DELETE FROM cursor", "is of checkpoint 2, and the task's positions belong to none"),
        ("UPDATE cursor SET cursor='1'", "is of checkpoint 2, and the task's positions belong to checkpoint 1"),
        ("UPDATE cursor SET cursor='3'", "is of checkpoint 2, and the task's positions belong to checkpoint 3"),
        ("UPDATE changelog SET value='{' WHERE key=CAST('t:\"a\"' AS BLOB)", "a record that no store has written"),
        ("UPDATE changelog SET value='{\"format\": 9}' WHERE key=CAST('__meta__' AS BLOB)", "has format 9"),
    ],
)
async def test_a_changelog_that_does_not_belong_to_the_positions_is_refused(attempts, damage, says):
    stores, _ = await attempts.begin()
    for n in range(2):
        attempts.put(a=n)
        await attempts.commit(stores)
    attempts.change(damage)
    with pytest.raises(FatalError, match=says) as caught:
        await attempts.begin()
    assert "delete its changelogs and positions" in str(caught.value)


async def test_what_was_kept_with_other_settings_is_refused(attempts):
    stores, _ = await attempts.begin(settings={"a": "sum(x)", "b": "count()"})
    attempts.put(k=1)
    await attempts.commit(stores)
    stores, _ = await attempts.begin(settings={"b": "count()", "a": "sum(x)"})
    assert attempts.tables["s"] == {"k": 1}
    with pytest.raises(FatalError, match="written with other settings: a has changed, b is gone, c is new"):
        await attempts.begin(settings={"a": "sum(y)", "c": "count()"})


async def test_at_least_once_the_changelog_may_be_ahead_and_never_behind(attempts):
    stores, _ = await attempts.begin()
    attempts.put(a=1)
    await attempts.commit(stores)
    attempts.change("UPDATE cursor SET cursor='0'")
    stores, _ = await attempts.begin(exact=False)
    assert attempts.tables["s"] == {"a": 1}
    await attempts.commit(stores)
    attempts.change("UPDATE cursor SET cursor='9'")
    with pytest.raises(FatalError, match="belong to checkpoint 9"):
        await attempts.begin(exact=False)


async def test_the_highest_event_times_are_restored(attempts):
    stores, _ = await attempts.begin()
    assert stores.times == {}
    await attempts.commit(stores, times={"a": 5, "b": -1})
    await attempts.commit(stores, times={"a": 7, "b": -1})
    stores, _ = await attempts.begin("s", "new")
    assert stores.times == {"a": 7, "b": -1}


@pytest.mark.parametrize(("name", "shown"), [("t", "'t'"), ("x" * 50, "some that no streamd writes")])
async def test_a_table_that_the_stage_does_not_have_is_refused(attempts, name, shown):
    attempts.table = name
    stores, _ = await attempts.begin()
    attempts.put(a=1)
    await attempts.commit(stores)
    attempts.table = "other"
    with pytest.raises(FatalError, match=f"has tables that the stage does not have: {shown}.*begin anew"):
        await attempts.begin()

"""Whatever is done to tables and whenever it crashes: they are restored as they were at the last commit."""

from __future__ import annotations

import asyncio
import copy
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from streamd.component.state import key_of
from streamd.record import TaskId
from streamd.state.cold import ColdTier
from streamd.state.spill import Spill
from streamd.state.task_stores import META_KEY, TaskStores
from streamd.transport.embedded.log import log_path
from streamd.transport.embedded.transaction import EmbeddedTransaction

TASK = TaskId("app", "p", 0, 0)
KEYS = st.one_of(st.text(max_size=2), st.integers(-3, 3), st.booleans(), st.lists(st.integers(0, 2), max_size=2))
VALUES = st.one_of(st.integers(-(2**63), 2**63), st.text(), st.lists(st.integers(0, 9)))
# Without a time it is the plain table.
PLACES = st.one_of(st.none(), st.sampled_from([-1000, 0, 1000]))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), PLACES, KEYS, VALUES),
        st.tuples(st.just("blind put"), PLACES, KEYS, VALUES),
        st.tuples(st.just("remove"), PLACES, KEYS, st.none()),
        st.tuples(st.just("drop"), PLACES, st.none(), st.none()),
        st.tuples(st.sampled_from(["commit", "commit", "write", "crash"]), st.none(), st.none(), st.none()),
    ),
    max_size=40,
)


class Run:
    """Tables beside plain dicts that say what must be in them."""

    def __init__(self, path, budget):
        """`budget`: bytes that the tables may have; None for as many as they need."""
        self.path, self.budget = path, budget
        # {None or a time: {key: value}}
        self.committed, self.now = {}, {}

    async def open(self):
        self.transaction = EmbeddedTransaction(self.path, TASK)
        spill = None if self.budget is None else Spill(ColdTier(self.path.parent / "cold", "t"), lambda: self.budget)
        self.stores = TaskStores(TASK, {"s": {}}, 1, exact=True, spill=spill)
        store = self.stores.stores["s"]
        self.plain, self.times = store.table("plain"), store.times("times")
        await self.stores.restore(self.transaction, await self.transaction.open(), lambda _: None)
        self.now = copy.deepcopy(self.committed)
        assert self.seen() == self.now

    def seen(self):
        tables = {None: self.plain} | self.times
        found = {time: dict(table.scan()) for time, table in tables.items()}
        return {time: values for time, values in found.items() if values}

    async def crash(self):
        assert self.seen() == {place: values for place, values in self.now.items() if values}
        self.transaction.abandon()
        self.stores.close()
        await self.open()

    def put(self, place, key, value, *, blind=False):
        table, key = self.plain if place is None else self.times[place], key_of(key)
        if not blind:
            assert table[key] == self.now.get(place, {}).get(key)
        table[key] = value
        table.dirty.add(key)
        self.now.setdefault(place, {})[key] = value

    def remove(self, place, key):
        key = key_of(key)
        (self.plain if place is None else self.times[place]).remove(key)
        self.now.get(place, {}).pop(key, None)

    def drop(self, place):
        if place is not None:
            self.times.drop(place)
            self.now.pop(place, None)

    async def commit(self):
        changes = self.stores.stores["s"].changes()
        assert len({key for key, _ in changes}) == len(changes), "each key once"
        await self.transaction.put_positions({("a", 0): 1}, self.stores.write(self.transaction, {("a", 0): 1}))
        await self.transaction.commit()
        self.stores.committed()
        assert self.budget != 0 or not self.plain, "everything is out"
        self.committed = {place: dict(values) for place, values in self.now.items() if values}
        log = self.transaction._opened()
        held = await log.changes(str(TASK), "s", b"", 1000)
        assert len([key for key, _ in held if key != META_KEY]) == sum(map(len, self.committed.values()))


async def run(path, budget, steps):
    state = Run(path, budget)
    await state.open()
    for step, place, key, value in steps:
        if step in ("put", "blind put"):
            state.put(place, key, value, blind=step == "blind put")
        elif step == "remove":
            state.remove(place, key)
        elif step == "drop":
            state.drop(place)
        elif step == "commit":
            await state.commit()
        else:
            if step == "write":
                state.stores.write(state.transaction, {})
            await state.crash()
    await state.transaction.close()
    state.stores.close()
    assert not list(path.parent.glob("cold/*")), "nothing is left"


@settings(max_examples=60)
@given(st.sampled_from([None, 0, 500, 1500]), STEPS)
def test_tables_are_as_at_the_last_commit(budget, steps):
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(log_path(Path(folder), "app"), budget, [*steps, ("crash", None, None, None)]))

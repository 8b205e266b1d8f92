"""Whatever is done to a store and whenever it crashes: it is restored as it was at the last commit."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from streamd.record import TaskId
from streamd.state.task_stores import TaskStores
from streamd.transport.embedded.log import log_path
from streamd.transport.embedded.transaction import EmbeddedTransaction

TASK = TaskId("app", "p", 0, 0)
KEYS = st.one_of(st.text(max_size=3), st.integers(-3, 3), st.booleans(), st.lists(st.integers(0, 2), max_size=2))
VALUES = st.one_of(st.integers(-(2**63), 2**63), st.text(), st.lists(st.integers(0, 9)))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, VALUES),
        st.tuples(st.just("delete"), KEYS, st.none()),
        st.tuples(st.sampled_from(["commit", "write", "crash"]), st.none(), st.none()),
    ),
    max_size=40,
)


async def run(path, steps):
    transaction = EmbeddedTransaction(path, TASK)
    stores = TaskStores(TASK, {"s": {}}, 1, exact=True)
    await stores.restore(transaction, await transaction.open(), lambda _: None)
    committed, now = {}, {}
    for step, value, new in steps:
        store = stores.stores["s"]
        if step in ("put", "delete"):
            key = store.key_of(value)
            store.dirty.add(key)
            if step == "put":
                store.values[key] = now[key] = new
            else:
                store.values.pop(key, None)
                now.pop(key, None)
        elif step == "commit":
            await transaction.put_positions({("a", 0): 1}, stores.write(transaction, {("a", 0): 1}))
            await transaction.commit()
            stores.committed()
            committed = dict(now)
        else:
            if step == "write":
                stores.write(transaction, {})
            transaction.abandon()
            transaction = EmbeddedTransaction(path, TASK)
            stores = TaskStores(TASK, {"s": {}}, 1, exact=True)
            await stores.restore(transaction, await transaction.open(), lambda _: None)
            now = dict(committed)
            assert stores.stores["s"].values == committed
    await transaction.close()


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_a_store_is_as_at_the_last_commit(steps):
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(log_path(Path(folder), "app"), [*steps, ("crash", None, None)]))

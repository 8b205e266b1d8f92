"""A task's transactions on the embedded log: what is committed, and who is fenced."""

from __future__ import annotations

import asyncio

import pytest

from streamd.errors import FatalError, FencedError, NotFoundError
from streamd.transport.embedded.log import EmbeddedLog
from streamd.transport.embedded.transaction import EmbeddedTransaction


@pytest.fixture
async def log(tmp_path):
    log = EmbeddedLog.acquire(tmp_path / "app.db")
    await log.create_topic("out", 1)
    yield log
    await log.release()


async def end_of(log):
    return (await log.stream("out", 0)).end


async def test_a_first_start_finds_nothing_committed(log):
    task = EmbeddedTransaction(log.path, "t")
    committed = await task.open()
    assert (dict(committed.positions), dict(committed.cursors)) == ({}, {})
    await task.close()


async def test_positions_cursors_and_outputs_come_back_together(log):
    task = EmbeddedTransaction(log.path, "t")
    await task.open()
    task.begin()
    task.append("out", 0, None, b"x", 0, ())
    await task.flush()
    await task.put_positions({("orders", 0): 17, ("files", 3): {"path": "a", "offset": 5}}, {"file": {"length": 9}})
    await task.commit()
    task.begin()
    await task.put_positions({("orders", 0): 18}, {"other": [1, "two", None]})
    await task.commit()
    await task.close()

    again = EmbeddedTransaction(log.path, "t")
    committed = await again.open()
    assert committed.positions == {("orders", 0): 18, ("files", 3): {"path": "a", "offset": 5}}
    assert committed.cursors == {"other": [1, "two", None]}, "what has given no cursor is not there any more"
    await again.close()
    assert await end_of(log) == 1


async def test_what_is_aborted_abandoned_or_closed_leaves_nothing(log):
    task = EmbeddedTransaction(log.path, "t")
    await task.open()
    for leave in (task.abort, task.close):
        task.append("out", 0, None, b"x", 0, ())
        await task.put_positions({("orders", 0): 1}, {})
        await leave()
    again = EmbeddedTransaction(log.path, "t")
    await again.open()
    again.append("out", 0, None, b"x", 0, ())
    again.abandon()
    last = EmbeddedTransaction(log.path, "t")
    assert (await last.open()).positions == {}
    await last.close()
    assert await end_of(log) == 0


async def test_an_aborted_transaction_can_be_used_again(log):
    task = EmbeddedTransaction(log.path, "t")
    await task.open()
    task.append("out", 0, None, b"x", 0, ())
    await task.abort()
    assert task.backlog == 0
    task.append("out", 0, None, b"y", 0, ())
    await task.commit()
    await task.close()
    assert await end_of(log) == 1


async def test_an_empty_commit_writes_nothing(log):
    task = EmbeddedTransaction(log.path, "t")
    await task.open()
    before = log.path.with_name("app.db-wal").stat()
    await task.commit()
    assert log.path.with_name("app.db-wal").stat() == before
    await task.close()


async def test_an_older_instance_is_fenced(log):
    old, new = EmbeddedTransaction(log.path, "t"), EmbeddedTransaction(log.path, "t")
    await old.open()
    old.append("out", 0, None, b"old", 0, ())
    await old.put_positions({("orders", 0): 5}, {})
    assert (await new.open()).positions == {}
    with pytest.raises(FencedError, match=r"epoch is 2, this instance has 1; is another streamd running with app t on"):
        await old.commit()
    old.abandon()
    new.append("out", 0, None, b"new", 0, ())
    await new.put_positions({("orders", 0): 6}, {})
    await new.commit()
    await new.close()
    assert await end_of(log) == 1


async def test_an_older_instance_cannot_stage_or_drop(log):
    old, new = EmbeddedTransaction(log.path, "t"), EmbeddedTransaction(log.path, "t")
    await old.open()
    await new.open()
    old.append("out", 0, None, b"x" * 5_000_000, 0, ())
    with pytest.raises(FencedError):
        await old.drain()
    old.abandon()
    await new.close()


async def test_other_tasks_are_not_fenced(log):
    one, two = EmbeddedTransaction(log.path, "one"), EmbeddedTransaction(log.path, "two")
    await one.open()
    await two.open()
    for task in (one, two):
        task.append("out", 0, None, b"x", 0, ())
        await task.commit()
        await task.close()
    assert await end_of(log) == 2


async def test_one_that_fails_takes_nothing_with_it_that_is_committed_with_it(log):
    """All of these wait for the same turn: one is fenced, one writes to a topic that is not there."""
    tasks = [EmbeddedTransaction(log.path, f"t{n}") for n in range(20)]
    for task in tasks:
        await task.open()
        task.append("out", 0, None, b"x", 0, ())
    newer = EmbeddedTransaction(log.path, "t3")
    await newer.open()
    tasks[7].append("missing", 0, None, b"x", 0, ())
    results = await asyncio.gather(*(task.commit() for task in tasks), return_exceptions=True)
    assert {n: type(r) for n, r in enumerate(results) if r is not None} == {3: FencedError, 7: NotFoundError}
    assert await end_of(log) == 18
    for task in (*tasks, newer):
        await task.close()


async def test_a_commit_whose_wait_is_cancelled_is_settled_before_the_next_open(log):
    task = EmbeddedTransaction(log.path, "t")
    await task.open()
    task.append("out", 0, None, b"x", 0, ())
    await task.put_positions({("orders", 0): 1}, {})
    commit = asyncio.ensure_future(task.commit())
    await asyncio.sleep(0)
    commit.cancel()
    await asyncio.gather(commit, return_exceptions=True)
    task.abandon()
    again = EmbeddedTransaction(log.path, "t")
    committed = await again.open()
    assert await end_of(log) == len(committed.positions)
    await again.close()


async def test_a_transaction_that_is_not_open_says_so(log):
    task = EmbeddedTransaction(log.path, "t")
    task.append("out", 0, None, b"x", 0, ())
    with pytest.raises(FatalError, match="is not open"):
        await task.commit()

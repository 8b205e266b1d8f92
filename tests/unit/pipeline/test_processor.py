"""Micro-batches of records that come one by one."""

from __future__ import annotations

import asyncio

import pytest

from streamd import StreamProcessor


class Batches:
    """Takes batches, each when the gate is open, and counts how many are under way at once."""

    def __init__(self, fail=()):
        self.seen, self.fail = [], fail
        self.gate = asyncio.Event()
        self.gate.set()
        self.under_way = self.most = 0

    async def __call__(self, batch):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.gate.wait()
        self.under_way -= 1
        if len(self.seen) in self.fail:
            self.seen.append("failed")
            raise ValueError(f"batch {len(self.seen)}")
        self.seen.append(batch)


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.001)


async def test_full_batches_in_order_and_the_rest_at_the_end():
    batches = Batches()
    async with StreamProcessor(3, 60.0, batches) as processor:
        for n in range(8):
            await processor.ingest(n)
    assert batches.seen == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert batches.most == 1


async def test_a_window_hands_over_what_came_in_it():
    batches = Batches()
    processor = StreamProcessor(100, 0.02, batches)
    await processor.ingest(1)
    await processor.ingest(2)
    await until(lambda: batches.seen)
    assert batches.seen == [[1, 2]]
    await processor.ingest(3)
    await until(lambda: len(batches.seen) == 2)
    await processor.close()
    assert batches.seen == [[1, 2], [3]]


async def test_a_window_that_ends_during_a_batch_is_handed_over_right_after_it():
    """The next window begins with the next record; it does not make the first one wait again."""
    batches = Batches()
    processor = StreamProcessor(2, 0.01, batches)
    batches.gate.clear()
    for n in range(3):
        await processor.ingest(n)
    await until(lambda: processor._due)
    processor.window_seconds = 60.0
    batches.gate.set()
    await until(lambda: len(batches.seen) == 2)
    assert batches.seen == [[0, 1], [2]]
    await processor.close()


async def test_plain_functions_and_the_decorator():
    seen = []
    processor = StreamProcessor(batch_size=2)

    @processor.on_batch
    def keep(batch):
        seen.append(batch)

    for n in range(3):
        await processor.ingest(n)
    await processor.flush()
    assert seen == [[0, 1], [2]]
    assert keep([9]) is None


async def test_ingest_waits_while_two_batches_are_in_memory():
    batches = Batches()
    batches.gate.clear()
    processor = StreamProcessor(2, 60.0, batches)
    for n in range(4):
        await asyncio.wait_for(processor.ingest(n), 5)
    waiting = asyncio.create_task(processor.ingest(4))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    batches.gate.set()
    await waiting
    await processor.close()
    assert batches.seen == [[0, 1], [2, 3], [4]]
    assert batches.most == 1


async def test_many_ingest_at_once_and_nothing_is_lost():
    batches = Batches()
    async with StreamProcessor(7, 60.0, batches) as processor:
        await asyncio.gather(*(processor.ingest(n) for n in range(100)))
    assert sorted(n for batch in batches.seen for n in batch) == list(range(100))
    assert max(map(len, batches.seen)) == 7


async def test_an_exception_is_raised_by_the_next_ingest_which_takes_nothing():
    batches = Batches(fail={0})
    processor = StreamProcessor(2, 60.0, batches)
    await processor.ingest(0)
    await processor.ingest(1)
    await until(lambda: batches.seen)
    with pytest.raises(ValueError, match="batch 1"):
        await processor.ingest(2)
    await processor.ingest(3)
    await processor.close()
    assert batches.seen == ["failed", [3]]


async def test_close_hands_over_everything_and_then_raises():
    batches = Batches(fail={0})
    processor = StreamProcessor(2, 60.0, batches)
    batches.gate.clear()
    for n in range(3):
        await processor.ingest(n)
    batches.gate.set()
    with pytest.raises(ValueError, match="batch 1"):
        await processor.close()
    assert batches.seen == ["failed", [2]]


async def test_it_can_be_used_again_after_close():
    batches = Batches()
    processor = StreamProcessor(2, 60.0, batches)
    for round_ in range(3):
        await processor.ingest(round_)
        await processor.close()
    assert batches.seen == [[0], [1], [2]]


@pytest.mark.parametrize(("size", "window"), [(0, 1.0), (1, 0.0), (1, -1.0)])
def test_sizes_are_checked(size, window):
    with pytest.raises(ValueError, match="expected batch_size ≥ 1 and window_seconds > 0"):
        StreamProcessor(size, window)


async def test_without_a_handler_nothing_is_taken():
    with pytest.raises(RuntimeError, match="on_batch"):
        await StreamProcessor().ingest(1)

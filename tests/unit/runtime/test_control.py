"""The control channel: messages arrive whole and in order, whatever the other side does."""

from __future__ import annotations

import asyncio
import socket

import pytest

from streamd.observability.metrics import FamilySnapshot, Snapshot
from streamd.record import TaskId
from streamd.runtime.control import (
    Assign,
    Fault,
    Hello,
    Load,
    Member,
    Progress,
    Revoke,
    Stop,
    TaskEnded,
    TaskReport,
    news_channel,
    order_channel,
)

TASK = TaskId("app", "p", 0, 3)
REPORT = TaskReport(TASK, 7, "running", lag=3, positions={"in": 5}, fault=Fault("transient", "E", "m"))


class Ends:
    """Both ends of a channel, and what arrived."""

    def __init__(self):
        self.orders, self.news = asyncio.Queue(), asyncio.Queue()
        self.closed = asyncio.Event()
        self.worker = order_channel(self.orders.put_nowait, lambda: None)
        self.supervisor = news_channel(self.news.put_nowait, self.closed.set)

    async def connect(self):
        ours, theirs = socket.socketpair()
        await self.supervisor.connect(ours)
        await self.worker.connect(theirs)
        return self


@pytest.fixture
async def ends():
    made = await Ends().connect()
    yield made
    made.worker.close()
    made.supervisor.close()
    async with asyncio.timeout(10):
        await made.closed.wait()


async def test_messages_arrive_as_they_were(ends):
    orders = [
        Load("p", 2, "p.yaml", "name: p", {"in": 4}),
        Assign(TASK, 7, 2, Member("g", "m-1", 3)),
        Assign(TASK, 8, 2),
        Revoke(TASK, 7, 1.5),
        Stop(2.0),
    ]
    for order in orders:
        ends.supervisor.send(order)
    assert [await ends.orders.get() for _ in orders] == orders
    snapshot = Snapshot("1-a", [FamilySnapshot("streamd_tasks", [("p", "running")], [1.0])])
    news = [Hello(12, 0.3), Progress(1.0, [REPORT], snapshot), TaskEnded(TASK, 7, "failed", REPORT, REPORT.fault)]
    for one in news:
        ends.worker.send(one)
    assert [await ends.news.get() for _ in news] == news
    received = (await _echo(ends, news[1])).tasks[0].task
    assert isinstance(received, TaskId)


async def _echo(ends, message):
    ends.worker.send(message)
    return await ends.news.get()


async def test_large_and_small_messages_in_both_directions_at_once(ends):
    """More than the kernel buffers, sent by both before either reads: nobody waits for the other."""
    text = "x" * 3_000_000
    for version in range(3):
        ends.supervisor.send(Load("p", version, None, text, {}))
        ends.worker.send(Hello(version, 0.0))
        ends.worker.send(TaskEnded(TASK, version, "failed", REPORT, Fault("fatal", "E", text)))
    assert ends.supervisor.buffered > 1_000_000
    assert [(await ends.orders.get()).version for _ in range(3)] == [0, 1, 2]
    assert [type(await ends.news.get()).__name__ for _ in range(6)] == ["Hello", "TaskEnded"] * 3
    assert ends.supervisor.buffered == 0


async def test_the_end_of_the_other_side_is_noticed(ends):
    ends.worker.close()
    async with asyncio.timeout(10):
        await ends.closed.wait()
    assert ends.supervisor.closed
    ends.supervisor.send(Stop(1.0))


@pytest.mark.parametrize("nonsense", [b"\x05\x00\x00\x00hello", b"\xff\xff\xff\xff", b"\x02\x00\x00\x00\x81\xa4"])
async def test_nonsense_closes_the_channel(nonsense):
    news, closed = asyncio.Queue(), asyncio.Event()
    channel = news_channel(news.put_nowait, closed.set)
    ours, theirs = socket.socketpair()
    await channel.connect(ours)
    theirs.send(nonsense)
    async with asyncio.timeout(10):
        await closed.wait()
    assert news.empty()
    theirs.close()


async def test_a_message_above_the_limit_is_refused(ends):
    with pytest.raises(ValueError, match="too large"):
        ends.supervisor.send(Load("p", 1, None, "x" * (65 * 1024 * 1024), {}))

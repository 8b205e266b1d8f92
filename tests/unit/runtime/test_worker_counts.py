"""What a worker has counted is known no later than that its tasks are over."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from streamd.observability import catalog
from streamd.observability.metrics import MetricSet, Snapshot
from streamd.record import TaskId
from streamd.runtime.backoff import RestartPolicy
from streamd.runtime.control import (
    Assign,
    Load,
    Member,
    News,
    Progress,
    SchemaChange,
    Start,
    Stop,
    TaskEnded,
    news_channel,
)
from streamd.runtime.worker import Worker


@dataclass
class ShortTask:
    """Counts five records and is over."""

    metrics: MetricSet
    state: str = "drained"
    idle: bool = True
    lag: int | None = 0
    records_in: int = 5
    last_progress: float = 0.0
    positions: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> ShortTask:
        return self

    async def run(self) -> None:
        self.metrics.counter(catalog.SOURCE_RECORDS, pipeline="p", source="s").add(5)

    def stop(self) -> None: ...

    def update_membership(self, membership: Any) -> None: ...


class ShortHost:
    policy = RestartPolicy()

    def __init__(self, start: Start) -> None:
        self.metrics = MetricSet()

    def seat(self, worker: int) -> None: ...

    async def load(self, load: Load) -> None: ...

    async def unload(self, pipeline: str) -> None: ...

    async def retire(self, used: Collection[tuple[str, int]]) -> None: ...

    def make(self, assign: Assign, member: Member | None) -> ShortTask:
        return ShortTask(self.metrics)

    def membership(self, member: Member) -> Any:
        return member

    async def rival(self, assign: Assign) -> None: ...

    def snapshot(self) -> Snapshot:
        return self.metrics.snapshot()

    def schema_changes(self) -> list[SchemaChange]:
        return []

    async def close(self) -> None: ...


def counted(news: News) -> float:
    if not isinstance(news, Progress) or news.metrics is None:
        return 0.0
    families = [f for f in news.metrics.families if f.name == catalog.SOURCE_RECORDS.name]
    return sum(value for family in families for value in family.values)


async def test_the_counts_of_a_task_come_before_its_end() -> None:
    ours, theirs = socket.socketpair()
    news: list[News] = []
    ended = asyncio.Event()

    def on_news(message: News) -> None:
        news.append(message)
        if isinstance(message, TaskEnded):
            ended.set()

    channel = news_channel(on_news, lambda: None)
    await channel.connect(ours)
    running = asyncio.create_task(Worker(ShortHost).run(theirs))
    channel.send(Start(b"", {}))
    channel.send(Assign(TaskId("app", "p", 0, 0), 1, 1))
    async with asyncio.timeout(10):
        await ended.wait()
    end = next(i for i, message in enumerate(news) if isinstance(message, TaskEnded))
    assert max(map(counted, news[:end])) == 5
    channel.send(Stop(1.0))
    async with asyncio.timeout(10):
        await running
    channel.close()

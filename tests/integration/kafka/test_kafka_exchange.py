"""Windows behind an exchange on a real broker: event time and the end of the input go through it."""

from __future__ import annotations

import random
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.kafka import produce, read_topic
from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.errors import NotFoundError
from streamd.observability.metrics import MetricSet
from streamd.plan.graph import build_plan
from streamd.supervisor.inline import InlineResult, run_inline
from streamd.transport.kafka.admin import open_admin
from streamd.transport.kafka.client import EARLIEST, LATEST, KafkaClient
from streamd.transport.kafka.leases import closed
from streamd.transport.kafka.settings import KafkaSettings

pytestmark = pytest.mark.kafka

SIZE = 10_000  # ms of a window
PIPELINE = """
name: p
kafka: {{bootstrap: "{servers}"}}
source: {{kafka: {{topic: {source}, {settings}event_time: {{field: ts, out_of_order: 2s{idle}}}}}}}
stages:
- key_by: {by}
- window: {{by: user, tumbling: 10s, aggregate: {{n: count(), total: sum(v)}}}}
sink: {{kafka: {{topic: {out}}}}}
commit_interval: 20ms
"""
Document = dict[str, Any]
TIMES = 1_600_000_000_000


class Run:
    """A pipeline of an app of its own."""

    def __init__(self, servers: str, folder: Path, source: str, out: str, **settings: str) -> None:
        words = {"settings": "", "idle": "", "by": "user", **settings}
        self.app = f"app-{uuid.uuid4().hex[:8]}"
        self.text = PIPELINE.format(servers=servers, source=source, out=out, **words)
        self.folder = folder

    @property
    def exchange(self) -> str:
        return f"streamd.{self.app}.p.key_by.exchange"

    async def run(self, *, until_idle: bool = False, create: bool = True) -> InlineResult:
        service = ServiceConfig.model_validate({})
        config = load_pipeline_text(self.text, self.folder / "p.yaml", Registry.default(), {}, service)
        context = PipelineContext(self.app, config.name, self.folder, self.folder, config.kafka, create)
        result = await run_inline(build_plan(config, self.app), context, MetricSet(), until_idle=until_idle)
        await closed()
        return result


def events(chance: random.Random, count: int, begin: int = TIMES) -> list[Document]:
    """Documents whose times rise, at most 2 s out of order."""
    times = sorted(begin + chance.randrange(60_000) for _ in range(count))
    return [
        {"user": f"u{chance.randrange(20)}", "v": chance.randrange(100), "ts": time - chance.randrange(2000)}
        for time in times
    ]


async def feed(servers: str, topic: str, documents: Iterable[Document], partitions: int) -> None:
    """Each document to any partition: a user is in all of them."""
    for partition, some in enumerate([list(documents)[p::partitions] for p in range(partitions)]):
        await produce(servers, topic, [orjson.dumps(one) for one in some], partition=partition)


def windows(documents: Iterable[Document]) -> dict[tuple[str, int], tuple[int, int]]:
    found: dict[tuple[str, int], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for one in documents:
        window = one["user"], one["ts"] // SIZE * SIZE
        n, total = found[window]
        found[window] = n + 1, total + one["v"]
    return dict(found)


async def results(servers: str, topic: str) -> dict[tuple[str, int], tuple[int, int]]:
    records = [orjson.loads(record.value) for record in await read_topic(servers, topic)]
    found = {(one["user"], one["window_start"]): (one["n"], one["total"]) for one in records}
    assert len(found) == len(records), "a window came twice"
    return found


@pytest.mark.parametrize(("before", "by", "after"), [(4, "user", 4), (1, "{by: user, partitions: 4}", 4)])
async def test_windows_behind_an_exchange_are_those_of_all_records(
    kafka, make_topic, tmp_path: Path, before: int, by: str, after: int
) -> None:
    source, out = await make_topic(before), await make_topic(2)
    run = Run(kafka.bootstrap, tmp_path, source, out, settings="end: latest, ", by=by)
    first = events(random.Random(1), 3_000)
    await feed(kafka.bootstrap, source, first, before)
    assert (await run.run()).fault is None
    assert await results(kafka.bootstrap, out) == windows(first)
    moved = [record for record in await read_topic(kafka.bootstrap, run.exchange) if record.value is not None]
    homes: dict[bytes, set[int]] = defaultdict(set)
    for record in moved:
        homes[record.key].add(record.partition)
        assert record.timestamp == orjson.loads(record.value)["ts"]
    assert {len(home) for home in homes.values()} == {1}
    assert len({partition for home in homes.values() for partition in home}) == after
    # The same again with what came since: nothing of the first run ends it, and nothing of it comes twice.
    second = events(random.Random(2), 2_000, TIMES + 100_000)
    await feed(kafka.bootstrap, source, second, before)
    assert (await run.run()).fault is None
    assert await results(kafka.bootstrap, out) == windows([*first, *second])
    assert (await run.run()).fault is None
    assert await results(kafka.bootstrap, out) == windows([*first, *second])


async def test_partitions_that_are_quiet_hold_nobody_up(kafka, make_topic, tmp_path: Path) -> None:
    source, out = await make_topic(4), await make_topic()
    run = Run(kafka.bootstrap, tmp_path, source, out, idle=", idle: 300ms")
    some = [{"user": "a", "v": 1, "ts": TIMES + 1000 * n} for n in range(40)]
    await produce(kafka.bootstrap, source, [orjson.dumps(one) for one in some], partition=2)
    assert (await run.run(until_idle=True)).fault is None
    found = await results(kafka.bootstrap, out)
    assert {("a", TIMES): (10, 10), ("a", TIMES + 10_000): (10, 10)}.items() <= found.items()


async def test_what_was_read_is_deleted(kafka, make_topic, tmp_path: Path, client: KafkaClient, monkeypatch) -> None:
    monkeypatch.setattr("streamd.exchange.reader.PURGE_INTERVAL", 0.0)
    source, out = await make_topic(2), await make_topic()
    run = Run(kafka.bootstrap, tmp_path, source, out, settings="end: latest, ")
    documents = events(random.Random(3), 500)
    await feed(kafka.bootstrap, source, documents, 2)
    assert (await run.run()).fault is None
    assert await results(kafka.bootstrap, out) == windows(documents)
    starts = [await client.find_offset(run.exchange, p, EARLIEST) for p in range(2)]
    ends = [await client.find_offset(run.exchange, p, LATEST) for p in range(2)]
    assert 0 < sum(starts) <= sum(ends)
    assert (await run.run()).fault is None
    assert await results(kafka.bootstrap, out) == windows(documents)


async def test_an_exchange_that_may_not_be_made_is_said_with_what_it_takes(kafka, make_topic, tmp_path: Path) -> None:
    source, out = await make_topic(3), await make_topic()
    run = Run(kafka.bootstrap, tmp_path, source, out)
    result = await run.run(until_idle=True, create=False)
    assert result.fault is not None
    assert result.fault.error == NotFoundError.__name__
    assert "make it with 3 partitions, cleanup.policy=delete and retention.ms=-1" in result.fault.message


async def test_another_number_of_partitions_is_refused(kafka, make_topic, tmp_path: Path) -> None:
    source, out = await make_topic(2), await make_topic()
    run = Run(kafka.bootstrap, tmp_path, source, out)
    assert (await run.run(until_idle=True)).fault is None
    service = ServiceConfig.model_validate({})
    config = load_pipeline_text(run.text, tmp_path / "p.yaml", Registry.default(), {}, service)
    async with open_admin(config.kafka) as admin:
        topic = (await admin.topics([run.exchange]))[run.exchange]
        assert topic.partitions == 2
    run.text = run.text.replace("key_by: user", "key_by: {by: user, partitions: 5}")
    result = await run.run(until_idle=True)
    assert result.fault is not None
    assert "has 2 partitions, the settings say 5" in result.fault.message


JOIN = """
name: p
kafka: {{bootstrap: "{servers}"}}
sources:
  orders: {{kafka: {{topic: {orders}, end: latest, event_time: {{field: ts, out_of_order: 2s}}}}}}
  payments: {{kafka: {{topic: {payments}, end: latest, event_time: {{field: ts, out_of_order: 2s}}}}}}
stages:
- join: {{left: orders, right: payments, on: {{left: id, right: order}}, within: 5s, fields: {{user: orders.user}}}}
- aggregate: {{by: user, values: {{paid: count()}}}}
sink: {{kafka: {{topic: {out}}}}}
"""


async def test_a_join_and_an_aggregate_find_their_records_wherever_they_were(kafka, make_topic, tmp_path: Path) -> None:
    orders, payments, out = await make_topic(4), await make_topic(3), await make_topic()
    chance = random.Random(5)
    sold = [{"id": n, "user": f"u{n % 7}", "ts": TIMES + 100 * n} for n in range(600)]
    paid = [{"order": n, "ts": TIMES + 100 * n + chance.randrange(-8000, 8000)} for n in range(600)]
    paid.sort(key=lambda one: one["ts"])
    await feed(kafka.bootstrap, orders, sold, 4)
    await feed(kafka.bootstrap, payments, paid, 3)
    run = Run(kafka.bootstrap, tmp_path, orders, out)
    run.text = JOIN.format(servers=kafka.bootstrap, orders=orders, payments=payments, out=out)
    assert (await run.run()).fault is None
    met = [sold[one["order"]]["user"] for one in paid if abs(one["ts"] - sold[one["order"]]["ts"]) <= 5000]
    records = [orjson.loads(record.value) for record in await read_topic(kafka.bootstrap, out)]
    assert len(records) == len(met)
    assert {one["user"]: one["paid"] for one in records} == Counter(met)
    async with open_admin(KafkaSettings.model_validate({"bootstrap": kafka.bootstrap})) as admin:
        found = await admin.topics()
    sizes = {name.removeprefix(f"streamd.{run.app}.p."): topic.partitions for name, topic in found.items()}
    assert sizes["join.left.exchange"] == sizes["join.right.exchange"] == 4
    assert sizes["aggregate.exchange"] == 4

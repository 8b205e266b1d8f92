"""A standby copy that follows a changelog on a real broker: through aborted transactions, compaction and deletion."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from integration.kafka.workbench import SOURCE, until
from services.kafka import read_topic
from streamd.component.context import PipelineContext
from streamd.errors import NotFoundError, TransientError, UnavailableError
from streamd.state.snapshot import Snapshot
from streamd.state.standby import Standby
from streamd.state.task_stores import TaskStores
from streamd.transport.kafka.changelogs import changelog_topic
from streamd.transport.kafka.following import FollowedChangelogs
from streamd.transport.kafka.settings import KafkaSettings

pytestmark = pytest.mark.kafka


@pytest.fixture
async def source(make_topic):
    return await make_topic()


@pytest.fixture
async def admin(kafka, bench):
    """An admin client; the changelog's topic is deleted in the end."""
    made = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await made.start()
    yield made
    with contextlib.suppress(Exception):
        await made.delete_topics([changelog_topic(bench.task, "s")])
    await made.close()


@pytest.fixture
async def follower(kafka, bench, tmp_path, admin):
    """`await follower()`: a copy of the task's state that is followed until the test ends, or until it is let go of."""
    context = PipelineContext(
        bench.task.app, bench.task.pipeline, tmp_path, tmp_path, KafkaSettings(bootstrap=kafka.bootstrap), True
    )
    running = []

    async def follow():
        changelogs = FollowedChangelogs(bench.task, context)
        await changelogs.open()
        copy = Standby(bench.task, Snapshot(tmp_path / "copy"), {"s": changelogs.log("s")})
        copy.running = asyncio.create_task(copy.run())
        running.append((copy.running, changelogs))
        return copy

    yield follow
    for task, changelogs in running:
        await let_go(task)
        changelogs.close()


async def let_go(running):
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def attempt(bench, source, tmp_path):
    """`await attempt(copy=…)`: (transaction, stores, records read) of a new attempt at the task."""
    made = []

    async def begin(*, copy=False):
        transaction = bench.transaction(source)
        committed = await transaction.open()
        snapshot = Snapshot(tmp_path / "copy") if copy else None
        stores = TaskStores(bench.task, {"s": {}}, 1, exact=True, snapshot=snapshot)
        made.append(stores)
        stores.table = stores.stores["s"].table("t")
        restored = []
        await stores.restore(transaction, committed, restored.append)
        return transaction, stores, sum(restored)

    yield begin
    for stores in made:
        stores.close()


async def commit(transaction, stores, position, *, end=True, **values):
    stores.table |= values
    stores.table.dirty |= values.keys()
    transaction.begin()
    cursors = stores.write(transaction, {SOURCE: position})
    await transaction.flush()
    await transaction.put_positions({SOURCE: position}, cursors)
    if end:
        await transaction.commit()
        stores.committed()


def complete(copy):
    assert not copy.running.done(), copy.running.exception()
    return copy.ready and copy.lag == 0


async def test_who_takes_over_reads_what_came_since(attempt, follower):
    transaction, stores, _ = await attempt()
    for position in range(40):
        await commit(transaction, stores, position, **{f"k{n}": position for n in range(50)})
    copy = await follower()
    await until(lambda: complete(copy))
    await commit(transaction, stores, 40, k1="new", end=True)
    # What is under way when the task moves is aborted, and never in the copy.
    await commit(transaction, stores, 41, k2="aborted", k99="aborted", end=False)
    await until(lambda: complete(copy))
    await let_go(copy.running)
    _, taken, read = await attempt(copy=True)
    assert taken.table == {f"k{n}": 39 for n in range(50)} | {"k1": "new"}
    assert read <= 4
    assert taken.local >= 50


async def test_aborted_transactions_are_never_in_a_copy(attempt, follower):
    transaction, stores, _ = await attempt()
    await commit(transaction, stores, 0, a=0)
    copy = await follower()
    for position in range(1, 6):
        await commit(transaction, stores, position, end=False, a="aborted", **{f"gone{position}": 1})
        transaction, stores, _ = await attempt()
        await commit(transaction, stores, position, a=position)
        await until(lambda: complete(copy))
    await let_go(copy.running)
    _, taken, read = await attempt(copy=True)
    assert taken.table == {"a": 5}
    assert taken.local
    assert read <= 4


async def test_a_copy_of_a_changelog_that_is_compacted_meanwhile(kafka, admin, bench, attempt, follower):
    transaction, stores, _ = await attempt()
    topic = changelog_topic(bench.task, "s")
    settings = {
        "cleanup.policy": "compact", "segment.bytes": "1048576", "segment.ms": "100", "max.compaction.lag.ms": "100",
        "min.cleanable.dirty.ratio": "0.01",
    }  # fmt: skip
    [answer] = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, settings)])
    assert not answer.resources[0][0], answer
    first = await follower()
    keys = {f"k{n}": 0 for n in range(100)}
    position = 0
    async with asyncio.timeout(90):
        # Until the cleaner was there.
        while True:
            for _ in range(20):
                position += 1
                keys |= {f"k{n}": position for n in range(position % 7, 100, 7)}
                await commit(transaction, stores, position, **keys)
            if position % 20 == 0:
                stores.table.remove(f"k{position % 99}")
                keys.pop(f"k{position % 99}", None)
                await commit(transaction, stores, position)
                offsets = [record.offset for record in await read_topic(kafka.bootstrap, topic)]
                if len(offsets) < offsets[-1] / 2:
                    break
    await until(lambda: complete(first))
    await let_go(first.running)
    position += 1
    await commit(transaction, stores, position, late=1)
    # Another one goes on from there.
    second = await follower()
    await until(lambda: complete(second))
    await let_go(second.running)
    expected = dict(stores.table)
    _, taken, read = await attempt(copy=True)
    assert taken.table == expected == keys | {"late": 1}
    assert taken.local
    assert read <= 101


async def test_a_changelog_that_is_deleted_and_made_anew_is_copied_anew(admin, bench, client, attempt, follower):
    transaction, stores, _ = await attempt()
    for position in range(5):
        await commit(transaction, stores, position, **{f"old{n}": position for n in range(20)})
    copy = await follower()
    await until(lambda: complete(copy))
    await let_go(copy.running)
    topic = changelog_topic(bench.task, "s")
    await admin.delete_topics([topic])
    gone = await follower()
    with pytest.raises((NotFoundError, UnavailableError)):
        await gone.running
    # As after `streamd state reset`: no positions, and a new history.
    fresh = TaskStores(bench.task, {"s": {}}, 1, exact=True)
    fresh.table = fresh.stores["s"].table("t")
    await client.create_compacted_topic(topic, 30.0, 1, {})
    fresh._histories["s"] = "another"
    for position in range(9):
        await commit(transaction, fresh, position, **{f"new{n}": position for n in range(30)})
    anew = await follower()
    with pytest.raises(TransientError, match="begun anew"):
        await anew.running
    copy = await follower()
    await until(lambda: complete(copy))
    await let_go(copy.running)
    _, taken, _ = await attempt(copy=True)
    assert taken.table == {f"new{n}": 8 for n in range(30)}
    assert taken.local == 30

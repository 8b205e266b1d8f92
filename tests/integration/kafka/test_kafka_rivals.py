"""Who else runs a task is found, even if it never gets as far as to write its positions."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from streamd.component.context import PipelineContext
from streamd.observability import identity as identities
from streamd.observability.identity import Identity
from streamd.transport.kafka.admin import open_admin
from streamd.transport.kafka.rivals import rival_of
from streamd.transport.kafka.settings import KafkaSettings

OURS = Identity("one", 1, 1_700_000_000)
THEIRS = Identity("other", 2, 1_700_000_100)
TICKS = ("ticks", 0)


@pytest.fixture
async def context(kafka, bench, tmp_path):
    settings = KafkaSettings(bootstrap=(kafka.bootstrap,))
    yield PipelineContext("test", bench.task.pipeline, tmp_path, Path(), settings)
    async with open_admin(settings) as admin:
        await admin.delete_topics([f"streamd.test.{bench.task.pipeline}.positions"])


@pytest.fixture
def as_node(monkeypatch):
    """Be another node from now on."""
    return lambda who: monkeypatch.setattr(identities, "_adopted", [who])


async def test_two_that_fence_each_other_before_they_commit_find_each_other(bench, context, as_node):
    as_node(OURS)
    ours = bench.transaction()
    await ours.open()
    for number in range(1, 40):
        await ours.put_positions({TICKS: number}, {})
        await ours.commit()
    assert await rival_of(bench.task, [], context) is None
    as_node(THEIRS)
    found = await rival_of(bench.task, [], context)
    assert (found.who, found.at_work) == (OURS, False), "which may be gone"
    as_node(OURS)
    found = await rival_of(bench.task, [], context)
    assert (found.who, found.at_work) == (THEIRS, True)
    as_node(THEIRS)
    found = await rival_of(bench.task, [], context)
    assert (found.who, found.at_work) == (OURS, True)
    # What they left is no position.
    assert (await bench.transaction().open()).positions == {TICKS: 39}


def signed(task, who, number):
    """What a commit of that node leaves beside its offsets."""
    by = [f"{task.app}.{task.pipeline}", who.host, who.pid, who.since]
    return json.dumps({"n": number, "by": by})


async def test_of_another_group_it_is_who_commits_the_same_partition(kafka, bench, context, as_node, make_topic):
    """Only a next commit tells that it is at work: what is there may be of an earlier life of who is a member now."""
    topic = await make_topic(2)
    source = SimpleNamespace(spec=SimpleNamespace(transport="kafka"), settings=SimpleNamespace(topic=topic, group=None))
    member = AIOKafkaConsumer(topic, bootstrap_servers=kafka.bootstrap, group_id=f"other-{topic}")
    await member.start()
    try:
        async with asyncio.timeout(30):
            while len(member.assignment()) < 2:  # noqa: ASYNC110 — there is no event
                await asyncio.sleep(0.05)
        later = Identity("third", 3, THEIRS.since + 100)
        first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
        as_node(OURS)
        await member.commit({second: (1, signed(bench.task, later, 9))})
        found = await rival_of(bench.task, [source], context)
        assert (found.who, found.number) == (later, 9), "where nobody says who commits ours"
        await member.commit({first: (1, signed(bench.task, THEIRS, 4))})
        found = await rival_of(bench.task, [source], context)
        assert (found.who, found.number, found.at_work) == (THEIRS, 4, False)
        await member.commit({first: (2, signed(bench.task, THEIRS, 5))})
        assert (await rival_of(bench.task, [source], context)).number == 5
    finally:
        await member.stop()
    assert await rival_of(bench.task, [source], context) is None, "its group has no members"

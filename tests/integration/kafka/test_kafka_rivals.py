"""Who else runs a task is found, even if it never gets as far as to write its positions."""

from __future__ import annotations

from pathlib import Path

import pytest

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

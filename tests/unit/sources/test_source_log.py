"""The log source: where it begins, and what it does when its position is gone."""

from __future__ import annotations

import pytest

from streamd.component.context import PipelineContext
from streamd.errors import NotFoundError, PositionLostError
from streamd.sources.log import LogSource, LogSourceConfig
from streamd.transport.embedded.jobs import Retention
from streamd.transport.embedded.topic import opened
from streamd.transport.embedded.transaction import EmbeddedTransaction


@pytest.fixture
def context(tmp_path):
    return PipelineContext("app", "orders", tmp_path, tmp_path)


async def fill(context, commits=5, size=10, retention=Retention()):  # noqa: B008
    async with opened(context) as log:
        await log.create_topic("orders", 2, retention)
        writer = EmbeddedTransaction(log.path, "fill")
        await writer.open()
        for n in range(commits):
            for _ in range(size):
                writer.append("orders", 0, None, b"%d" % n, 0, ())
            await writer.commit()
        await writer.close()
        await log.trim()


async def opens_at(context, position, **settings):
    reader = await LogSource(LogSourceConfig(topic="orders", **settings), context).open(0, position)
    at = reader.position()
    assert not reader.ended
    await reader.close()
    return at


async def test_it_makes_its_topic(context):
    source = LogSource(LogSourceConfig(topic="orders", partitions=3), context)
    with pytest.raises(NotFoundError, match="no topic 'orders'"):
        await source.partitions()
    await source.prepare()
    assert await source.partitions() == 3
    await source.close()


async def test_it_begins_where_it_is_told_or_goes_on_where_it_was(context):
    await fill(context)
    assert await opens_at(context, None) == 0
    assert await opens_at(context, None, start="latest") == 50
    assert await opens_at(context, 17, start="latest") == 17
    assert await opens_at(context, 50) == 50


async def test_a_position_that_is_gone_stops_unless_told_otherwise(context):
    await fill(context, retention=Retention(records=25))
    for position in (5, 51):
        with pytest.raises(PositionLostError, match=r"holds offsets 20 to 50, the position to go on from is"):
            await opens_at(context, position)
        assert await opens_at(context, position, on_position_lost="earliest") == 20
        assert await opens_at(context, position, on_position_lost="latest") == 50
    assert await opens_at(context, None) == 20

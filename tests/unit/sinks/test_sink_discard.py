"""The discard sink takes everything and keeps nothing."""

from __future__ import annotations

from streamd.sinks.discard import DiscardConfig, DiscardSink


async def test_records_are_taken_and_forgotten():
    sink = DiscardSink(DiscardConfig(), None)
    await sink.prepare()
    writer = await sink.open(None, None)
    assert writer.write([(None, b"x", 0, ()), (None, None, 0, ())]) == []
    assert writer.backlog == 0
    await writer.drain()
    assert await writer.flush() is None
    await writer.committed()
    await writer.close()
    await sink.close()

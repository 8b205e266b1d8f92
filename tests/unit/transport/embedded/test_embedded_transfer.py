"""Records that are put into another log keep their offsets there."""

from __future__ import annotations

from pathlib import Path

from streamd.replay.log import LogTopic
from streamd.replay.span import Point
from streamd.transport.embedded.log import EmbeddedLog
from streamd.transport.embedded.transaction import EmbeddedTransaction


async def filled(path: Path, count: int) -> EmbeddedLog:
    """A log whose topic has `count` records in its second of two partitions, a second after each other."""
    log = EmbeddedLog.acquire(path)
    await log.create_topic("in", 2)
    writer = EmbeddedTransaction(path, "the test's input")
    await writer.open()
    for n in range(count):
        writer.begin()
        writer.append("in", 1, b"k", str(n).encode(), 1000 * n, (("h", b"x"),))
        await writer.put_positions({}, {})
        await writer.commit()
    await writer.close()
    return log


async def test_a_part_of_a_topic_is_copied_with_its_offsets(tmp_path: Path) -> None:
    source, target = await filled(tmp_path / "a.db", 10), EmbeddedLog.acquire(tmp_path / "b.db")
    try:
        topic = await LogTopic.of(source, "in")
        assert await topic.span(Point(), None) == {0: (0, 0), 1: (0, 10)}
        assert await topic.span(Point(ms=2500), Point(ms=7000)) == {0: (0, 0), 1: (3, 7)}
        for span in ({0: (0, 0), 1: (0, 2)}, {0: (0, 0), 1: (3, 7)}):
            await topic.copy(span, target)
            streams = await target.streams("in")
            assert [(stream.start, stream.end) for stream in streams] == list(span.values()), "the first copy is gone"
            found = await target.fetch(streams[1].id, span[1][0], 100, 1 << 20)
            assert [(r.offset, r.value, r.timestamp, r.key, r.headers) for r in found] == [
                (n, str(n).encode(), 1000 * n, b"k", (("h", b"x"),)) for n in range(*span[1])
            ]
        assert [stream.end for stream in await source.streams("in")] == [0, 10]
    finally:
        await source.release()
        await target.release()

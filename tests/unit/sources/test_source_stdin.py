"""The stdin source: lines as they come, until the end."""

from __future__ import annotations

import asyncio
import os

import pytest

from streamd.codecs import Undecodable
from streamd.component.context import PipelineContext
from streamd.errors import FatalError
from streamd.sources.stdin import StdinConfig, StdinSource


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            pass


@pytest.fixture
def context(tmp_path):
    return PipelineContext("app", "orders", tmp_path, tmp_path)


async def reader_of(context, descriptor, position=None, **settings):
    source = StdinSource(StdinConfig(**settings), context, descriptor)
    await source.prepare()
    assert await source.partitions() == 1
    return await source.open(0, position)


async def test_lines_come_as_they_are_written_and_the_last_needs_no_end(context, pipe):
    reader = await reader_of(context, pipe[0])
    assert await reader.read(10, 0) == []
    assert reader.lag() == 0
    os.write(pipe[1], b'{"a":1}\n\n{"a"')
    assert [(r.value, r.offset) for r in await reader.read(10, 5)] == [(b'{"a":1}', 0)]
    os.write(pipe[1], b':2}\n{"a":3}')
    assert [r.value for r in await reader.read(10, 5)] == [b'{"a":2}']
    os.close(pipe[1])
    assert [r.value for r in await reader.read(10, 5)] == [b'{"a":3}']
    assert reader.ended
    assert await reader.read(10, 5) == []
    assert reader.position() == 24
    await reader.close()


async def test_a_redirected_file_is_read_to_its_end(context, tmp_path):
    path = tmp_path / "in"
    path.write_bytes(b"".join(b"%d\n" % n for n in range(50_000)))
    with path.open("rb") as file:
        reader = await reader_of(context, file.fileno(), format="text")
        found = []
        while not reader.ended:
            found += [int(record.value) for record in await reader.read(1000, 1)]
        await reader.close()
    assert found == list(range(50_000))


async def test_a_line_that_is_too_long_is_an_error_record(context, pipe):
    reader = await reader_of(context, pipe[0], max_record_bytes=5)
    os.write(pipe[1], b"123456\n1\n")
    found = [record.value for record in await reader.read(10, 5)]
    assert isinstance(found[0], Undecodable)
    assert "more than 5 bytes (max_record_bytes): it has 6, of which the first 5 are kept" in found[0].reason
    assert found[0].raw == b"12345"
    assert found[1] == b"1"
    await reader.close()


async def test_a_cancelled_read_loses_nothing(context, pipe):
    reader = await reader_of(context, pipe[0], format="text")
    reading = asyncio.ensure_future(reader.read(10, 30))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    os.write(pipe[1], b"one\ntwo\n")
    assert [r.value for r in await reader.read(1, 5)] == [b"one"]
    assert reader.position() == 4
    assert [r.value for r in await reader.read(1, 5)] == [b"two"]
    await reader.close()


async def test_positions_go_on_over_a_start(context, pipe):
    reader = await reader_of(context, pipe[0], position=100)
    assert reader.position() == 100
    os.write(pipe[1], b"1\n")
    assert [r.offset for r in await reader.read(10, 5)] == [100]
    assert reader.position() == 102
    await reader.close()


async def test_a_closed_standard_input_is_a_clear_error(context, pipe):
    os.close(pipe[0])
    with pytest.raises(FatalError, match="cannot read standard input: it is closed"):
        await reader_of(context, pipe[0])

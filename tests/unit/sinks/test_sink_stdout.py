"""The stdout sink: whole lines, backpressure, and a reader that goes away."""

from __future__ import annotations

import asyncio
import os

import pytest

from streamd.codecs import codec
from streamd.component.context import PipelineContext, TaskContext
from streamd.errors import FatalError, LoadError
from streamd.record import TaskId
from streamd.sinks.stdout import StdoutConfig, StdoutSink


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


async def writer_of(sink, context):
    return await sink.open(TaskContext(context, TaskId("app", "orders", 0, 0), 1, None, "embedded"), None)


def rows(*values):
    return [(None, value, 0, ()) for value in values]


async def test_each_record_is_a_line(context, pipe):
    sink = StdoutSink(StdoutConfig(), context, pipe[1])
    await sink.prepare()
    writer = await writer_of(sink, context)
    assert writer.write(rows(b'{"a":1}', b"two")) == []
    assert writer.backlog == 12
    assert await writer.flush() is None
    assert writer.backlog == 0
    assert os.read(pipe[0], 100) == b'{"a":1}\ntwo\n'
    await writer.close()


def test_every_style_is_a_format_of_the_codecs():
    for style in ("json", "pretty", "text"):
        assert codec(StdoutConfig(format=style).format).encode({"text": "a"})


@pytest.mark.parametrize(
    ("style", "value", "line"),
    [
        ("json", b'{"a":\n 1}', b'{"a":1}\n'),
        ("json", b'{"a": "\\n"}', b'{"a": "\\n"}\n'),
        ("text", b"a\rb", b"a\rb\n"),
        ("text", b"a\nb", None),
        ("text", b"a\r", None),
        ("pretty", b'{\n  "a": 1\n}', b'{\n  "a": 1\n}\n'),
    ],
)
async def test_a_record_is_one_line_but_where_it_is_to_be_pretty(context, pipe, style, value, line):
    writer = await writer_of(StdoutSink(StdoutConfig(format=style), context, pipe[1]), context)
    refused = writer.write([(None, value, 0, ()), (None, b"{}", 0, ())])
    await writer.flush()
    assert os.read(pipe[0], 100) == (line or b"") + b"{}\n"
    assert [(index, str(error)) for index, error in refused] == (
        [] if line else [(0, "a text with a line end is not one line")]
    )


async def test_tombstones_are_refused(context, pipe):
    writer = await writer_of(StdoutSink(StdoutConfig(), context, pipe[1]), context)
    refused = writer.write(rows(b"1", None))
    assert [(index, type(error)) for index, error in refused] == [(1, LoadError)]
    await writer.close()


async def test_much_output_waits_for_its_reader(context, pipe):
    writer = await writer_of(StdoutSink(StdoutConfig(), context, pipe[1]), context)
    lines = [b"%06d" % n * 10 for n in range(20_000)]
    writer.write(rows(*lines))
    flushing = asyncio.ensure_future(writer.flush())
    loop = asyncio.get_running_loop()
    found = b""
    while len(found) < 61 * len(lines):
        found += await loop.run_in_executor(None, os.read, pipe[0], 65536)
    await flushing
    assert found.splitlines() == lines
    await writer.close()


async def test_a_reader_that_is_gone_is_a_fatal_error(context, pipe):
    writer = await writer_of(StdoutSink(StdoutConfig(), context, pipe[1]), context)
    os.close(pipe[0])
    writer.write(rows(b"1"))
    with pytest.raises(FatalError, match="standard output was closed by its reader"):
        await writer.flush()
    await writer.close()


async def test_a_closed_standard_output_is_a_clear_error(context, pipe):
    os.close(pipe[1])
    with pytest.raises(FatalError, match="cannot write to standard output"):
        await StdoutSink(StdoutConfig(), context, pipe[1]).prepare()


async def test_an_attempt_that_ended_inside_a_line_does_not_join_it_with_the_next(context, pipe):
    sink = StdoutSink(StdoutConfig(), context, pipe[1])
    writer = await writer_of(sink, context)
    writer.write(rows(b"x" * 1_000_000))
    flushing = asyncio.ensure_future(writer.flush())
    loop = asyncio.get_running_loop()
    start = await loop.run_in_executor(None, os.read, pipe[0], 4096)
    flushing.cancel()
    await asyncio.gather(flushing, return_exceptions=True)
    await writer.close()
    rest = b""
    os.set_blocking(pipe[0], False)
    try:
        while piece := os.read(pipe[0], 1_000_000):
            rest += piece
    except BlockingIOError:
        pass
    assert set(start + rest) == {ord("x")}
    again = await writer_of(sink, context)
    again.write(rows(b"y"))
    await again.flush()
    assert os.read(pipe[0], 100) == b"\ny\n"
    await again.close()


async def test_lines_of_two_writers_do_not_mix(context, pipe):
    sinks = [StdoutSink(StdoutConfig(), context, pipe[1]) for _ in range(2)]
    writers = [await writer_of(sink, context) for sink in sinks]
    for letter, writer in zip(b"ab", writers, strict=True):
        writer.write(rows(*[bytes([letter]) * 5000] * 50))
    flushing = asyncio.gather(*(writer.flush() for writer in writers))
    loop = asyncio.get_running_loop()
    found = b""
    while len(found) < 2 * 50 * 5001:
        found += await loop.run_in_executor(None, os.read, pipe[0], 65536)
    await flushing
    assert sorted(set(found.splitlines())) == [b"a" * 5000, b"b" * 5000]
    for writer in writers:
        await writer.close()

"""A disk that is full while files are written: a clear error, nothing twice, and it goes on when there is room."""

from __future__ import annotations

import resource

import pytest

from streamd.component.context import PipelineContext, TaskContext
from streamd.errors import TransientError
from streamd.record import TaskId
from streamd.sinks.file import FileSink, FileSinkConfig


@pytest.fixture
def file_limit():
    """Lets this process make no file longer than so many bytes: what a quota does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (before[1] if size is None else size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("rotate", [None, {"records": 150}])
async def test_lines_are_written_once_when_there_is_room_again(tmp_path, file_limit, rotate):
    context = PipelineContext("app", "orders", tmp_path, tmp_path)
    sink = FileSink(FileSinkConfig(path="out/o.ndjson", rotate=rotate), context)
    writer = await sink.open(TaskContext(context, TaskId("app", "orders", 0, 0), 1, None, "embedded"), None)
    writer.write([(None, b"%04d" % n, 0, ()) for n in range(100)])
    await writer.flush()
    writer.write([(None, b"%04d" % n, 0, ()) for n in range(100, 200)])
    file_limit(600)
    for _ in range(2):
        with pytest.raises(TransientError, match=r"cannot write .*o.*ndjson.*: File too large; nothing was lost"):
            await writer.flush()
    writer.write([(None, b"%04d" % n, 0, ()) for n in range(200, 210)])
    file_limit(None)
    await writer.flush()
    await writer.committed()
    await writer.close()
    files = sorted(path for path in (tmp_path / "out").iterdir() if "ndjson" in path.name and path.suffix != ".lock")
    lines = [line for path in files for line in path.read_bytes().split()]
    assert sorted(lines) == [b"%04d" % n for n in range(210)]

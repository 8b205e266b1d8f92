"""MessagePack and Protobuf on the file sink: whole records, and nothing behind the last checkpoint."""

from __future__ import annotations

import gzip
import io

import msgpack
import orjson
import pytest
from google.protobuf.proto import parse_length_prefixed, serialize_length_prefixed
from google.protobuf.wrappers_pb2 import UInt32Value
from pydantic import ValidationError

from streamd.component.context import PipelineContext, TaskContext
from streamd.errors import FatalError, LoadError
from streamd.record import TaskId
from streamd.sinks.file import FileSink, FileSinkConfig

FORMATS = {"msgpack": "msgpack", "protobuf": {"protobuf": {"descriptor": "n.desc", "message": "Number"}}}


@pytest.fixture(params=FORMATS)
def form(request):
    return request.param


@pytest.fixture
def context(tmp_path):
    return PipelineContext("app", "orders", tmp_path / "state", tmp_path)


async def opened(context, form, cursor=None, path="out/o", **settings):
    config = FileSinkConfig.model_validate({"path": path, "format": FORMATS[form], **settings})
    task = TaskContext(context, TaskId("app", "orders", 0, 0), 1, None, "embedded")
    return await FileSink(config, context).open(task, cursor)


def rows(form, *numbers):
    if form == "msgpack":
        return [(None, msgpack.packb({"n": n}), 0, ()) for n in numbers]
    return [(None, UInt32Value(value=n).SerializeToString(), 0, ()) for n in numbers]


async def checkpoint(writer, form, *numbers):
    assert writer.write(rows(form, *numbers)) == []
    cursor = orjson.loads(orjson.dumps(await writer.flush()))
    await writer.committed()
    return cursor


def written(form, *numbers):
    """A file as the format's own library writes it."""
    out = io.BytesIO()
    for n in numbers:
        if form == "msgpack":
            out.write(msgpack.packb({"n": n}))
        else:
            serialize_length_prefixed(UInt32Value(value=n), out)
    return out.getvalue()


def read(form, data):
    """What the format's own library finds in a file."""
    if form == "msgpack":
        return [document["n"] for document in msgpack.Unpacker(io.BytesIO(data))]
    stream, found = io.BytesIO(data), []
    while (message := parse_length_prefixed(UInt32Value, stream)) is not None:
        found.append(message.value)
    return found


@pytest.mark.parametrize(("path", "unpack"), [("o", bytes), ("o.gz", gzip.decompress)])
async def test_what_is_written_is_read_by_the_formats_own_library(context, tmp_path, form, path, unpack):
    writer = await opened(context, form, path=path)
    await checkpoint(writer, form, 0, 1, 2)
    await checkpoint(writer, form, 3, 1000)
    await writer.close()
    data = unpack((tmp_path / path).read_bytes())
    assert data == written(form, 0, 1, 2, 3, 1000)
    assert read(form, data) == [0, 1, 2, 3, 1000]


async def test_what_was_not_committed_is_cut_off(context, tmp_path, form):
    writer = await opened(context, form)
    cursor = await checkpoint(writer, form, 0, 1)
    writer.write(rows(form, 2, 3))
    await writer.flush()
    await writer.close()
    writer = await opened(context, form, cursor)
    await checkpoint(writer, form, 2)
    await writer.close()
    assert read(form, (tmp_path / "out" / "o").read_bytes()) == [0, 1, 2]


async def test_each_file_of_a_row_is_whole(context, tmp_path, form):
    writer = await opened(context, form, rotate={"records": 3})
    await checkpoint(writer, form, *range(8))
    await writer.close()
    files = sorted((tmp_path / "out").glob("o-*"))
    assert [read(form, path.read_bytes()) for path in files] == [[0, 1, 2], [3, 4, 5], [6, 7]]


@pytest.mark.parametrize(("path", "pack"), [("o", bytes), ("o.gz", gzip.compress)])
async def test_the_file_of_another_writer_is_gone_on_with_where_it_is_whole(context, tmp_path, form, path, pack):
    (tmp_path / path).write_bytes(pack(written(form, *range(5))))
    writer = await opened(context, form, path=path)
    cursor = await checkpoint(writer, form, 5)
    await writer.close()
    writer = await opened(context, form, cursor, path=path)
    await checkpoint(writer, form, 6)
    await writer.close()
    data = (tmp_path / path).read_bytes()
    assert read(form, data if pack is bytes else gzip.decompress(data)) == list(range(7))


async def test_a_file_that_is_not_whole_is_refused_and_left_as_it_was(context, tmp_path, form):
    before = written(form, 0, 1, 1000)[:-1]
    (tmp_path / "o").write_bytes(before)
    start = len(written(form, 0, 1))
    with pytest.raises(FatalError, match=f"o ends inside a record of .*, which begins at byte {start}; nothing is app"):
        await opened(context, form, path="o")
    assert (tmp_path / "o").read_bytes() == before
    # Moved away, it is in nobody's way.
    (tmp_path / "o").rename(tmp_path / "old")
    writer = await opened(context, form, path="o")
    await checkpoint(writer, form, 7)
    await writer.close()
    assert read(form, (tmp_path / "o").read_bytes()) == [7]


@pytest.mark.parametrize(("form", "damage"), [("msgpack", b"\xc1"), ("protobuf", b"\xff" * 10)], indirect=["form"])
async def test_a_file_that_is_damaged_is_refused(context, tmp_path, form, damage):
    (tmp_path / "o").write_bytes(damage)
    with pytest.raises(FatalError, match="o is damaged from byte 0 on"):
        await opened(context, form, path="o")


async def test_a_record_without_a_value_is_refused(context, tmp_path, form):
    writer = await opened(context, form)
    [(index, error)] = writer.write([*rows(form, 1), (None, None, 0, ())])
    assert (index, type(error)) == (1, LoadError)
    assert "has no value (a tombstone)" in str(error)
    await writer.close()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"format": "protobuf"}, "expected one of `descriptor`"),
        ({"format": {"protobuf": {"registry": True}}}, "registry"),
        ({"format": "msgpack", "columns": ["n"]}, "columns: only with format: csv, the format is msgpack"),
        ({"format": "msgpack", "compression": "deflate"}, "with format: msgpack expected none, gzip or zstd"),
    ],
)
def test_what_does_not_fit_together(given, message):
    with pytest.raises(ValidationError, match=message):
        FileSinkConfig.model_validate({"path": "o", **given})

"""Avro object container files on the file sink: one header, whole blocks, and nothing behind the last checkpoint."""

from __future__ import annotations

import io
import json
import sys

import fastavro
import orjson
import pytest
from pydantic import ValidationError

from streamd.codecs.avro.container import parse_header
from streamd.codecs.avro.writing import zigzag
from streamd.component.context import PipelineContext, TaskContext
from streamd.errors import FatalError, LoadError
from streamd.record import TaskId
from streamd.sinks.file import FileSink, FileSinkConfig
from streamd.sources.file import FileSource, FileSourceConfig

SCHEMA = {"type": "record", "name": "Order", "fields": [{"name": "n", "type": "long"}]}


@pytest.fixture
def context(tmp_path):
    return PipelineContext("app", "orders", tmp_path / "state", tmp_path)


async def opened(context, cursor=None, path="out/o.avro", schema=SCHEMA, **settings):
    config = {"path": path, "format": {"avro": {"schema": schema}}, **settings}
    task = TaskContext(context, TaskId("app", "orders", 0, 0), 1, None, "embedded")
    return await FileSink(FileSinkConfig.model_validate(config), context).open(task, cursor)


def rows(*numbers):
    return [(None, zigzag(n), 0, ()) for n in numbers]


async def checkpoint(writer, *numbers):
    assert writer.write(rows(*numbers)) == []
    cursor = orjson.loads(orjson.dumps(await writer.flush()))
    await writer.committed()
    return cursor


def read(path):
    """What fastavro's own reader finds in a file, and its blocks' sizes in records."""
    data = path.read_bytes()
    found = [record["n"] for record in fastavro.reader(io.BytesIO(data))]
    return found, [block.num_records for block in fastavro.block_reader(io.BytesIO(data))]


@pytest.mark.parametrize(
    ("compression", "codec"),
    [(None, "null"), ("none", "null"), ("deflate", "deflate"), ("zstd", "zstandard")],
)
async def test_a_header_once_and_a_block_for_each_write(context, tmp_path, compression, codec):
    writer = await opened(context, **({} if compression is None else {"compression": compression}))
    await checkpoint(writer, 0, 1, 2)
    await checkpoint(writer, 3)
    await writer.close()
    path = tmp_path / "out" / "o.avro"
    header = parse_header(path.read_bytes(), path)
    assert header.codec == codec
    assert json.loads(header.schema.text) == SCHEMA
    assert path.read_bytes().count(b"Obj\x01") == 1
    if codec != "zstandard":  # which fastavro reads only with a library of its own
        assert read(path) == ([0, 1, 2, 3], [3, 1])


async def test_what_was_not_committed_is_cut_off_and_the_marker_stays(context, tmp_path):
    path = tmp_path / "out" / "o.avro"
    writer = await opened(context)
    cursor = await checkpoint(writer, 0, 1)
    marker = parse_header(path.read_bytes(), path).sync
    writer.write(rows(2, 3))
    await writer.flush()
    await writer.close()
    writer = await opened(context, cursor)
    await checkpoint(writer, 2)
    await writer.close()
    assert read(path) == ([0, 1, 2], [2, 1])
    assert parse_header(path.read_bytes(), path).sync == marker


async def test_before_the_first_commit_nothing_stays(context, tmp_path):
    writer = await opened(context)
    writer.write(rows(0, 1))
    await writer.flush()
    await writer.close()
    writer = await opened(context)
    await checkpoint(writer, 5)
    await writer.close()
    assert read(tmp_path / "out" / "o.avro") == ([5], [1])


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "bzip2"])
async def test_the_file_of_another_writer_goes_on_with_its_marker_and_codec(context, tmp_path, codec):
    path = tmp_path / "o.avro"
    with path.open("wb") as file:
        fastavro.writer(file, {**SCHEMA, "doc": "not the same text"}, [{"n": n} for n in range(5)], codec)
    writer = await opened(context, path="o.avro", compression="deflate")
    await checkpoint(writer, 5, 6)
    await writer.close()
    assert read(path) == (list(range(7)), [5, 2])


async def test_zstd_is_gone_on_with_where_only_reading_it_needs_a_library(context, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    writer = await opened(context, path="o.avro", compression="zstd")
    cursor = await checkpoint(writer, 0)
    await writer.close()
    writer = await opened(context, cursor, path="o.avro", compression="zstd")
    await checkpoint(writer, 1)
    await writer.close()
    config = FileSourceConfig.model_validate({"path": "o.avro", "format": "avro"})
    reader = await FileSource(config, context).open(0, None)
    with pytest.raises(FatalError, match=r"o\.avro needs the extra for zstd"):
        await reader.read(10, 0)
    await reader.close()
    monkeypatch.undo()
    reader = await FileSource(config, context).open(0, None)
    assert [record.value["n"] for record in await reader.read(10, 0)] == [0, 1]
    await reader.close()


@pytest.mark.parametrize(
    "schema",
    [
        {**SCHEMA, "name": "Refund"},
        {**SCHEMA, "fields": [{"name": "n", "type": "int"}]},
        {**SCHEMA, "fields": [{"name": "n", "type": {"type": "long", "logicalType": "timestamp-millis"}}]},
        {**SCHEMA, "fields": [*SCHEMA["fields"], {"name": "m", "type": "long", "default": 0}]},
    ],
)
async def test_a_file_with_another_schema_is_refused(context, tmp_path, schema):
    with (tmp_path / "o.avro").open("wb") as file:
        fastavro.writer(file, SCHEMA, [{"n": 1}])
    before = (tmp_path / "o.avro").read_bytes()
    with pytest.raises(
        FatalError, match=r"o\.avro is there already, with another schema, `Order`, than that of the sink"
    ):
        await opened(context, path="o.avro", schema=schema)
    assert (tmp_path / "o.avro").read_bytes() == before
    # Moved away, it is in nobody's way.
    (tmp_path / "o.avro").rename(tmp_path / "old.avro")
    writer = await opened(context, path="o.avro", schema=schema)
    await writer.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-3], "it ends inside a block"),
        (lambda data: data[:20], "it ends inside a block, or inside its header"),
        (lambda data: b'{"n": 1}\n', "is no Avro object container file"),
        (lambda data: data[:-1] + b"?", "does not end with the file's sync marker"),
    ],
)
async def test_a_file_that_is_not_whole_is_refused(context, tmp_path, change, message):
    file = io.BytesIO()
    fastavro.writer(file, SCHEMA, [{"n": 1}], sync_marker=b"m" * 16)
    (tmp_path / "o.avro").write_bytes(change(file.getvalue()))
    with pytest.raises(FatalError, match=message):
        await opened(context, path="o.avro")


async def test_each_file_of_a_row_is_whole(context, tmp_path):
    writer = await opened(context, rotate={"records": 3})
    cursor = await checkpoint(writer, *range(8))
    writer.write(rows(99))
    await writer.flush()
    # As after a crash: nobody closes what is there.
    parts = {path.name: path.read_bytes() for path in (tmp_path / "out").glob(".*.part")}
    await writer.close()
    for name, data in parts.items():
        (tmp_path / "out" / name).write_bytes(data)
    writer = await opened(context, cursor, rotate={"records": 3})
    await checkpoint(writer, *range(8, 12))
    await writer.close()
    files = sorted(path for path in (tmp_path / "out").iterdir() if not path.name.startswith("."))
    assert [read(path)[0] for path in files] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]


async def test_a_record_without_value_is_refused(context):
    writer = await opened(context)
    [(index, error)] = writer.write([(b"k", None, 0, ()), *rows(1)])
    assert (index, type(error)) == (0, LoadError)
    assert "tombstone" in str(error)
    await writer.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "avro"}, "expected a schema, as files have it in their header: `schema` or `schema_file`"),
        ({"format": {"avro": {"registry": True}}}, "registry"),
        ({"format": {"avro": {"schema": SCHEMA, "on_schema_change": "evolve"}}}, "'fail' or 'ignore'"),
        ({"format": {"avro": {"schema": SCHEMA}}, "compression": "gzip"}, "expected none, deflate or zstd, got gzip"),
        ({"compression": "deflate"}, "with format: json expected none, gzip or zstd, got deflate"),
    ],
)
def test_what_does_not_fit_together(settings, message):
    with pytest.raises(ValidationError, match=message):
        FileSinkConfig.model_validate({"path": "o", **settings})

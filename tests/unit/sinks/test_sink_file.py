"""The file sink: formats, and that what lies behind the last checkpoint is cut off, whatever happened."""

from __future__ import annotations

import gzip
import os

import orjson
import pytest
import zstandard
from pydantic import ValidationError

from streamd.component.context import PipelineContext, TaskContext
from streamd.errors import FatalError, LoadError, TransientError
from streamd.record import TaskId
from streamd.sinks.file import FileSink, FileSinkConfig


class MovableClock:
    def __init__(self):
        self.ms = 1_000_000

    def now_ms(self):
        return self.ms

    def monotonic(self):
        return self.ms / 1000


@pytest.fixture
def clock():
    return MovableClock()


@pytest.fixture
def context(tmp_path, clock):
    return PipelineContext("app", "orders", tmp_path / "state", tmp_path, clock=clock)


async def opened(context, cursor=None, partition=0, tasks=1, path="out/orders.ndjson", **settings):
    task = TaskContext(context, TaskId("app", "orders", 0, partition), tasks, None, "embedded")
    return await FileSink(FileSinkConfig(path=path, **settings), context).open(task, cursor)


def rows(*values):
    return [(None, value, 0, ()) for value in values]


async def checkpoint(writer, *values):
    assert writer.write(rows(*values)) == []
    cursor = orjson.loads(orjson.dumps(await writer.flush()))
    await writer.committed()
    return cursor


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


async def test_lines_go_to_a_file_in_folders_that_are_made(context, tmp_path):
    writer = await opened(context, path="a/b/{pipeline}-{partition}.ndjson", partition=3, tasks=4)
    cursor = await checkpoint(writer, b'{"a":1}', b'{"a":\n 2}')
    await writer.close()
    path = tmp_path / "a/b/orders-3.ndjson"
    assert path.read_bytes() == b'{"a":1}\n{"a":2}\n'
    assert cursor == {"path": str(path), "length": 16}


async def test_what_is_behind_the_cursor_is_cut_off(context, tmp_path):
    writer = await opened(context)
    cursor = await checkpoint(writer, b"1")
    writer.write(rows(b"2"))
    await writer.flush()
    await writer.close()
    assert (tmp_path / "out/orders.ndjson").read_bytes() == b"1\n2\n"
    writer = await opened(context, cursor)
    await checkpoint(writer, b"3")
    await writer.close()
    assert (tmp_path / "out/orders.ndjson").read_bytes() == b"1\n3\n"


async def test_what_was_written_before_a_first_checkpoint_is_cut_off_too(context, tmp_path):
    path = tmp_path / "out/orders.ndjson"
    path.parent.mkdir()
    path.write_bytes(b"mine\n")
    for _ in range(2):
        writer = await opened(context)
        writer.write(rows(b"1"))
        await writer.flush()
        await writer.close()
        assert path.read_bytes() == b"mine\n1\n"
    writer = await opened(context)
    await checkpoint(writer, b"1")
    await writer.close()
    assert path.read_bytes() == b"mine\n1\n"
    assert [file.name for file in path.parent.iterdir()] == ["orders.ndjson"]


async def test_a_file_that_became_shorter_than_what_was_committed_is_an_error(context, tmp_path):
    writer = await opened(context)
    cursor = await checkpoint(writer, b"12345")
    await writer.close()
    os.truncate(tmp_path / "out/orders.ndjson", 2)
    with pytest.raises(FatalError, match="has 2 bytes, of which 6 were committed"):
        await opened(context, cursor)


async def test_a_file_that_is_moved_away_while_written_is_an_error(context, tmp_path):
    writer = await opened(context)
    (tmp_path / "out/orders.ndjson").rename(tmp_path / "elsewhere")
    writer.write(rows(b"1"))
    with pytest.raises(FatalError, match="was moved or deleted while it was written"):
        await writer.flush()
    await writer.close()


@pytest.mark.parametrize("settings", [{}, {"rotate": {"records": 2}}])
async def test_two_writers_at_once_are_refused(context, settings):
    writer = await opened(context, **settings)
    with pytest.raises(TransientError, match="another task or process is writing it"):
        await opened(context, **settings)
    await writer.close()
    await (await opened(context, **settings)).close()


async def test_several_tasks_need_files_of_their_own(context):
    with pytest.raises(FatalError, match=r"has 2 tasks.*put \{partition\} into the path"):
        await opened(context, tasks=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "out/{topic}.ndjson"}, "only {partition}, {part} and {pipeline}"),
        ({"path": "out/{.ndjson"}, "only {partition}, {part} and {pipeline}"),
        ({"path": "out/{part.x}.ndjson"}, "only {partition}, {part} and {pipeline}"),
        ({"path": ""}, "at least 1 character"),
        ({"path": "a", "columns": ["x"]}, "columns: only with format: csv"),
        ({"path": "a", "format": "csv", "columns": ["x", "x"]}, "each name once"),
        ({"path": "a", "format": "csv", "delimiter": "\r"}, "other than a line end"),
        ({"path": "a", "rotate": {"records": 0}}, "greater than or equal to 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        FileSinkConfig(**settings)


async def test_batches_are_written_by_size_and_by_time(context, tmp_path, clock):
    path = tmp_path / "out/orders.ndjson"
    writer = await opened(context, batch={"max_bytes": 10, "max_wait": "1s"})
    writer.write(rows(b"123"))
    await writer.drain()
    assert (writer.backlog, path.read_bytes()) == (4, b"")
    writer.write(rows(b"45678"))
    await writer.drain()
    assert (writer.backlog, path.read_bytes()) == (0, b"123\n45678\n")
    writer.write(rows(b"9"))
    clock.ms += 1000
    await writer.drain()
    assert (writer.backlog, path.read_bytes()) == (0, b"123\n45678\n9\n")
    await writer.close()


@pytest.mark.parametrize(("ending", "unpack"), [("gz", gzip.decompress), ("zst", None)])
async def test_compressed_files_are_whole_after_every_checkpoint(context, tmp_path, ending, unpack):
    def read():
        raw = (tmp_path / f"out/a.{ending}").read_bytes()
        if unpack is not None:
            return unpack(raw)
        with zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as stream:
            return stream.read()

    writer = await opened(context, path=f"out/a.{ending}")
    await checkpoint(writer, b"1", b"2")
    cursor = await checkpoint(writer, b"3")
    writer.write(rows(b"4"))
    await writer.flush()
    await writer.close()
    assert read() == b"1\n2\n3\n4\n"
    writer = await opened(context, cursor, path=f"out/a.{ending}")
    await checkpoint(writer, b"5")
    await writer.close()
    assert read() == b"1\n2\n3\n5\n"


async def test_csv_takes_its_columns_from_the_first_document(context, tmp_path):
    writer = await opened(context, path="out.csv", format="csv", delimiter=";")
    cursor = await checkpoint(writer, {"id": 1, "name": "a;b"}, b'{"name":null,"id":2}')
    await writer.close()
    writer = await opened(context, cursor, path="out.csv", format="csv", delimiter=";")
    refused = writer.write(rows({"id": 3}, {"id": 4, "other": 5}))
    assert [(index, type(error)) for index, error in refused] == [(1, LoadError)]
    assert "field 'other' is not among the columns of the file: id, name" in str(refused[0][1])
    await writer.flush()
    await writer.close()
    assert (tmp_path / "out.csv").read_text() == 'id;name\n1;"a;b"\n2;\n3;\n'


async def test_csv_goes_on_under_the_header_that_is_there(context, tmp_path):
    (tmp_path / "out.csv").write_text("b,a\n1,2\n")
    writer = await opened(context, path="out.csv", format="csv")
    await checkpoint(writer, {"a": 4, "b": 3})
    await writer.close()
    assert (tmp_path / "out.csv").read_text() == "b,a\n1,2\n3,4\n"


@pytest.mark.parametrize("text", [b"a\nb", b"a\n", b"\r\n", b"a\r"])
async def test_a_text_with_a_line_end_is_refused_alone(context, tmp_path, text):
    writer = await opened(context, path="out.txt", format="text")
    [(index, error)] = writer.write(rows(b"1", text, b"a\rb"))
    assert index == 1
    assert isinstance(error, LoadError)
    assert str(error) == "a text with a line end is not one line"
    await writer.flush()
    await writer.close()
    assert (tmp_path / "out.txt").read_bytes() == b"1\na\rb\n"


async def test_rows_that_have_no_line_are_refused_alone(context, tmp_path):
    writer = await opened(context)
    refused = writer.write(rows(b"1", None, b"{\n", b"2"))
    assert [(index, type(error)) for index, error in refused] == [(1, LoadError), (2, LoadError)]
    await writer.flush()
    await writer.close()
    assert (tmp_path / "out/orders.ndjson").read_bytes() == b"1\n2\n"


# Rotation.


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.endswith(".lock")}


async def test_full_files_appear_with_the_commit_that_covers_them(context, tmp_path):
    out = tmp_path / "out"
    writer = await opened(context, path="out/o.ndjson.x", rotate={"records": 2})
    writer.write(rows(b"1", b"2", b"3", b"4", b"5"))
    await writer.flush()
    assert names(out) == []
    await writer.committed()
    assert names(out) == ["o-00000001.ndjson.x", "o-00000002.ndjson.x"]
    await writer.close()
    assert contents(out) == {
        "o-00000001.ndjson.x": b"1\n2\n",
        "o-00000002.ndjson.x": b"3\n4\n",
        "o-00000003.ndjson.x": b"5\n",
    }


async def test_a_start_after_a_crash_brings_the_folder_to_the_cursor(context, tmp_path):
    out = tmp_path / "out"
    writer = await opened(context, rotate={"records": 2})
    cursor = await checkpoint(writer, b"1", b"2", b"3")
    writer.write(rows(b"4", b"5", b"6", b"7"))
    await writer.flush()  # not committed
    await writer.close()
    assert names(out) == ["orders-00000001.ndjson"]

    writer = await opened(context, cursor, rotate={"records": 2})
    cursor = await checkpoint(writer, b"4", b"8")
    await writer.close()
    assert contents(out) == {
        "orders-00000001.ndjson": b"1\n2\n",
        "orders-00000002.ndjson": b"3\n4\n",
        "orders-00000003.ndjson": b"8\n",
    }
    # The third was closed with its task: the next start begins another.
    writer = await opened(context, cursor, rotate={"records": 2})
    await checkpoint(writer, b"9")
    await writer.close()
    assert contents(out)["orders-00000004.ndjson"] == b"9\n"


async def test_a_crash_between_commit_and_rename_is_made_good_at_the_next_start(context, tmp_path):
    writer = await opened(context, rotate={"records": 1})
    writer.write(rows(b"1", b"2"))
    cursor = await writer.flush()
    await writer.close()
    assert names(tmp_path / "out") == []
    writer = await opened(context, cursor, rotate={"records": 1})
    assert names(tmp_path / "out") == ["orders-00000001.ndjson", "orders-00000002.ndjson"]
    await writer.close()


async def test_without_a_cursor_numbers_go_on_behind_those_that_are_there(context, tmp_path):
    for _ in range(2):
        writer = await opened(context, rotate={"records": 1})
        await checkpoint(writer, b"1")
        await writer.close()
        writer = await opened(context, rotate={"records": 1})
        writer.write(rows(b"never committed"))
        await writer.flush()
        await writer.close()
    assert contents(tmp_path / "out") == {
        "orders-00000001.ndjson": b"1\n",
        "orders-00000002.ndjson": b"1\n",
        ".orders-00000003.ndjson.part": b"never committed\n",
    }


async def test_files_are_full_by_size_and_by_age(context, tmp_path, clock):
    writer = await opened(context, rotate={"size": 10, "every": "1h"})
    await checkpoint(writer, b"12345678", b"90")
    assert names(tmp_path / "out") == ["orders-00000001.ndjson"]
    await checkpoint(writer, b"1")
    clock.ms += 3_599_000
    await checkpoint(writer, b"2")
    assert len(names(tmp_path / "out")) == 1
    clock.ms += 1000
    await checkpoint(writer, b"3")
    assert len(names(tmp_path / "out")) == 2
    await writer.close()


async def test_each_csv_file_of_a_row_has_the_header(context, tmp_path):
    writer = await opened(context, path="out/o.csv", format="csv", rotate={"records": 1})
    cursor = await checkpoint(writer, {"a": 1}, {"a": 2})
    await writer.close()
    writer = await opened(context, cursor, path="out/o.csv", format="csv", rotate={"records": 1})
    await checkpoint(writer, {"a": 3})
    await writer.close()
    assert set(contents(tmp_path / "out").values()) == {b"a\n1\n", b"a\n2\n", b"a\n3\n"}


async def test_a_file_of_someone_else_is_not_overwritten(context, tmp_path):
    writer = await opened(context, rotate={"records": 1})
    (tmp_path / "out/orders-00000001.ndjson").write_text("precious")
    writer.write(rows(b"1"))
    await writer.flush()
    with pytest.raises(FatalError, match="is there already, and was not written by this task"):
        await writer.committed()
    await writer.close()
    assert (tmp_path / "out/orders-00000001.ndjson").read_text() == "precious"


@pytest.mark.parametrize(
    ("path", "pack", "unpack"),
    [("o.ndjson", bytes, bytes), ("o.ndjson.gz", gzip.compress, gzip.decompress)],
)
async def test_a_line_without_end_that_was_there_is_not_glued_to_the_next(context, tmp_path, path, pack, unpack):
    (tmp_path / path).write_bytes(pack(b'{"mine":1}'))
    for _ in range(2):
        writer = await opened(context, path=path)
        writer.write(rows(b'{"a":1}'))
        await writer.flush()
        await writer.close()
    assert unpack((tmp_path / path).read_bytes()) == b'{"mine":1}\n{"a":1}\n'


async def test_a_header_without_line_end_stays_a_line(context, tmp_path):
    (tmp_path / "o.csv").write_bytes(b"b,a")
    writer = await opened(context, path="o.csv", format="csv")
    await checkpoint(writer, {"a": 1, "b": 2})
    await writer.close()
    assert (tmp_path / "o.csv").read_bytes() == b"b,a\n2,1\n"


async def test_columns_that_the_file_names_are_not_in_the_cursor(context, tmp_path):
    wide = {f"column {n}": n for n in range(500)}
    writer = await opened(context, path="o.csv", format="csv")
    cursor = await checkpoint(writer, wide)
    assert cursor == {"path": str(tmp_path / "o.csv"), "length": (tmp_path / "o.csv").stat().st_size}
    await writer.close()
    writer = await opened(context, cursor, path="o.csv", format="csv")
    await checkpoint(writer, dict(reversed(wide.items())))
    await writer.close()
    _, first, second = (tmp_path / "o.csv").read_bytes().splitlines()
    assert first == second


async def test_columns_that_the_file_does_not_name_the_same_way_are_in_the_cursor(context, tmp_path):
    writer = await opened(context, path="o.csv", format="csv")
    cursor = await checkpoint(writer, {" a": 1, "b\nc": 2})
    assert cursor["columns"] == [" a", "b\nc"]
    await writer.close()

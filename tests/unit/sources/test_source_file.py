"""The file source: formats, partitions, positions, and files that are followed over rotation."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil

import pytest
import zstandard
from pydantic import ValidationError
from structlog.testing import capture_logs

from streamd.codecs import Undecodable
from streamd.errors import AccessDeniedError, FatalError, NotFoundError, PositionLostError, TransientError
from streamd.sources.file import FileSource, FileSourceConfig


def source(context, path="in.ndjson", **settings):
    return FileSource(FileSourceConfig(path=path, **settings), context)


async def read_all(reader, max_records=1000):
    """All records of a bounded reader, or what a followed one has at the moment."""
    found = []
    while not reader.ended:
        records = await reader.read(max_records, 0)
        if not records and not reader.ended and reader.lag() == 0:
            break
        found += records
    return found


async def values(source, partition=0, position=None):
    reader = await source.open(partition, position)
    try:
        return [record.value for record in await read_all(reader)]
    finally:
        await reader.close()


async def wait_for(reader, count):
    """The next `count` values of a followed file."""
    found = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += [record.value for record in await reader.read(count - len(found), 1)]
    return found


@pytest.fixture
def data(context):
    return context.base_dir


async def test_json_lines_are_given_as_they_are(context, data):
    (data / "in.ndjson").write_bytes(b'{"a":1}\n\n{"a": 2}\r\n{"a":3}')
    reader = await source(context).open(0, None)
    found = await read_all(reader)
    assert [(r.value, r.offset, r.key) for r in found] == [
        (b'{"a":1}', 0, None),
        (b'{"a": 2}', 9, None),
        (b'{"a":3}', 19, None),
    ]
    assert reader.ended
    assert reader.lag() == 0
    assert await reader.read(10, 0) == []
    await reader.close()


async def test_an_empty_file_ends_at_once(context, data):
    (data / "in.ndjson").touch()
    assert await values(source(context)) == []


async def test_lines_of_text_are_kept_as_they_are(context, data):
    (data / "in.txt").write_bytes(b"one\n\n  two\r\n\xff\n")
    assert await values(source(context, "in.txt", format="text")) == [b"one", b"", b"  two", b"\xff"]


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize("name", ["in.csv", "in.csv.gz", "in.csv.zst"])
async def test_every_position_is_one_to_go_on_from(context, data, name, size):
    plain = b"id,name\n" + b"".join(b'%d,"row\n%d"\n' % (n, n) for n in range(40))
    pack = {"csv": bytes, "gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress}[name.rpartition(".")[2]]
    (data / name).write_bytes(pack(plain))
    files = source(context, name, format="csv", types={"id": "int"})
    expected = [{"id": n, "name": f"row\n{n}"} for n in range(40)]
    found, position = [], None
    for _ in range(100):
        reader = await files.open(0, position)
        found += [record.value for record in await reader.read(size, 0)]
        position = reader.position()
        await reader.close()
    assert found == expected
    assert position["ended"]


async def test_csv_with_columns_of_its_own_has_no_header(context, data):
    (data / "in.csv").write_bytes(b"1;a\n2;b\n")
    files = source(context, "in.csv", format="csv", columns=("id", "name"), delimiter=";", types={"id": "int"})
    assert await values(files) == [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]


async def test_bad_rows_and_long_rows_are_error_records(context, data):
    long = b"3," + b"x" * 500
    (data / "in.csv").write_bytes(b"id,name\n1,a\nx,b\n" + long + b"\n4,d\n")
    found = await values(source(context, "in.csv", format="csv", types={"id": "int"}, max_record_bytes=100))
    assert found == [
        {"id": 1, "name": "a"},
        Undecodable("column 'id' does not hold an integer"),
        Undecodable(
            "the record has more than 100 bytes (max_record_bytes): it has 502, of which the first 100 are kept"
        ),
        {"id": 4, "name": "d"},
    ]
    assert found[1].raw == b"x,b"
    assert found[2].raw == long[:100]


@pytest.mark.parametrize("header", [b"a,a\n", b"a,\n", b"\xff\n"])
async def test_a_header_that_names_no_columns_is_a_clear_error(context, data, header):
    (data / "in.csv").write_bytes(header + b"1,2\n")
    with pytest.raises(FatalError, match="does not name its columns"):
        await values(source(context, "in.csv", format="csv"))


async def test_types_of_unknown_columns_are_a_clear_error(context, data):
    (data / "in.csv").write_bytes(b"a,b\n1,2\n")
    with pytest.raises(FatalError, match=r"names columns that .*in.csv does not have: c"):
        await values(source(context, "in.csv", format="csv", types={"c": "int"}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"types": {"a": "int"}}, "types: only with format: csv"),
        ({"delimiter": ";"}, "delimiter: only with format: csv"),
        ({"start": "latest"}, "start: only with tail: true"),
        ({"tail": True, "compression": "gzip"}, "a compressed file cannot be followed"),
        ({"format": "csv", "columns": ["a"], "types": {"b": "int"}}, "types: b is none of the columns"),
        ({"format": "csv", "delimiter": "\n"}, "other than a line end"),
        ({"format": "csv", "delimiter": '"'}, "two different characters"),
        ({"format": "csv", "columns": ["a", "a"]}, "each name once"),
        ({"path": []}, "at least 1 item"),
        ({"max_record_bytes": "lots"}, "a size"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        FileSourceConfig(**{"path": "a", **settings})


async def test_each_file_is_a_partition_and_keeps_its_number(context, data):
    for name in ("b", "c"):
        (data / f"{name}.ndjson").write_text(f'"{name}"\n')
    files = source(context, "*.ndjson")
    await files.prepare()
    assert await files.partitions() == 2
    (data / "a.ndjson").write_text('"a"\n')
    again = source(context, "*.ndjson")
    assert await again.partitions() == 3
    assert [await values(again, n) for n in range(3)] == [[b'"b"'], [b'"c"'], [b'"a"']]


async def test_several_paths_and_patterns_name_each_file_once(context, data):
    (data / "sub").mkdir()
    for name in ("a", "b", "sub/c"):
        (data / f"{name}.ndjson").write_text(f'"{name}"\n')
    files = source(context, ["**/*.ndjson", "a.ndjson", str(data / "b.ndjson")])
    assert await files.partitions() == 3


async def test_a_missing_file_is_a_clear_error(context, data):
    with pytest.raises(NotFoundError, match=r"no file matches .*x"):
        await source(context, "*.x").prepare()
    with pytest.raises(NotFoundError, match=r"in\.ndjson: it does not exist"):
        await source(context).open(0, None)


async def test_a_folder_is_a_clear_error(context, data):
    (data / "in.ndjson").mkdir()
    with pytest.raises(FatalError, match="Is a directory"):
        await source(context).prepare()


async def test_a_file_that_was_read_to_its_end_may_go(context, data):
    path = data / "in.ndjson"
    path.write_bytes(b"1\n")
    files = source(context)
    reader = await files.open(0, None)
    await read_all(reader)
    position = reader.position()
    await reader.close()
    path.unlink()
    assert await values(files, 0, position) == []
    path.write_bytes(b"1\n2\n")
    assert await values(files, 0, position) == []


@pytest.mark.parametrize("change", [b'{"b":1}\n{"b":2}\n', b""])
async def test_a_file_that_changed_before_the_position_is_lost(context, data, change):
    path = data / "in.ndjson"
    path.write_bytes(b'{"a":1}\n{"a":2}\n')
    files = source(context)
    reader = await files.open(0, None)
    await reader.read(1, 0)
    position = reader.position()
    await reader.close()
    path.write_bytes(change)
    with pytest.raises(PositionLostError, match="no longer begins as it did"):
        await values(files, 0, position)


async def test_a_position_of_another_source_is_refused(context, data):
    with pytest.raises(PositionLostError, match="not one of the file source"):
        await source(context).open(0, 17)


async def test_a_damaged_file_gives_what_is_whole_and_then_an_error(context, data):
    lines = b"".join(b'{"a":%d}\n' % n for n in range(200_000))
    whole = gzip.compress(lines)
    (data / "in.ndjson.gz").write_bytes(whole[:-5000])
    reader = await source(context, "in.ndjson.gz").open(0, None)
    found = []

    async def read_on():
        while not reader.ended:
            found.extend(await reader.read(10_000, 0))

    with pytest.raises(FatalError, match="is not a whole gzip file"):
        await read_on()
    assert len(found) > 10_000
    await reader.close()


async def test_a_cancelled_read_loses_nothing(context, data):
    (data / "in.ndjson").write_bytes(b"".join(b"%d\n" % n for n in range(100_000)))
    reader = await source(context).open(0, None)
    found = []
    while not reader.ended:
        reading = asyncio.ensure_future(reader.read(997, 1))
        await asyncio.sleep(0)
        if reading.cancel():
            await asyncio.gather(reading, return_exceptions=True)
        else:
            found += [int(record.value) for record in reading.result()]
        found += [int(record.value) for record in await reader.read(997, 1)]
    assert found == list(range(100_000))
    await reader.close()


# Followed files.


def append(path, text):
    with path.open("ab") as file:
        file.write(text)


def followed(context, **settings):
    return source(context, "app.log", format="text", tail=True, **{"rotate_wait": 0, **settings})


async def test_what_is_appended_comes_and_half_a_line_waits(context, data):
    path = data / "app.log"
    reader = await followed(context).open(0, None)
    assert await reader.read(10, 0) == []
    path.write_bytes(b"one\ntw")
    assert await wait_for(reader, 1) == [b"one"]
    assert await reader.read(10, 0.1) == []
    assert reader.lag() == 0
    append(path, b"o\nthree\n")
    assert await wait_for(reader, 2) == [b"two", b"three"]
    assert not reader.ended
    await reader.close()


async def test_latest_begins_behind_the_last_line(context, data):
    append(data / "app.log", b"old\n" * 100_000 + b"ha")
    reader = await followed(context, start="latest").open(0, None)
    assert await reader.read(10, 0.1) == []
    append(data / "app.log", b"lf\n")
    assert await wait_for(reader, 1) == [b"half"]
    await reader.close()


async def test_rotation_by_rename_loses_nothing(context, data):
    path = data / "app.log"
    append(path, b"1\n2\n")
    reader = await followed(context).open(0, None)
    assert await wait_for(reader, 1) == [b"1"]
    path.rename(data / "app.log.1")
    append(data / "app.log.1", b"3\n4")
    append(path, b"5\n")
    assert await wait_for(reader, 4) == [b"2", b"3", b"4", b"5"]
    await reader.close()


async def test_a_renamed_file_is_left_only_when_it_is_quiet(context, data):
    path = data / "app.log"
    append(path, b"1\n")
    reader = await followed(context, rotate_wait=3600).open(0, None)
    assert await wait_for(reader, 1) == [b"1"]
    path.rename(data / "app.log.1")
    append(path, b"3\n")
    assert await reader.read(10, 0.1) == []
    append(data / "app.log.1", b"2\n")
    assert await wait_for(reader, 1) == [b"2"]
    await reader.close()


async def test_rotation_twice_between_two_looks(context, data):
    path = data / "app.log"
    append(path, b"1\n")
    reader = await followed(context).open(0, None)
    assert await wait_for(reader, 1) == [b"1"]
    for n in (1, 2, 3):
        for number in (2, 1):
            old = data / f"app.log.{number}"
            if old.exists():
                old.rename(data / f"app.log.{number + 1}")
        os.utime(path, ns=(n * 10**9, n * 10**9))
        path.rename(data / "app.log.1")
        append(path, b"%d\n" % (n + 1))
    assert await wait_for(reader, 3) == [b"2", b"3", b"4"]
    await reader.close()


async def test_rotation_by_copy_and_truncate_reads_the_rest_in_the_copy(context, data):
    path = data / "app.log"
    append(path, b"1\n2\n3\n")
    reader = await followed(context).open(0, None)
    assert await wait_for(reader, 3) == [b"1", b"2", b"3"]
    append(path, b"4\n5\n")
    shutil.copy(path, data / "app.log.1")
    os.truncate(path, 0)
    append(path, b"6\n")
    assert await wait_for(reader, 3) == [b"4", b"5", b"6"]
    await reader.close()


async def test_a_truncated_file_without_a_copy_begins_anew(context, data):
    path = data / "app.log"
    append(path, b"1\n2\n3\n")
    reader = await followed(context).open(0, None)
    assert await wait_for(reader, 3) == [b"1", b"2", b"3"]
    path.write_bytes(b"a\n")
    assert await wait_for(reader, 1) == [b"a"]
    path.write_bytes(b"x\ny\nz, longer than what was there before\n")
    assert await wait_for(reader, 3) == [b"x", b"y", b"z, longer than what was there before"]
    await reader.close()


async def position_behind(context, count):
    reader = await followed(context).open(0, None)
    await wait_for(reader, count)
    position = reader.position()
    await reader.close()
    return position


async def test_a_start_finds_its_file_after_renames(context, data):
    path = data / "app.log"
    append(path, b"1\n2\n3\n")
    position = await position_behind(context, 2)
    os.utime(path, ns=(10**9, 10**9))
    path.rename(data / "app.log.2")
    append(data / "app.log.1", b"4\n")
    append(path, b"5\n")
    reader = await followed(context).open(0, position)
    assert await wait_for(reader, 3) == [b"3", b"4", b"5"]
    await reader.close()


async def test_a_start_finds_the_copy_after_copy_and_truncate(context, data):
    path = data / "app.log"
    append(path, b"1\n2\n3\n")
    position = await position_behind(context, 2)
    shutil.copy(path, data / "app.log.1")
    path.write_bytes(b"4\n")
    reader = await followed(context).open(0, position)
    assert await wait_for(reader, 2) == [b"3", b"4"]
    await reader.close()


async def test_a_file_that_is_gone_stops_unless_told_otherwise(context, data):
    path = data / "app.log"
    append(path, b"1\n2\n3\n")
    position = await position_behind(context, 2)
    path.rename(data / "kept-so-that-its-inode-is-not-used-again")
    append(path, b"a\n")
    reader = await followed(context).open(0, position)
    with pytest.raises(PositionLostError, match="the file that was read up to byte 4 is gone"):
        await reader.read(10, 1)
    await reader.close()
    reader = await followed(context, on_position_lost="restart").open(0, position)
    assert await wait_for(reader, 1) == [b"a"]
    await reader.close()


async def test_a_followed_csv_has_a_header_in_each_file(context, data):
    path = data / "app.log"
    append(path, b"a,b\n1,2\n")
    files = source(context, "app.log", format="csv", tail=True, rotate_wait=0)
    reader = await files.open(0, None)
    assert await wait_for(reader, 1) == [{"a": "1", "b": "2"}]
    position = reader.position()
    append(path, b"3,4\n")
    path.rename(data / "app.log.1")
    append(path, b"b,a\n5,6\n")
    assert await wait_for(reader, 2) == [{"a": "3", "b": "4"}, {"b": "5", "a": "6"}]
    await reader.close()
    reader = await files.open(0, position)
    assert await wait_for(reader, 2) == [{"a": "3", "b": "4"}, {"b": "5", "a": "6"}]
    await reader.close()


async def test_a_compressed_file_is_not_followed(context, data):
    (data / "app.log.gz").touch()
    with pytest.raises(FatalError, match="it is compressed"):
        await source(context, "app.log.gz", tail=True).open(0, None)


async def test_a_file_without_permission_is_a_clear_error(context, data, monkeypatch):
    (data / "in.ndjson").touch(0o000)
    if os.access(data / "in.ndjson", os.R_OK):  # root may read everything: let the system say what it says to others
        monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(AccessDeniedError, match="Permission denied"):
        await source(context).prepare()


def refuse(path, *_, **__):
    raise PermissionError(13, "Permission denied", str(path))


async def test_a_pattern_to_follow_waits_for_its_first_file(context, data):
    files = source(context, "*.log", tail=True, format="text")
    for ask in (files.prepare, files.partitions):
        with pytest.raises(TransientError, match=r"no file matches \*\.log .*waited for"):
            await ask()
    append(data / "a.log", b"1\n")
    await files.prepare()
    assert await files.partitions() == 1


async def test_a_file_that_grew_behind_its_end_is_told_of_once(context, data):
    (data / "in.ndjson").write_bytes(b"1\n")
    files = source(context)
    reader = await files.open(0, None)
    await read_all(reader)
    position = reader.position()
    await reader.close()
    with capture_logs() as logs:
        assert await values(files, position=position) == []
    assert logs == []
    append(data / "in.ndjson", b"22\n")
    with capture_logs() as logs:
        assert await values(files, position=position) == []
    [said] = logs
    assert said["log_level"] == "warning"
    assert said["message"] == "read to its end at 2 bytes, it has 5 now; tail: true follows it"

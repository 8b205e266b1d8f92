"""MessagePack and Protobuf on the file source: positions, files that are followed, and what the settings say."""

from __future__ import annotations

import asyncio
import gzip

import msgpack
import pytest
from google.protobuf.wrappers_pb2 import UInt32Value
from pydantic import ValidationError

from streamd.codecs import Format, Undecodable
from streamd.codecs.format import framing_of
from streamd.errors import FatalError
from streamd.sources.file import FileSource, FileSourceConfig

# The class of its messages is the codec's matter; the source reads bytes.
FORMATS = {"msgpack": "msgpack", "protobuf": {"protobuf": {"descriptor": "n.desc", "message": "Number"}}}
DAMAGE = {"msgpack": b"\xc1", "protobuf": b"\xff" * 10}


@pytest.fixture(params=FORMATS)
def form(request):
    return request.param


def one(form, n):
    return msgpack.packb({"n": n}) if form == "msgpack" else UInt32Value(value=n + 1).SerializeToString()


def framed(form, *numbers):
    return framing_of(Format(form)).pack([one(form, n) for n in numbers])


def numbers_of(form, records):
    if form == "msgpack":
        return [msgpack.unpackb(record.value)["n"] for record in records]
    return [UInt32Value.FromString(record.value).value - 1 for record in records]


def source(context, form, path="in", **settings):
    return FileSource(FileSourceConfig.model_validate({"path": path, "format": FORMATS[form], **settings}), context)


async def read_all(reader):
    found = []
    while not reader.ended:
        found += await reader.read(1000, 0)
    await reader.close()
    return found


async def wait_for(reader, count):
    found = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += await reader.read(count - len(found), 1)
    return found


async def test_files_of_a_pattern_are_partitions_and_offsets_are_bytes(context, data, form):
    (data / "a.bin").write_bytes(framed(form, *range(100)))
    (data / "b.bin").write_bytes(framed(form, *range(100, 150)))
    files = source(context, form, "*.bin")
    assert await files.partitions() == 2
    found = await read_all(await files.open(0, None))
    assert numbers_of(form, found) == list(range(100))
    assert [record.offset for record in found] == [len(framed(form, *range(n))) for n in range(100)]
    assert numbers_of(form, await read_all(await files.open(1, None))) == list(range(100, 150))


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
async def test_every_position_is_one_to_go_on_from(context, data, form, size, pack):
    path = "in" if pack is bytes else "in.gz"
    (data / path).write_bytes(pack(framed(form, *range(60))))
    files = source(context, form, path)
    found, position = [], None
    for _ in range(100):
        reader = await files.open(0, position)
        found += await reader.read(size, 0)
        position = reader.position()
        await reader.close()
    assert numbers_of(form, found) == list(range(60))
    assert position["ended"]


async def test_more_than_one_read_of_the_disk(context, data, form):
    (data / "in").write_bytes(framed(form, *range(200_000)))
    assert numbers_of(form, await read_all(await source(context, form).open(0, None))) == list(range(200_000))


async def test_a_file_that_is_cut_off_ends_in_an_error_record(context, data, form):
    whole = framed(form, 0, 1)
    (data / "in").write_bytes(framed(form, 0, 1, 2)[:-1])
    found = await read_all(await source(context, form).open(0, None))
    assert numbers_of(form, found[:-1]) == [0, 1]
    assert isinstance(found[2].value, Undecodable)
    assert found[2].value.reason.startswith(f"the file ends inside the record that begins at byte {len(whole)}: ")
    assert found[2].offset == len(whole)


async def test_a_damaged_file_stops_the_reading_behind_its_records(context, data, form):
    whole = framed(form, *range(10))
    (data / "in").write_bytes(whole + DAMAGE[form] + whole)
    reader = await source(context, form).open(0, None)
    assert numbers_of(form, await wait_for(reader, 10)) == list(range(10))
    position = reader.position()
    for _ in range(2):
        with pytest.raises(FatalError, match=f"in is damaged from byte {len(whole)} on, as a file of "):
            await reader.read(10, 1)
        await reader.close()
        reader = await source(context, form).open(0, position)
    await reader.close()


async def test_a_record_that_is_too_long_is_an_error_record(context, data):
    parts = [msgpack.packb({"t": "x" * size}) for size in (5, 500_000, 6)]
    (data / "in").write_bytes(b"".join(parts))
    reader = await source(context, "msgpack", max_record_bytes="100KiB").open(0, None)
    found = [record.value for record in await read_all(reader)]
    assert (found[0], found[2]) == (parts[0], parts[2])
    assert f"more than 102400 bytes (max_record_bytes): it has {len(parts[1])}" in found[1].reason


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"format": "protobuf"}, "expected one of `descriptor`"),
        ({"format": {"protobuf": {"descriptor": "o.desc"}}}, "message: expected the full name"),
        ({"format": {"protobuf": {"registry": True}}}, "registry"),
        ({"format": {"msgpack": {"timestamps": "s"}}}, "'ms' or 'iso'"),
        ({"format": "msgpack", "columns": ["n"]}, "columns: only with format: csv, the format is msgpack"),
        ({"format": "bytes"}, "Input should be 'json', 'csv', 'text', 'avro', 'msgpack', 'protobuf' or 'ndjson'"),
    ],
)
def test_what_a_file_does_not_take(given, message):
    with pytest.raises(ValidationError, match=message):
        FileSourceConfig.model_validate({"path": "in", **given})


# Files that are followed.


def followed(context, form, **settings):
    return source(context, form, tail=True, rotate_wait=0, **settings)


async def test_a_record_that_is_not_whole_is_waited_for(context, data, form):
    whole = framed(form, *range(40))
    reader = await followed(context, form).open(0, None)
    found = []
    with (data / "in").open("ab", buffering=0) as file:
        assert await reader.read(10, 0) == []
        for at in range(0, len(whole), 5):
            file.write(whole[at : at + 5])
            found += await reader.read(1000, 0)
        found += await wait_for(reader, 40 - len(found))
    assert numbers_of(form, found) == list(range(40))
    assert await reader.read(10, 0) == []
    assert reader.lag() == 0
    await reader.close()


@pytest.mark.parametrize("unfinished", [0, 1])
async def test_latest_begins_behind_the_last_whole_record(context, data, form, unfinished):
    whole = framed(form, *range(31))
    (data / "in").write_bytes(whole[: len(whole) - unfinished])
    reader = await followed(context, form, start="latest").open(0, None)
    assert await reader.read(10, 0) == []
    with (data / "in").open("ab") as file:
        file.write(whole[len(whole) - unfinished :] + framed(form, 31, 32))
    assert numbers_of(form, await wait_for(reader, 2 + unfinished)) == list(range(31 - unfinished, 33))
    await reader.close()


async def test_latest_of_a_damaged_file_is_an_error(context, data, form):
    (data / "in").write_bytes(framed(form, 1) + DAMAGE[form])
    reader = await followed(context, form, start="latest").open(0, None)
    with pytest.raises(FatalError, match="is damaged from byte"):
        await reader.read(10, 0)
    await reader.close()


async def test_reading_follows_a_rename_also_of_a_file_that_is_left_inside_a_record(context, data, form):
    (data / "in").write_bytes(framed(form, 0, 1, 2)[:-1])
    reader = await followed(context, form).open(0, None)
    assert numbers_of(form, await wait_for(reader, 2)) == [0, 1]
    position = reader.position()
    (data / "in").rename(data / "in.1")
    (data / "in").write_bytes(framed(form, 3, 4))
    for _ in range(2):
        found = await wait_for(reader, 3)
        assert "the file ends inside the record" in found[0].value.reason
        assert numbers_of(form, found[1:]) == [3, 4]
        await reader.close()
        reader = await followed(context, form).open(0, position)
    await reader.close()

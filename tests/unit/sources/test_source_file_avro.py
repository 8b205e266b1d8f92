"""Avro object container files on the file source: positions, files that are followed, and what the settings say."""

from __future__ import annotations

import asyncio
import gzip
import io

import fastavro
import pytest
from pydantic import ValidationError

from streamd.codecs import Undecodable
from streamd.errors import ConfigError, FatalError, PositionLostError
from streamd.sources.file import FileSource, FileSourceConfig

SCHEMA = {"type": "record", "name": "Order", "fields": [{"name": "n", "type": "long"}]}


def container(first, behind, codec="deflate", **settings):
    file = io.BytesIO()
    records = [{"n": n} for n in range(first, behind)]
    fastavro.writer(file, SCHEMA, records, codec, **{"sync_interval": 30, **settings})
    return file.getvalue()


def source(context, path="in.avro", **settings):
    return FileSource(FileSourceConfig.model_validate({"path": path, "format": "avro", **settings}), context)


async def read_all(reader):
    found = []
    while not reader.ended:
        records = await reader.read(1000, 0)
        if not records and not reader.ended and reader.lag() == 0:
            break
        found += records
    await reader.close()
    return found


async def numbers(source, partition=0, position=None):
    return [record.value["n"] for record in await read_all(await source.open(partition, position))]


async def wait_for(reader, count):
    found = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += [record.value["n"] for record in await reader.read(count - len(found), 1)]
    return found


async def test_files_of_a_pattern_are_partitions_and_offsets_are_numbers(context, data):
    (data / "a.avro").write_bytes(container(0, 100))
    (data / "b.avro").write_bytes(container(100, 150, "null"))
    files = source(context, "*.avro")
    assert await files.partitions() == 2
    found = await read_all(await files.open(0, None))
    assert [(record.value, record.offset) for record in found] == [({"n": n}, n) for n in range(100)]
    assert await numbers(files, 1) == list(range(100, 150))


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
async def test_every_position_is_one_to_go_on_from(context, data, size, pack):
    path = "in.avro" if pack is bytes else "in.avro.gz"
    (data / path).write_bytes(pack(container(0, 60)))
    files = source(context, path)
    found, position = [], None
    for _ in range(100):
        reader = await files.open(0, position)
        found += [record.value["n"] for record in await reader.read(size, 0)]
        position = reader.position()
        await reader.close()
    assert found == list(range(60))
    assert position["ended"]


async def test_more_than_one_read_of_the_disk(context, data):
    (data / "in.avro").write_bytes(container(0, 200_000, "null", sync_interval=5000))
    assert await numbers(source(context)) == list(range(200_000))


async def test_an_empty_file_has_no_records(context, data):
    (data / "in.avro").touch()
    assert await numbers(source(context)) == []


async def test_a_schema_of_the_settings_is_the_one_that_documents_have(context, data):
    (data / "in.avro").write_bytes(container(0, 2))
    (data / "own.avsc").write_text(
        '{"type": "record", "name": "Order", "fields": [{"name": "n", "type": "double"}, '
        '{"name": "kind", "type": "string", "default": "sale"}]}'
    )
    files = source(context, format={"avro": {"schema_file": "own.avsc"}})
    found = [record.value for record in await read_all(await files.open(0, None))]
    assert found == [{"n": 0.0, "kind": "sale"}, {"n": 1.0, "kind": "sale"}]


async def test_records_that_do_not_fit_the_schema_are_error_records_with_their_bytes(context, data):
    (data / "in.avro").write_bytes(container(0, 2))
    other = {"type": "record", "name": "Order", "fields": [{"name": "other", "type": "long"}]}
    reader = await source(context, format={"avro": {"schema": other}}).open(0, None)
    found = [record.value for record in await read_all(reader)]
    assert [(type(value), value.raw) for value in found] == [(Undecodable, b"\x00"), (Undecodable, b"\x02")]


async def test_a_file_that_is_cut_off_is_an_error_behind_its_records(context, data):
    whole = container(0, 60)
    (data / "in.avro").write_bytes(whole[:-5])
    reader = await source(context).open(0, None)
    found = []

    async def read_on():
        while True:
            found.extend(await reader.read(10, 0))

    message = r"in\.avro is cut off: it ends inside the block that begins at byte \d+, after"
    with pytest.raises(FatalError, match=message):
        await read_on()
    await reader.close()
    assert [record.value["n"] for record in found] == list(range(len(found)))
    assert len(found) == 30


async def test_a_file_that_was_replaced_is_no_place_to_go_on(context, data):
    (data / "in.avro").write_bytes(container(0, 60))
    reader = await source(context).open(0, None)
    await reader.read(50, 0)
    position = reader.position()
    await reader.close()
    (data / "in.avro").write_bytes(b"something else" * 100)
    with pytest.raises(PositionLostError, match="no longer begins as it did"):
        await numbers(source(context), position=position)


async def test_a_missing_schema_file_is_told(context):
    with pytest.raises(ConfigError, match=r"cannot read the schema .*none\.avsc: No such file"):
        source(context, format={"avro": {"schema_file": "none.avsc"}})


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"avro": {"registry": True}}, "registry"),
        ({"avro": {"writer_schema_file": "x.avsc"}}, "writer_schema_file"),
        ({"avro": {"schema": "string", "schema_file": "x.avsc"}}, "expected one of the two"),
        ({"csv": {"delimiter": ";"}}, "settings of a format are for messages of topics"),
    ],
)
def test_what_a_file_does_not_take(context, form, message):
    with pytest.raises(ValidationError, match=message):
        source(context, format=form)


# Files that are followed.


def followed(context, **settings):
    return source(context, tail=True, rotate_wait=0, **settings)


async def test_a_block_that_is_not_whole_is_waited_for(context, data):
    whole = container(0, 60)
    reader = await followed(context).open(0, None)
    with (data / "in.avro").open("ab", buffering=0) as file:
        assert await reader.read(10, 0) == []
        found = []
        for at in range(0, len(whole), 40):
            file.write(whole[at : at + 40])
            found += [record.value["n"] for record in await reader.read(1000, 0)]
        found += await wait_for(reader, 60 - len(found))
    assert found == list(range(60))
    assert await reader.read(10, 0) == []
    assert reader.lag() == 0
    await reader.close()


async def test_a_followed_file_goes_on_within_a_block(context, data):
    (data / "in.avro").write_bytes(container(0, 30, sync_interval=16000))
    reader = await followed(context).open(0, None)
    assert await wait_for(reader, 12) == list(range(12))
    position = reader.position()
    await reader.close()
    file = (data / "in.avro").open("a+b")
    fastavro.writer(file, None, [{"n": n} for n in range(30, 40)])
    file.close()
    reader = await followed(context).open(0, position)
    assert await wait_for(reader, 28) == list(range(12, 40))
    await reader.close()


async def test_latest_begins_behind_the_last_whole_block(context, data):
    (data / "in.avro").write_bytes(container(0, 30))
    reader = await followed(context, start="latest").open(0, None)
    assert await reader.read(10, 0) == []
    with (data / "in.avro").open("a+b") as file:
        fastavro.writer(file, None, [{"n": n} for n in range(30, 35)])
    async with asyncio.timeout(20):
        while not (found := await reader.read(10, 1)):
            pass
    assert [(record.value["n"], record.offset) for record in found] == [(n, n) for n in range(30, 35)]
    await reader.close()


async def test_reading_follows_a_rename(context, data):
    (data / "in.avro").write_bytes(container(0, 30))
    reader = await followed(context).open(0, None)
    assert await wait_for(reader, 20) == list(range(20))
    position = reader.position()
    (data / "in.avro").rename(data / "in.avro.1")
    (data / "in.avro").write_bytes(container(30, 40))
    assert await wait_for(reader, 20) == list(range(20, 40))
    await reader.close()
    reader = await followed(context).open(0, position)
    assert await wait_for(reader, 20) == list(range(20, 40))
    await reader.close()


async def test_a_followed_file_that_is_left_inside_a_block_is_an_error(context, data):
    (data / "in.avro").write_bytes(container(0, 3)[:-3])
    reader = await followed(context).open(0, None)
    assert await reader.read(10, 0) == []
    (data / "in.avro").rename(data / "in.avro.1")
    (data / "in.avro").write_bytes(container(3, 6))
    with pytest.raises(FatalError, match="is cut off: it ends inside the block"):
        await wait_for(reader, 1)
    await reader.close()

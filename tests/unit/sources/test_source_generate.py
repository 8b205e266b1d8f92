"""The generate source: the same records each time, in partitions, at a rate."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import ValidationError

from streamd.codecs import Undecodable
from streamd.component.context import PipelineContext
from streamd.errors import PositionLostError
from streamd.expr import parse
from streamd.sources.generate import GenerateConfig, GenerateSource


class MovableClock:
    def __init__(self):
        self.seconds = 100.0

    def now_ms(self):
        return round(self.seconds * 1000)

    def monotonic(self):
        return self.seconds


@pytest.fixture
def clock():
    return MovableClock()


@pytest.fixture
def context(tmp_path, clock):
    return PipelineContext("app", "orders", tmp_path, tmp_path, clock=clock)


def config(fields=None, **settings):
    if fields is not None:
        settings["fields"] = {name: parse(text) for name, text in fields.items()}
    if "key" in settings:
        settings["key"] = parse(settings["key"])
    return GenerateConfig(**settings)


async def records(context, settings, partition=0, position=None, max_records=7):
    reader = await GenerateSource(settings, context).open(partition, position)
    found = []
    while not reader.ended:
        found += await reader.read(max_records, 1)
    await reader.close()
    return found


RICH = {
    "id": "_offset",
    "user": 'f"user-{_offset % 7}"',
    "amount": "round(random() * 500, 2)",
    "big": "amount > 250",
    "ref": "uuid()",
    "kind": '["a", "b", "c"][int(random() * 3)]',
    "at": "now()",
}


async def test_fields_see_those_above_them_and_the_number(context):
    found = await records(context, config(RICH, count=20, key="user", start_time=1000, time_step="1s"))
    assert [r.offset for r in found] == list(range(20))
    assert [r.timestamp for r in found] == [1000 + 1000 * n for n in range(20)]
    for record in found:
        document = record.value
        assert list(document) == list(RICH)
        assert document["user"] == f"user-{document['id'] % 7}"
        assert record.key == document["user"].encode()
        assert document["big"] == (document["amount"] > 250)
        assert document["at"] == record.timestamp
    assert len({record.value["ref"] for record in found}) == 20
    assert {record.value["kind"] for record in found} == {"a", "b", "c"}


async def test_the_same_settings_make_the_same_records_from_any_position(context):
    settings = config(RICH, count=50, start_time=0, seed=5)
    whole = await records(context, settings)
    for position in (0, 1, 23, 49, 50):
        assert await records(context, settings, position=position, max_records=3) == whole[position:]
    assert await records(context, config(RICH, count=50, start_time=0, seed=6)) != whole


async def test_partitions_share_the_numbers_among_them(context):
    settings = config({"id": "_offset", "p": "_partition"}, count=20, partitions=3)
    assert await GenerateSource(settings, context).partitions() == 3
    found = [await records(context, settings, partition) for partition in range(3)]
    assert [[r.value["id"] for r in part] for part in found] == [list(range(p, 20, 3)) for p in range(3)]
    assert all(r.value["p"] == p for p, part in enumerate(found) for r in part)


async def test_random_numbers_are_spread_evenly(context):
    found = [r.value["x"] for r in await records(context, config({"x": "random()"}, count=20_000), max_records=2000)]
    assert all(0 <= x < 1 for x in found)
    assert abs(sum(found) / len(found) - 0.5) < 0.01
    assert len(set(found)) == len(found)


async def test_uuids_are_of_version_4(context):
    for record in await records(context, config({"x": "uuid()"}, count=100)):
        text = record.value["x"]
        assert [len(part) for part in text.split("-")] == [8, 4, 4, 4, 12]
        assert (text[14], text[19] in "89ab") == ("4", True)


async def test_a_template_is_filled_in(context):
    template = {
        "id": "{_offset}",
        "name": "n-{_offset}/{_partition}",
        "at": ["{_timestamp}"],
        "x": {"y": [1, None, True, ""]},
    }
    found = await records(context, config(template=template, count=2, start_time=5, time_step=0))
    assert [r.value for r in found] == [
        {"id": n, "name": f"n-{n}/0", "at": [5], "x": {"y": [1, None, True, ""]}} for n in range(2)
    ]
    assert found[0].value["x"] is not found[1].value["x"]


async def test_a_field_without_a_value_makes_an_error_record(context):
    found = await records(context, config({"id": "_offset", "x": "1 / (_offset - 1)"}, count=3))
    assert [isinstance(r.value, Undecodable) for r in found] == [False, True, False]
    assert "division by zero" in found[1].value.reason


async def test_the_rate_says_how_many_are_due(context, clock):
    reader = await GenerateSource(config({"id": "_offset"}, rate=100, partitions=2), context).open(0, None)
    assert await reader.read(1000, 0) == []
    assert reader.lag() == 0
    clock.seconds += 1
    assert reader.lag() == 50
    assert len(await reader.read(30, 0)) == 30
    assert len(await reader.read(30, 0)) == 20
    assert (reader.lag(), reader.ended, reader.position()) == (0, False, 100)


async def test_a_source_without_end_lets_others_run(context):
    reader = await GenerateSource(config({"id": "_offset"}), context).open(0, None)
    ran = []
    asyncio.get_running_loop().call_soon(ran.append, True)
    assert len(await reader.read(10_000, 1)) == 2000
    assert ran
    assert reader.lag() is None


async def test_a_changed_number_of_partitions_is_refused(context):
    with pytest.raises(PositionLostError, match="the number of partitions has changed, it is 2 now"):
        await GenerateSource(config({"id": "_offset"}, partitions=2), context).open(0, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "either `fields` or `template`"),
        ({"fields": {"a": "1"}, "template": {}}, "either `fields` or `template`"),
        ({"fields": {"a": "b + 1", "b": "1"}}, "fields.a: there is no field 'b' above it; there are none"),
        ({"fields": {"a": "1"}, "key": "c"}, "key: there is no field 'c' above it; there are a"),
        ({"fields": {"a": "1"}, "rate": 0}, "greater than 0"),
        ({"fields": {"a": "1"}, "start_time": "noon"}, "ms since the epoch"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        GenerateConfig(**settings)


def test_a_start_time_may_be_iso_text():
    assert config({"a": "1"}, start_time="1970-01-01T00:00:01Z").start_time == 1000
    assert config({"a": "1"}, start_time="1970-01-01 00:00:01").start_time == 1000

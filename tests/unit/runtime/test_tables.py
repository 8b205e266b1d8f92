"""Sources with `table:`: read whole before the tasks that look rows up in them, then followed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from demo.inline_app import InlineApp
from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError, FatalError, PositionLostError, UnavailableError
from streamd.observability.metrics import MetricSet
from streamd.record import SourceRecord
from streamd.runtime.tables import Tables

SOURCES = "name: p\nsources:\n  in: {log: {topic: in}}\n  users: {log: {topic: users%s}, table: %s}\n"
SINK = "sink: {log: {topic: out}}\n"


def pipeline(stages: str, table: str = "{key: id}", settings: str = "", more: str = "") -> str:
    return SOURCES % (settings, table) + f"stages:\n{stages}\n{SINK}{more}"


@pytest.fixture
def app(tmp_path: Path) -> InlineApp:
    return InlineApp(tmp_path)


async def looked_up(app: InlineApp, users: list[Any], orders: list[Any], stages: str, **settings: str) -> list[Any]:
    await app.seed(users, "users")
    await app.seed(orders)
    await app.run(pipeline(stages, **settings))
    return await app.values()


async def test_the_newest_row_counts_and_keys_are_text(app):
    users = [{"id": 7, "name": "Ada"}, {"id": "8", "name": "Bo"}, {"id": 7.0, "name": "Eve"}, {"id": True, "name": "Y"}]
    orders = [{"user": key} for key in (7, "7", 7.0, 8, True, "true")]
    out = await looked_up(app, users, orders, "- enrich: {table: users, key: user, as: u}")
    assert [order["u"]["name"] for order in out] == ["Eve", "Eve", "Eve", "Bo", "Y", "Y"]
    assert out[0]["u"] == {"id": 7.0, "name": "Eve"}


async def test_a_record_without_a_value_deletes_the_row_of_its_key(app):
    """The test's records have the keys k0, k1, … by their place."""
    users = [{"name": "Ada"}, {"name": "Bo"}]
    await app.seed(users, "users")
    await app.seed([None], "users")
    out = await looked_up(
        app, [], [{"k": "k0"}, {"k": "k1"}], "- enrich: {table: users, key: k, as: u, missing: null}", table="{}"
    )
    assert [order["u"] for order in out] == [None, {"name": "Bo"}]


@pytest.mark.parametrize(("tombstones", "left"), [("drop", {"name": "Ada"}), ("forward", None)])
async def test_deletions_can_be_left_out(app, tombstones, left):
    await app.seed([{"name": "Ada"}], "users")
    out = await looked_up(
        app, [None], [{"k": "k0"}], "- enrich: {table: users, key: k, as: u, missing: null}", table="",
        settings=f", tombstones: {tombstones}",
    )  # fmt: skip
    assert [order["u"] for order in out] == [left]


async def test_what_is_missing(app):
    users, orders = [{"id": 1, "name": "Ada"}], [{"user": 1}, {"user": 2}, {"user": None}]
    lookup = "- enrich: {table: users, key: user, fields: [name, age], missing: "
    assert await looked_up(app, users, orders, lookup + "'null'}") == [
        {"user": 1, "name": "Ada", "age": None},
        {"user": 2, "name": None, "age": None},
        {"user": None, "name": None, "age": None},
    ]


async def test_a_missing_row_is_an_error_of_the_record_or_drops_it(app):
    users, orders = [{"id": 1}], [{"user": 1}, {"user": 2}]
    assert len(await looked_up(app, users, orders, "- enrich: {table: users, key: user, as: u, missing: drop}")) == 1
    with pytest.raises(FatalError, match="the key is not in the table users"):
        await InlineApp.run(app, pipeline("- enrich: {table: users, key: user, as: u}").replace("name: p", "name: q"))


async def test_a_key_that_is_no_text(app):
    with pytest.raises(FatalError, match="the key for the table users must be text or a number, got a list"):
        await looked_up(app, [{"id": 1}], [{"user": [1]}], "- enrich: {table: users, key: user, as: u}")


async def test_stages_that_take_different_fields_share_one_table(app):
    """Rows hold what any of them takes, and are read once."""
    stages = (
        "- enrich: {table: users, key: buyer, as: buyer, fields: [name]}\n"
        "- enrich: {table: users, key: seller, fields: [country]}"
    )
    users = [{"id": 1, "name": "Ada", "country": "DE", "age": 36}, {"id": 2, "name": "Bo", "country": "SE"}]
    out = await looked_up(app, users, [{"buyer": 1, "seller": 2}], stages)
    assert out == [{"buyer": {"name": "Ada"}, "seller": 2, "country": "SE"}]
    assert app.total("streamd_table_records_total", table="users") == 2


async def test_a_row_is_the_records_own_to_change(app):
    """What later stages set inside it must not be there at the next lookup."""
    stages = "- enrich: {table: users, key: user, as: u}\n- set: {u.tags: '[_offset]'}"
    out = await looked_up(app, [{"id": 1, "a": {"b": 1}}], [{"user": 1}, {"user": 1}], stages)
    assert [order["u"] for order in out] == [{"id": 1, "a": {"b": 1}, "tags": [n]} for n in (0, 1)]


BAD = [
    (b"not JSON", "{key: id}", "the value is not JSON, from byte 0 on"),
    ([1], "{key: id}", "a record must be a JSON object, this one is a list"),
    ({"name": "Ada"}, "{key: id}", "field 'id' is missing"),
    ({"id": None}, "{key: id}", "the key of a row must be text or a number, got nothing"),
    ({"id": {"a": 1}}, "{key: id}", "the key of a row must be text or a number, got an object"),
]


@pytest.mark.parametrize(("bad", "table", "message"), BAD)
async def test_a_record_that_makes_no_row_stops_the_pipeline(app, bad, table, message):
    with pytest.raises(FatalError) as caught:
        await looked_up(app, [{"id": 1}, bad], [{"user": 1}], "- enrich: {table: users, key: user, as: u}", table=table)
    assert f"{message}. `on_error: skip` beside the source" in str(caught.value)
    assert "offset 1 of users, partition 0" in str(caught.value)
    assert app.total("streamd_failed_records_total", component="users") == 1
    assert await app.values() == []


@pytest.mark.parametrize(("bad", "table", "message"), BAD)
async def test_it_can_be_left_out_and_is_counted(app, bad, table, message, caplog):
    stages = "- enrich: {table: users, key: user, as: u}"
    text = pipeline(stages).replace("table: {key: id}", f"table: {table}, on_error: skip")
    await app.seed([{"id": 1, "n": 1}, bad, {"id": 1, "n": 2}], "users")
    await app.seed([{"user": 1}])
    await app.run(text)
    assert [order["u"]["n"] for order in await app.values()] == [2]
    assert app.total("streamd_skipped_records_total", component="users") == 1


async def test_dead_letters_are_for_the_stream_and_a_tables_record_is_left_out(app):
    """It is read again at each start: each time it would be written anew. Its topic has it still."""
    more = "on_error: {dead_letter: {log: {topic: dead}}}\n"
    stages = "- enrich: {table: users, key: user, as: u}"
    out = await looked_up(app, [b"{", {"id": 1}], [{"user": 1}, {"user": 2}], stages, more=more)
    assert [order["user"] for order in out] == [1]
    assert [letter["user"] for letter in await app.values("dead")] == [2]
    assert app.total("streamd_skipped_records_total", component="users") == 1


async def test_rows_change_while_the_pipeline_runs(app):
    await app.seed([{"id": 1, "n": 0}], "users")
    await app.seed([{"user": 1, "i": -1}])
    number = 0

    async def seen() -> bool:
        """One more version of the row, and an order, until an order has met a newer one."""
        nonlocal number
        number += 1
        await app.seed([{"id": 1, "n": number}], "users")
        await app.seed([{"user": 1, "i": number}])
        return any(order["u"]["n"] > 0 for order in await app.values())

    await app.run_until(pipeline("- enrich: {table: users, key: user, as: u}"), seen)
    versions = [order["u"]["n"] for order in await app.values()]
    assert versions == sorted(versions)


async def test_everything_that_was_there_is_seen_at_the_start(app):
    users = [{"id": n, "n": n} for n in range(30_000)]
    orders = [{"user": n} for n in range(0, 30_000, 100)]
    out = await looked_up(app, users, orders, "- enrich: {table: users, key: user, as: u}")
    assert [order["u"]["n"] for order in out] == list(range(0, 30_000, 100))
    assert app.total("streamd_table_records_total") == 30_000


# A source that fails as the test says.


class Flaky:
    """A topic of one partition in memory. `records`: what it holds; `errors`: raised by the next reads."""

    def __init__(self) -> None:
        self.records: list[SourceRecord] = []
        self.errors: list[Exception] = []
        self.opened, self.closed = 0, False
        self.held = asyncio.Event()
        self.held.set()

    def set(self, **rows: int | None) -> None:
        for key, number in rows.items():
            value = None if number is None else orjson.dumps({"n": number})
            self.records.append(SourceRecord(key.encode(), value, 0, len(self.records)))

    async def partitions(self) -> int:
        return 1

    async def open(self, partition: int, position: Any, task: Any = None) -> FlakyReader:
        self.opened += 1
        return FlakyReader(self)

    async def end(self, partition: int) -> int:
        return len(self.records)

    async def close(self) -> None:
        self.closed = True


class FlakyReader:
    ended = False

    def __init__(self, source: Flaky) -> None:
        self._source, self._at = source, 0

    async def read(self, max_records: int, timeout: float) -> Sequence[SourceRecord]:
        await self._source.held.wait()
        if self._source.errors:
            raise self._source.errors.pop(0)
        records = self._source.records[self._at :]
        self._at = len(self._source.records)
        await asyncio.sleep(0.001)
        return records

    def position(self) -> int:
        return self._at

    def lag(self) -> int:
        return len(self._source.records) - self._at

    async def close(self) -> None:
        pass


@pytest.fixture
async def flaky(tmp_path):
    """(its source, the tables of a pipeline over it)"""
    text = pipeline("- enrich: {table: users, key: user, as: u}", table="{}")
    config = load_pipeline_text(text, tmp_path / "p.yaml", Registry.default(), {}, ServiceConfig.model_validate({}))
    source = Flaky()
    tables = Tables(config, PipelineContext("app", "p", tmp_path, tmp_path), lambda component: source)
    tables.compile({})
    yield source, tables
    await tables.close()


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (nothing tells when a reader was closed)
            await asyncio.sleep(0.002)


def rows(tables):
    return {key: orjson.loads(value)["n"] for key, value in tables.table("users").rows.items()}


@pytest.mark.parametrize("error", [UnavailableError("no broker"), ConnectionError(), PositionLostError("gone")])
async def test_a_read_that_fails_is_done_anew(flaky, error):
    """Before the table is complete nobody gets it; what was deleted meanwhile without a trace is gone."""
    source, tables = flaky
    source.set(a=1, b=1)
    source.errors = [error]
    await tables.ready(["users"], MetricSet())
    assert rows(tables) == {"a": 1, "b": 1}
    source.held.clear()
    source.records.clear()
    source.set(b=2)
    source.errors, source.closed = [error], False
    source.held.set()
    await until(lambda: source.closed)
    await tables.ready(["users"], MetricSet())
    assert rows(tables) == {"b": 2}


async def test_while_it_is_read_anew_the_old_rows_stay_and_tasks_are_told(flaky):
    source, tables = flaky
    source.set(a=1)
    await tables.ready(["users"], MetricSet())
    tables.check(["users"])
    source.held.clear()
    source.errors, source.closed = [UnavailableError("no broker")], False
    source.set(a=None, b=2)
    source.held.set()
    await until(lambda: source.closed)
    with pytest.raises(UnavailableError, match="the table 'users' is not followed: no broker"):
        tables.check(["users"])
    assert rows(tables) == {"a": 1}
    await tables.ready(["users"], MetricSet())
    tables.check(["users"])
    assert rows(tables) == {"b": 2}


async def test_what_will_not_pass_is_told_to_each_task_and_tried_again_for_the_next(flaky):
    source, tables = flaky
    source.set(a=1)
    source.errors = [FatalError("no such topic")]
    with pytest.raises(FatalError, match="no such topic"):
        await tables.ready(["users"], MetricSet())
    with pytest.raises(FatalError, match="no such topic"):
        tables.check(["users"])
    await tables.ready(["users"], MetricSet())
    assert rows(tables) == {"a": 1}


async def test_an_error_that_nobody_thought_of_is_fatal_and_holds_no_contents(flaky):
    source, tables = flaky
    source.errors = [KeyError("secret")]
    with pytest.raises(FatalError) as caught:
        await tables.ready(["users"], MetricSet())
    assert "KeyError" in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_task_that_comes_later_sees_all_that_was_there_when_it_came(flaky):
    source, tables = flaky
    source.set(a=1)
    await tables.ready(["users"], MetricSet())
    source.held.clear()
    await asyncio.sleep(0.01)
    source.set(a=2)
    second = asyncio.ensure_future(tables.ready(["users"], MetricSet()))
    done, _ = await asyncio.wait((second,), timeout=0.05)
    assert not done
    source.held.set()
    await second
    assert rows(tables) == {"a": 2}
    assert source.opened == 1


async def test_closed_tables_are_empty_and_nothing_reads(flaky):
    source, tables = flaky
    source.set(a=1)
    await tables.ready(["users"], MetricSet())
    await tables.close()
    assert rows(tables) == {}
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "table users"]


def test_a_key_that_cannot_be_is_found_before_anything_runs(tmp_path):
    text = pipeline("- enrich: {table: users, key: user, as: u}", table="{key: nonsense(id)}")
    with pytest.raises(ConfigError) as caught:
        load_pipeline_text(text, tmp_path / "p.yaml", Registry.default(), {}, ServiceConfig.model_validate({}))
    assert "nonsense" in str(caught.value.diagnostics[0])

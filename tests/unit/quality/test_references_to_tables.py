"""`references: {table: ID}`: a value must be the key of a row of a source with `table:`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from demo.inline_app import InlineApp
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError

SOURCES = """name: p
sources:
  in: {log: {topic: in}}
  countries: {log: {topic: countries}, table: {key: code}}
"""
RULE = "{name: known, field: country, references: {table: countries}%s}"
COUNTRIES = [{"code": "DE", "name": "Germany"}, {"code": 7}, {"code": "FR"}]
KNOWN, UNKNOWN = ["DE", "7", 7, 7.0, None], ["US", 8, True, ["DE"], {"a": 1}]


@pytest.fixture
def app(tmp_path: Path) -> InlineApp:
    return InlineApp(tmp_path)


async def out_of(app: InlineApp, pipeline: str) -> list[Any]:
    await app.seed(COUNTRIES, "countries")
    await app.seed([{"country": value} for value in (*KNOWN, *UNKNOWN)])
    await app.run(SOURCES + pipeline)
    return [document["country"] for document in await app.values()]


@pytest.mark.parametrize("rule", [RULE % "", RULE % "}, {unique: n, within: 1ms"], ids=["fused", "keyed"])
async def test_a_value_must_be_the_key_of_a_row(app, rule):
    stages = f"stages: [{{set: {{n: _offset}}}}, {{validate: {{rules: [{rule}], action: drop}}}}]\n"
    assert await out_of(app, f"{stages}sink: {{log: {{topic: out}}}}\n") == KNOWN


async def test_before_a_sink(app):
    rules = f"{{rules: [{RULE % ', action: drop'}]}}"
    assert await out_of(app, f"sinks: [{{log: {{topic: out}}, validate: {rules}}}]\n") == KNOWN


async def test_rows_that_others_look_up_keep_what_they_take(app):
    """A table whose rows are only asked whether they are there has no fields; one that `enrich` reads has its own."""
    enrich = "{enrich: {table: countries, key: country, as: row, fields: [name], missing: null}}"
    stages = f"stages: [{{validate: {{rules: [{RULE % ''}], action: drop}}}}, {enrich}]\n"
    assert await out_of(app, f"{stages}sink: {{log: {{topic: out}}}}\n") == KNOWN
    assert [document["row"] for document in await app.values()][:2] == [{"name": "Germany"}, {"name": None}]


WRONG = [
    ("{table: contries}", "looks rows up in `contries`, and there is no source of that id with `table:`"),
    ("{table: in}", "looks rows up in `in`, and there is no source of that id with `table:`"),
    ("{table: countries, column: code}", "`column` is for files"),
    ("{table: countries, file: c.csv, column: code}", "names no table, or two"),
    ("{column: code}", "names no table, or two"),
    ("{file: c.csv}", "`column` is missing"),
]


@pytest.mark.parametrize(("references", "message"), WRONG)
@pytest.mark.parametrize("where", ["stages: [{validate: %s}]\nsink: {log: {topic: out}}\n",
                                   "sinks: [{log: {topic: out}, validate: %s}]\n"], ids=["stage", "sink"])  # fmt: skip
def test_a_mistake_is_told_with_its_place(tmp_path, references, message, where):
    yaml = SOURCES + where % f"{{rules: [{{field: country, references: {references}}}]}}"
    with pytest.raises(ConfigError) as caught:
        load_pipeline_text(yaml, tmp_path / "p.yaml", Registry.default(), {}, ServiceConfig())
    assert any(message in one.message and one.place.line == 5 for one in caught.value.diagnostics)

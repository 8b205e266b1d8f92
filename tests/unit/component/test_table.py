"""Sources with `table:` as a file has them, and the tables that they give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from streamd.component.registry import Registry
from streamd.component.table import LookupTable
from streamd.config.diagnostics import Diagnostic
from streamd.config.load import load_pipeline_text
from streamd.config.pipeline import PipelineConfig
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError, TransformError

Load = Callable[[str], PipelineConfig]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def loaded(text: str) -> PipelineConfig:
        return load_pipeline_text(text, tmp_path / "p.yaml", Registry.default(), {}, ServiceConfig())

    return loaded


def problems(load: Load, text: str) -> list[Diagnostic]:
    with pytest.raises(ConfigError) as caught:
        load(text)
    return [one for one in caught.value.diagnostics if isinstance(one, Diagnostic)]


def pipeline(stages: str, sources: str) -> str:
    return f"name: p\nsources: {sources}\nstages: {stages}\nsinks: [discard]\n"


def test_a_row_is_found_by_its_key_as_text() -> None:
    """A key that is null has none, and what is no key is an error."""
    table = LookupTable("users")
    table.rows = {"7": b'{"n": 1}', "true": b"{}", "7.5": b"{}"}
    assert [table.find(key) for key in (7, "7", 7.0, True, 7.5, None, 8)] == [{"n": 1}] * 3 + [{}, {}, None, None]
    assert 7 in table
    assert None not in table
    assert table.find(7) is not table.find(7)
    for key in ([], {}):
        with pytest.raises(TransformError, match="the key for the table users must be text or a number"):
            table.find(key)


TABLES = "{in: {log: {topic: x}}, users: {log: {topic: u}, table: {key: id}}}"
LOOKUP = "{enrich: {table: users, key: user, as: u}}"


def test_a_table_is_no_input(load: Load) -> None:
    """The first stage reads the other sources; the table is kept apart, with its key."""
    config = load(pipeline(f"[{LOOKUP}]", TABLES))
    assert [source.id for source in config.sources] == ["in"]
    assert config.stages[0].inputs == ("in",)
    [table] = config.tables
    assert (table.id, str(table.table.key)) == ("users", "id")


@pytest.mark.parametrize(
    ("written", "key"), [("{key: a.b}", "a.b"), ("id", "id"), ("", "None"), ("~", "None"), ("{}", "None")]
)
def test_a_tables_key_may_be_that_of_the_record(load: Load, written: str, key: str) -> None:
    """Or an expression, also alone."""
    [table] = load(pipeline(f"[{LOOKUP}]", TABLES.replace("{key: id}", written))).tables
    assert str(table.table.key) == key


@pytest.mark.parametrize(
    ("stages", "sources", "problem", "more"),
    [
        ("[{enrich: {table: user, key: k, as: u}}]", TABLES, "there is no source of that id with `table:`",
         "did you mean `users`?"),
        ("[{enrich: {table: in, key: k, as: u}}]", TABLES, "looks rows up in `in`", "add `table: {key: …}` beside it"),
        ("[{enrich: {table: users, key: k, as: u}}]", "{in: {log: {topic: x}}}", "looks rows up in `users`",
         "add a source `users`"),
        ("[{id: a, from: [in, users], filter: x}]", TABLES, "`from` names the table `users`", "it is only looked up"),
        ("[{join: {left: in, right: {table: users}, on: id, as: u}}]", TABLES, "names the table `users`",
         "as the table of a `join`, it is a source without `table:`"),
        ("[{filter: x}]", TABLES, "no stage looks rows up in the table `users`", "enrich: {table: users"),
        (f"[{LOOKUP}]", "{users: {log: {topic: u}, table: {key: id}}}", "every source of the pipeline has `table:`",
         "add a source without"),
        (f"[{LOOKUP}]", TABLES.replace("topic: u}", "topic: u, event_time: ts}"), "`event_time` has no meaning",
         "a table is read whole"),
        (f"[{LOOKUP}]", TABLES.replace("{key: id}", "{kye: id}"), "unknown key `kye` in the table of source", "key"),
        (f"[{LOOKUP}]", TABLES.replace("{key: id}", "{key: 'id +'}"), "the expression ends too early", ""),
        (f"[{LOOKUP}]", TABLES.replace("{key: id}}", "{key: id}, on_error: {dead_letter: {discard: }}}"),
         "`on_error` of the table `users` must be fail or skip, got dead_letter", "read anew at each start"),
        ("[{enrich: {table: users, key: k, as: u, as_of: event_time}}]", TABLES, "`as_of: event_time` is for", ""),
        ("[{enrich: {table: users, key: k}}]", TABLES, "expected `as`, or `fields`", ""),
        ("[{enrich: {table: users, key: k, as: u, match: id}}]", TABLES, "`match` is for files", ""),
        ("[{enrich: {table: users, file: a.csv, key: k, match: id}}]", TABLES, "`file` and `table` are both given", ""),
        ("[{enrich: {key: k, as: u}}]", TABLES, "expected `file`, or `table`", ""),
    ],
)  # fmt: skip
def test_mistakes(load: Load, stages: str, sources: str, problem: str, more: str) -> None:
    """Each is told once, with what would be right."""
    [found] = problems(load, pipeline(stages, sources))
    assert problem in str(found)
    assert more in f"{found} {found.help} {found.expected}"

"""Sources and sinks by URI: the same as written out, and every wrong one is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError

KAFKA = 'kafka: {bootstrap: "127.0.0.1:1"}\n'


def load(text: str, folder: Path = Path("/etc/p"), **variables: str) -> Any:
    return load_pipeline_text(
        f"name: p\n{KAFKA}{text}", folder / "p.yaml", Registry.default(), variables, ServiceConfig()
    )


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("{uri: events.ndjson}", "{file: {path: events.ndjson}}"),
        ("{uri: 'file:/data/e*.ndjson'}", "{file: {path: '/data/e*.ndjson'}}"),
        ("{uri: {at: data/?.csv, format: csv}}", "{file: {path: data/?.csv, format: csv}}"),
        ("{uri: 'kafka:orders'}", "{kafka: {topic: orders}}"),
        ("{uri: 'kafka://orders?end=latest&group=g'}", "{kafka: {topic: orders, end: latest, group: g}}"),
        ("{uri: {at: 'log:orders', event_time: ts}}", "{log: {topic: orders, event_time: ts}}"),
    ],
)
def test_a_uri_is_the_component_written_out(short: str, long: str) -> None:
    [one], [other] = (load(f"source: {source}\nsink: discard\n").sources for source in (short, long))
    assert (one.name, one.settings, one.id) == (other.name, other.settings, other.id)


def test_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path starts at the working directory then; a topic is a topic."""
    monkeypatch.chdir(tmp_path)
    text = 'source: {id: in, uri: {at: "${IN}", event_time: ts}}\nsink: {uri: "${OUT}"}\n'
    files = load(text, IN="a.ndjson", OUT="file:b.ndjson")
    assert files.sources[0].settings.path == (f"{tmp_path}/a.ndjson",)
    assert files.sinks[0].settings.path == f"{tmp_path}/b.ndjson"
    assert files.sources[0].id == "in"
    topics = load(text, IN="kafka:a?end=latest", OUT="kafka:b")
    assert (topics.sources[0].settings.topic, topics.sinks[0].settings.topic) == ("a", "b")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{uri: 'http://somewhere'}", "has a scheme that is none: `http:`"),
        ("{uri: }", "`uri` must be a text"),
        ("{uri: [a]}", "`uri` must be a text, got a list"),
        ("{uri: {format: csv}}", "`uri` must be a text"),
        ("{uri: 'kafka:orders?topik=1'}", "unknown key `topik`"),
        ("{uri: 'kafka:not a topic'}", "topic"),
        ("{uri: a.ndjson, file: {path: b}}", "2 sources in one mapping"),
    ],
)
def test_what_is_wrong_is_said(source: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(f"source: {source}\nsink: discard\n")
    assert message in " ".join(problem.message for problem in caught.value.diagnostics)  # type: ignore[attr-defined]


def test_what_came_from_the_environment_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        load('source: {uri: "${IN}"}\nsink: discard\n', IN="secretscheme:x")
    assert "secretscheme" not in " ".join(problem.message for problem in caught.value.diagnostics)  # type: ignore[attr-defined]

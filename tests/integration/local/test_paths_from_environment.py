"""Where relative paths start: at the pipeline's file, or where one is for what one says at a start."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.inline_app import InlineApp
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig

TEXT = """
name: p
source: {file: {path: "${IN:beside.ndjson}"}}
sink: {file: {path: "${OUT:out.ndjson}"}}
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("beside.ndjson", "out.ndjson")),
        ({"IN": "events.ndjson", "OUT": "a/out.ndjson"}, ("{here}/events.ndjson", "{here}/a/out.ndjson")),
        ({"IN": "/data/e.ndjson", "OUT": "~/out.ndjson"}, ("/data/e.ndjson", "~/out.ndjson")),
    ],
)
def test_a_path_from_the_environment_starts_at_the_working_directory(
    given: dict[str, str], expected: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_pipeline_text(TEXT, tmp_path / "conf" / "p.yaml", Registry.default(), given, ServiceConfig())
    source, sink = config.sources[0].settings, config.sinks[0].settings
    assert (source.path, sink.path) == (  # type: ignore[attr-defined]
        (expected[0].format(here=tmp_path),),
        expected[1].format(here=tmp_path),
    )


async def test_the_files_are_found_there(tmp_path: Path) -> None:
    (tmp_path / "beside.ndjson").write_text('{"n": 1}\n')
    app = InlineApp(tmp_path)
    await app.run(TEXT)
    assert (tmp_path / "out.ndjson").read_text() == '{"n": 1}\n'

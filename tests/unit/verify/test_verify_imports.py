"""What a pipeline imports is read once: its nodes get the texts, whatever becomes of the files."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text, load_pipelines
from streamd.config.service import ServiceConfig
from streamd.verify.scratch import imports_of

SHARED = "imports: [sub/filters.yaml]\nchains: {clean: {stages: [{filter: {name: big}}, {set: {seen: 'true'}}]}}\n"
FILTERS = "filters: {big: {where: amount > 400}}\n"
PIPELINE = """\
name: p
imports: [../shared/chains.yaml]
source: {log: {topic: in}}
stages: [{chain: clean}]
sink: {log: {topic: out}}
"""


def test_files_that_are_imported_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "shared"
    (shared / "sub").mkdir(parents=True)
    (tmp_path / "pipelines").mkdir()
    files = {shared / "chains.yaml": SHARED, shared / "sub" / "filters.yaml": FILTERS}
    for file, text in files.items():
        file.write_text(text)
    (tmp_path / "pipelines" / "p.yaml").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path / "pipelines")
    service = ServiceConfig.model_validate({})
    [config] = load_pipelines([Path("p.yaml")], Registry.default(), {}, service)
    for file in files:
        file.unlink()
    found = load_pipeline_text(
        config.text, Path("p.yaml").absolute(), Registry.default(), {}, service, imports_of(config)
    )
    assert [stage.id for stage in found.stages] == [stage.id for stage in config.stages]

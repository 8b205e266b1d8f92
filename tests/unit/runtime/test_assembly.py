"""What tasks share: here, whether what is committed fits the sources."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.component.transaction import Committed
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.errors import FatalError
from streamd.plan.graph import build_plan
from streamd.record import TaskId
from streamd.runtime.assembly import Assembly

TASK = TaskId("app", "p", 0, 0)


async def assembly(tmp_path: Path, source: str) -> Assembly:
    text = f"name: p\nsource: {{id: in, {source}}}\nsink: {{log: {{topic: out}}}}\n"
    config = load_pipeline_text(text, tmp_path / "p.yaml", Registry.default(), os.environ, ServiceConfig())
    made = Assembly(build_plan(config), PipelineContext("app", "p", tmp_path, tmp_path, None, True))
    await made.open()
    return made


@pytest.mark.parametrize(
    ("source", "position", "fits"),
    [
        ("generate: {fields: {n: _offset}}", {"path": "a", "offset": 3}, False),
        ("generate: {fields: {n: _offset}}", 3, True),
        ("log: {topic: t}", {"path": "a"}, False),
        ("log: {topic: t}", 3, True),
        ("file: {path: a.jsonl}", 3, False),
        ("file: {path: a.jsonl}", {"path": "a", "offset": 3}, True),
        ("stdin: {}", {"path": "a"}, False),
    ],
)
async def test_positions_of_another_kind_of_source_are_refused(
    tmp_path: Path, source: str, position: Any, fits: bool
) -> None:
    made, committed = await assembly(tmp_path, source), Committed({("in", 0): position})
    if fits:
        assert made.checked(TASK, committed) is committed
        return
    with pytest.raises(
        FatalError, match="another kind of source are stored for pipeline p, source in: give the source"
    ):
        made.checked(TASK, committed)


async def test_positions_of_a_source_that_is_not_there_any_more_are_warned_of(tmp_path: Path) -> None:
    made = await assembly(tmp_path, "log: {topic: t}")
    with capture_logs() as logs:
        made.checked(TASK, Committed({("in", 0): 3}))
        assert logs == []
        made.checked(TASK, Committed({("in", 0): 3, ("old", 0): 5}))
    assert [(entry["log_level"], entry["sources"]) for entry in logs] == [("warning", ["old"])]

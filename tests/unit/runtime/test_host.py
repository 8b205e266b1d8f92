"""The engine in a worker process: versions of a pipeline that follow each other, and what is closed when."""

from __future__ import annotations

import pickle
from pathlib import Path

import msgspec
import pytest

from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.errors import FatalError
from streamd.plan.graph import build_plan
from streamd.record import TaskId
from streamd.runtime.assembly import Assembly
from streamd.runtime.backoff import RestartPolicy
from streamd.runtime.control import Assign, Load, Start
from streamd.runtime.host import EngineHost
from streamd.supervisor.pipelines import ManagedPipeline

TASK = TaskId("streamd", "p", 0, 0)
TEXT = "name: p\nsource: {generate: {count: 3, fields: {n: _offset}}}\nsink: {log: {topic: out}}\n"


def load(version: int) -> Load:
    return Load("p", version, None, TEXT, {})


async def test_a_replaced_version_is_closed_after_its_last_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Assembly] = []

    async def close(assembly: Assembly) -> None:
        closed.append(assembly)

    monkeypatch.setattr(Assembly, "close", close)
    host = EngineHost(Start(pickle.dumps(ServiceConfig(state_dir=tmp_path)), {}))
    await host.load(load(1))
    host.make(Assign(TASK, 1, 1), None)
    await host.load(load(2))
    await host.retire({("p", 1)})
    assert closed == [], "a task still drains with it"
    host.make(Assign(TASK, 1, 1), None)
    await host.retire({("p", 2)})
    assert len(closed) == 1
    with pytest.raises(FatalError, match="Version 1 of pipeline p is not loaded here"):
        host.make(Assign(TASK, 1, 1), None)
    host.make(Assign(TASK, 2, 2), None)
    await host.close()
    assert len(closed) == 2


async def test_imported_files_come_with_the_pipeline(tmp_path: Path) -> None:
    """A worker runs what its supervisor has read, whatever the files say by now."""
    text = TEXT.replace("sink:", "imports: [c.yaml]\nstages: [{chain: c}]\nsink:")
    file = tmp_path / "p.yaml"
    (tmp_path / "c.yaml").write_text("chains: {c: [{filter: n > 1}]}")
    config = load_pipeline_text(text, file, Registry.default(), {}, ServiceConfig())
    (tmp_path / "c.yaml").write_text("chains: {}")
    context = PipelineContext("streamd", "p", tmp_path, tmp_path)
    order = ManagedPipeline(build_plan(config), 1, context, lambda: None, RestartPolicy()).load()
    received = msgspec.msgpack.decode(msgspec.msgpack.encode(order), type=Load)

    host = EngineHost(Start(pickle.dumps(ServiceConfig(state_dir=tmp_path)), {}))
    await host.load(received)
    host.make(Assign(TASK, 1, order.version), None)
    await host.close()

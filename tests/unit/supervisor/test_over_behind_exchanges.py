"""Tasks that read an exchange, and are done, look again when something before them changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.plan.graph import build_plan
from streamd.record import TaskId
from streamd.runtime.backoff import RestartPolicy
from streamd.runtime.control import Member
from streamd.supervisor.membership import Ownership
from streamd.supervisor.pipelines import ManagedPipeline

TEXT = """
name: p
source: {log: {topic: in, partitions: 2}}
stages:
- {id: a, key_by: user}
- {id: b, key_by: country}
sink: discard
"""


def task(part: int, partition: int) -> TaskId:
    return TaskId("app", "p", part, partition)


@pytest.fixture
def pipeline(tmp_path: Path) -> ManagedPipeline:
    service = ServiceConfig.model_validate({})
    plan = build_plan(load_pipeline_text(TEXT, Path("p.yaml"), Registry.default(), {}, service), "app")
    context = PipelineContext("app", "p", tmp_path, tmp_path)
    made = ManagedPipeline(plan, 1, context, lambda: None, RestartPolicy(), lambda plan, context: None)
    made.partitions = {"source": 2, "a.read": 2, "b.read": 2}
    made._own({task(part, partition) for part in range(3) for partition in range(2)})
    return made


def test_who_ends_wakes_those_right_behind_it(pipeline: ManagedPipeline) -> None:
    for part in (1, 2):
        pipeline.ended(task(part, 0))
        pipeline.ended(task(part, 1))
    assert pipeline.over == {task(1, 0), task(1, 1), task(2, 0), task(2, 1)}
    pipeline.ended(task(0, 1))
    assert pipeline.over == {task(0, 1), task(2, 0), task(2, 1)}
    pipeline.ended(task(1, 0))
    assert pipeline.over == {task(0, 1), task(1, 0)}
    assert not pipeline.drained
    for part, partition in ((0, 0), (1, 0), (1, 1), (2, 0), (2, 1)):
        pipeline.ended(task(part, partition))
    assert pipeline.drained


def test_after_a_rebalance_all_say_again_that_they_are_over(pipeline: ManagedPipeline) -> None:
    pipeline.ended(task(0, 0))
    pipeline._owned_now(Ownership(Member("g", "m", 2), frozenset(), {}))
    assert pipeline.over == set()
    assert pipeline.owned == {task(part, partition) for part in range(3) for partition in range(2)}


def test_topics_that_grow_apart_end_the_pipeline(pipeline: ManagedPipeline, tmp_path: Path) -> None:
    text = """
name: p
kafka: {bootstrap: "localhost:9092"}
sources:
  a: {kafka: {topic: a, partitioned_by: id}}
  b: {kafka: {topic: b, partitioned_by: id}}
stages: [{join: {left: a, right: b, on: id, within: 1s}}]
sink: discard
"""
    service = ServiceConfig.model_validate({})
    plan = build_plan(load_pipeline_text(text, Path("p.yaml"), Registry.default(), {}, service), "app")
    context = PipelineContext("app", "p", tmp_path, tmp_path)
    made = ManagedPipeline(plan, 1, context, lambda: None, RestartPolicy(), lambda plan, context: None)
    made.partitions = {"a": 2, "b": 2}
    made._owned_now(Ownership(Member("g", "m", 1), frozenset({("a", 0), ("b", 0)}), {"a": 2, "b": 2}))
    assert made.failure is None
    made._owned_now(Ownership(Member("g", "m", 2), frozenset({("a", 0), ("b", 0)}), {"a": 3, "b": 2}))
    assert made.failure is not None
    assert "a has 3, b has 2" in made.failure.message

"""How a pipeline's graph is cut into parts."""

from __future__ import annotations

from pathlib import Path

from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.plan.graph import PipelinePlan, build_plan

TWO = """
name: p
kafka: {{bootstrap: "localhost:9092"}}
sources:
- {{id: a, {first}}}
- {{id: b, {second}}}
sinks:
- {{id: x, from: a, discard: {{}}}}
- {{id: y, from: b, discard: {{}}}}
"""


def plan_of(first: str, second: str) -> PipelinePlan:
    text = TWO.format(first=first, second=second)
    service = ServiceConfig.model_validate({})
    return build_plan(load_pipeline_text(text, Path("p.yaml"), Registry.default(), {}, service))


def sources(plan: PipelinePlan) -> list[list[str]]:
    return [[source.id for source in part.sources] for part in plan.parts]


def test_pieces_that_share_no_record_are_parts_of_their_own() -> None:
    assert sources(plan_of("kafka: {topic: one}", "kafka: {topic: two}")) == [["a"], ["b"]]
    assert sources(plan_of("log: {topic: one}", "log: {topic: one}")) == [["a"], ["b"]]


def test_pieces_that_read_the_same_topic_of_kafka_share_its_offsets_and_so_a_part() -> None:
    plan = plan_of("kafka: {topic: one}", "kafka: {topic: one}")
    assert sources(plan) == [["a", "b"]]
    assert [sink.id for sink in plan.parts[0].sinks] == ["x", "y"]

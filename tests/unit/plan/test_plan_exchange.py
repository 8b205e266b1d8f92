"""Where the plan puts exchanges, where it needs none, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError
from streamd.plan.graph import PipelinePlan, build_plan

KAFKA = 'kafka: {bootstrap: "localhost:9092"}'


def plan_of(text: str) -> PipelinePlan:
    service = ServiceConfig.model_validate({})
    return build_plan(load_pipeline_text(text, Path("p.yaml"), Registry.default(), {}, service), "app")


def simple(source: str, *stages: str, head: str = "", sink: str = "discard: {}") -> PipelinePlan:
    listed = "".join(f"\n- {stage}" for stage in stages)
    return plan_of(f"name: p\n{head}\nsource: {{{source}}}\nstages:{listed}\nsink: {{{sink}}}\n")


def parts(plan: PipelinePlan) -> list[tuple[list[str], list[str], list[str]]]:
    return [([c.id for c in p.sources], [c.id for c in p.stages], [c.id for c in p.sinks]) for p in plan.parts]


WHOLE = [(["source"], ["key_by"], ["sink"])]
CUT = [(["source"], ["key_by"], ["key_by.write"]), (["key_by.read"], [], ["sink"])]


def test_the_graph_is_cut_behind_the_stage() -> None:
    plan = simple("log: {topic: in, partitions: 4}", "filter: n > 0", "key_by: user", "set: {m: n}")
    assert parts(plan) == [
        (["source"], ["filter", "key_by"], ["key_by.write"]),
        (["key_by.read"], ["set"], ["sink"]),
    ]
    [read] = plan.parts[1].sources
    settings = read.settings
    assert settings.topic == "streamd.app.p.key_by.exchange"
    assert (settings.transport, settings.partitions, settings.by) == ("embedded", None, "user")
    assert plan.writer_of(read) is plan.parts[0]
    assert plan.writer_of(plan.parts[0].sources[0]) is None
    assert plan.said == {
        "key_by": "nothing says that records are partitioned by user (`partitioned_by` of a source would)"
    }


def test_a_pipeline_with_anything_in_kafka_has_its_exchange_there() -> None:
    plan = simple("log: {topic: in, partitions: 4}", "key_by: user", head=KAFKA, sink="kafka: {topic: out}")
    assert [part.transport for part in plan.parts] == ["kafka", "kafka"]
    assert plan.parts[1].sources[0].spec.transport == "kafka"


def test_both_sides_have_the_group_that_the_source_names() -> None:
    plan = simple("kafka: {topic: in, group: mine}", "key_by: user", head=KAFKA)
    assert plan.parts[1].sources[0].settings.group == "mine"


@pytest.mark.parametrize(
    "source",
    [
        "file: {path: a.ndjson}",
        "stdin: {}",
        "generate: {count: 3, fields: {user: _offset}}",
        "log: {topic: in, partitions: 1}",
        "log: {topic: in}",
    ],
)
def test_one_partition_needs_no_exchange(source: str) -> None:
    plan = simple(source, "key_by: user")
    assert parts(plan) == WHOLE
    assert plan.said == {"key_by": "no exchange: there is just one partition"}


@pytest.mark.parametrize(
    "source",
    ["file: {path: [a.ndjson, b.ndjson]}", "file: {path: 'a-*.ndjson'}", "log: {topic: in, partitions: 2}"],
)
def test_what_may_have_several_partitions_needs_one(source: str) -> None:
    assert parts(simple(source, "key_by: user")) == CUT


def test_one_partition_is_spread_where_more_are_wanted() -> None:
    plan = simple("file: {path: a.ndjson}", "key_by: {by: user, partitions: 4}")
    assert parts(plan) == CUT
    assert plan.parts[1].sources[0].settings.partitions == 4
    assert plan.said == {"key_by": "one partition becomes 4"}


@pytest.mark.parametrize(
    ("said", "stages", "by"),
    [
        ("user", [], "user"),
        ("user", ["filter: n > 0", "set: {m: n}", "drop: [a]", "rate_limit: 10/s", "stamp: meta"], "user"),
        ("user", ["map: {user: user, m: n}"], "user"),
        ("user.id", ["set: {m: n}"], "user.id"),
        ("[region, product]", ["set: {m: n}"], "[region, product]"),
    ],
)
def test_a_source_that_is_partitioned_by_the_key_needs_none(said: str, stages: list[str], by: str) -> None:
    plan = simple(f"log: {{topic: in, partitions: 4, partitioned_by: {said}}}", *stages, f"key_by: {by}")
    assert len(plan.parts) == 1
    assert plan.said["key_by"].startswith("no exchange: records are partitioned by")


@pytest.mark.parametrize(
    ("said", "stages", "by"),
    [
        ("user", [], "country"),
        ("user", ["set: {user: upper(user)}"], "user"),
        ("user", ["set: {user.id: 3}"], "user"),
        ("user", ["map: {user: upper(user)}"], "user"),
        ("user", ["flatten: items"], "user"),
        ("user.id", ["drop: [user.id]", "set: {user: user}"], "user.id"),
        ("[region, product]", [], "[product, region]"),
        ("lower(user)", [], "lower(user)"),
    ],
)
def test_a_key_that_is_another_or_may_have_changed_needs_one(said: str, stages: list[str], by: str) -> None:
    plan = simple(f"log: {{topic: in, partitions: 4, partitioned_by: {said}}}", *stages, f"key_by: {by}")
    assert len(plan.parts) == (1 if said == by and not stages else 2)


def test_a_second_exchange_by_the_same_key_is_none() -> None:
    plan = simple("log: {topic: in, partitions: 4}", "{id: a, key_by: user}", "filter: n > 0", "{id: b, key_by: user}")
    assert parts(plan) == [(["source"], ["a"], ["a.write"]), (["a.read"], ["filter", "b"], ["sink"])]


def test_exchanges_follow_each_other() -> None:
    plan = simple("log: {topic: in, partitions: 4}", "{id: a, key_by: user}", "{id: b, key_by: country}")
    assert parts(plan) == [
        (["source"], ["a"], ["a.write"]),
        (["a.read"], ["b"], ["b.write"]),
        (["b.read"], [], ["sink"]),
    ]
    assert plan.said["b"] == "records are partitioned by user"


def test_parts_of_users_keep_their_numbers() -> None:
    plan = plan_of(
        """
name: p
sources: {a: {log: {topic: a, partitions: 2}}, b: {log: {topic: b, partitions: 2}}}
stages:
- {id: k, from: a, key_by: user}
sinks:
- {id: x, from: k, discard: {}}
- {id: y, from: b, discard: {}}
"""
    )
    assert parts(plan) == [(["a"], ["k"], ["k.write"]), (["b"], [], ["y"]), (["k.read"], [], ["x"])]


def test_what_would_wait_for_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"`k`: what it gives meets records again .* put a key_by into the other way"):
        plan_of(
            """
name: p
source: {log: {topic: a, partitions: 2}}
stages:
- {id: k, from: source, key_by: user}
sinks:
- {id: x, from: [k, source], discard: {}}
"""
        )

"""Stages that work by a key get an exchange where records are not together by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.errors import FatalError
from streamd.plan.graph import PipelinePlan, build_plan
from streamd.supervisor.sizes import refuse_sizes, size_of

WINDOW = "window: {by: user, tumbling: 10s, aggregate: {n: count()}}"
JOIN = "join: {left: a, right: b, on: id, within: 10s}"


def plan_of(text: str) -> PipelinePlan:
    service = ServiceConfig.model_validate({})
    return build_plan(load_pipeline_text(text, Path("p.yaml"), Registry.default(), {}, service), "app")


def simple(said: str, *stages: str) -> PipelinePlan:
    listed = "".join(f"\n- {stage}" for stage in stages)
    return plan_of(f"name: p\nsource: {{log: {{topic: in{said}}}}}\nstages:{listed}\nsink: discard\n")


def joined(a: str, b: str, join: str = JOIN, *stages: str) -> PipelinePlan:
    listed = "".join(f"\n- {stage}" for stage in (*stages, f"{{id: j, {join}}}"))
    return plan_of(
        f"name: p\nsources:\n  a: {{{a}}}\n  b: {{{b}}}\nstages:{listed}\nsink: {{from: j, discard: {{}}}}\n"
    )


def parts(plan: PipelinePlan) -> list[tuple[list[str], list[str], list[str]]]:
    return [([c.id for c in p.sources], [c.id for c in p.stages], [c.id for c in p.sinks]) for p in plan.parts]


def exchanges(plan: PipelinePlan) -> dict[str, tuple[str, int | None]]:
    found = [source.settings for source in plan.config.sources if source.name == "exchange"]
    return {settings.stage: (settings.by, settings.partitions) for settings in found}


def test_a_window_gets_one() -> None:
    plan = simple(", partitions: 2", "filter: n > 0", WINDOW)
    assert parts(plan) == [
        (["source"], ["filter", "window.key_by"], ["window.key_by.write"]),
        (["window.key_by.read"], ["window"], ["sink"]),
    ]
    assert plan.parts[1].sources[0].settings.topic == "streamd.app.p.window.exchange"
    assert [part.timed for part in plan.parts] == [True, True]


@pytest.mark.parametrize(
    ("said", "stages"),
    [
        ("", [WINDOW]),
        (", partitions: 2, partitioned_by: user", [WINDOW]),
        (", partitions: 2, partitioned_by: user", ["aggregate: {by: [product, user], values: {n: count()}}"]),
        (", partitions: 2, partitioned_by: user", [WINDOW, "filter: n > 2", WINDOW]),
        (", partitions: 2, partitioned_by: user", ["aggregate: {by: {who: user}, values: {n: count()}}",
                                                   "aggregate: {by: who, values: {m: sum(n)}}"]),
        (", partitions: 2, partitioned_by: user",
         ["aggregate: {by: {sets: [[user], [user, product]]}, values: {n: count()}}"]),
    ],
)  # fmt: skip
def test_what_is_together_already_needs_none(said: str, stages: list[str]) -> None:
    assert len(simple(said, *stages).parts) == 1


@pytest.mark.parametrize(
    ("said", "stages", "found"),
    [
        (", partitioned_by: product", [WINDOW], {"window.key_by": ("user", None)}),
        ("", ["key_by: user", WINDOW], {"key_by": ("user", None)}),
        ("", ["window: {tumbling: 1s, aggregate: {n: count()}}"], {"window.key_by": ("nothing", 1)}),
        (", partitioned_by: user", ["aggregate: {by: {sets: [[user], []]}, values: {n: count()}}"],
         {"aggregate.key_by": ("nothing", 1)}),
        ("", [WINDOW, "window: {tumbling: 10s, aggregate: {top: max(n)}}", "key_by: top"],
         {"window.key_by": ("user", None), "window_2.key_by": ("nothing", 1)}),
        ("", [WINDOW, "aggregate: {by: n, values: {users: count()}}"],
         {"window.key_by": ("user", None), "aggregate.key_by": ("n", None)}),
    ],
)  # fmt: skip
def test_what_is_not_moves(said: str, stages: list[str], found: dict[str, tuple[str, int | None]]) -> None:
    assert exchanges(simple(f", partitions: 2{said}", *stages)) == found


def test_a_join_moves_the_side_that_is_not_where_it_belongs() -> None:
    by_id, wide = "log: {topic: %s, partitions: 3, partitioned_by: id}", "log: {topic: %s, partitions: 2}"
    assert exchanges(joined("file: {path: a.ndjson}", "file: {path: b.ndjson}")) == {}
    assert exchanges(joined(by_id % "a", by_id % "b")) == {}
    both = joined(wide % "a", wide % "b")
    assert exchanges(both) == {"j.left.key_by": ("id", None), "j.right.key_by": ("id", None)}
    assert parts(both)[2] == (["j.left.key_by.read", "j.right.key_by.read"], ["j"], ["sink"])
    one = joined(by_id % "a", wide % "b")
    assert exchanges(one) == {"j.right.key_by": ("id", None)}
    assert parts(one)[0] == (["a", "j.right.key_by.read"], ["j"], ["sink"])
    assert len(joined(by_id % "a", "log: {topic: b, partitions: 3, partitioned_by: other}").parts) == 2


def test_a_join_with_what_comes_from_the_other_side_moves_both() -> None:
    plan = plan_of(
        f"""
name: p
source: {{id: a, log: {{topic: a, partitions: 2, partitioned_by: id}}}}
stages:
- {{id: b, from: a, map: {{id: parent, name: name}}}}
- {{id: j, {JOIN}}}
sink: discard
"""
    )
    assert exchanges(plan) == {"j.left.key_by": ("id", None), "j.right.key_by": ("id", None)}


def test_a_join_of_something_with_itself_moves_it_once() -> None:
    join = "join: {left: a, right: a, on: id, within: 10s}"
    plan = plan_of(
        f"name: p\nsource: {{id: a, log: {{topic: a, partitions: 2}}}}\nstages: [{{id: j, {join}}}]\nsink: discard\n"
    )
    assert exchanges(plan) == {"j.left.key_by": ("id", None)}
    [stage] = plan.parts[1].stages
    assert stage.inputs == ("j.left.key_by.read", "j.left.key_by.read")


def test_both_sides_of_a_join_are_made_equally_large() -> None:
    wide = joined("log: {topic: a, partitions: 2}", "log: {topic: b, partitions: 5}")
    left, right = (source for source in wide.config.sources if source.name == "exchange")
    assert size_of(wide, left, {"a": 2}) is None
    assert [size_of(wide, one, {"a": 2, "b": 5}) for one in (left, right)] == [5, 5]
    mixed = joined("log: {topic: a, partitions: 3, partitioned_by: id}", "log: {topic: b, partitions: 5}")
    [right] = (source for source in mixed.config.sources if source.name == "exchange")
    assert size_of(mixed, right, {"b": 5}) is None
    assert size_of(mixed, right, {"a": 3, "b": 5}) == 3
    said = joined("log: {topic: a, partitions: 2}", "log: {topic: b, partitions: 5}",
                  "join: {left: k, right: b, on: id, within: 10s}",
                  "{id: k, from: a, key_by: {by: id, partitions: 7}}")  # fmt: skip
    assert exchanges(said) == {"k": ("id", 7), "j.right.key_by": ("id", None)}
    assert [size_of(said, s, {}) for s in said.config.sources if s.name == "exchange"] == [7, 7]


def test_sides_that_are_not_equally_large_are_refused() -> None:
    plan = joined(*(f"log: {{topic: {name}, partitions: 3, partitioned_by: id}}" for name in "ab"))
    refuse_sizes(plan, {"a": 3, "b": 3})
    with pytest.raises(FatalError, match=r"'j' joins .* a has 3, b has 4.*take `partitioned_by` from a source"):
        refuse_sizes(plan, {"a": 3, "b": 4})


def test_a_topic_with_more_partitions_than_was_said_is_refused() -> None:
    plan = simple("", WINDOW)
    refuse_sizes(plan, {"source": 1})
    with pytest.raises(FatalError, match=r"p.yaml:2:\d+: source 'source' has 2 partitions.*say `partitions: 2`"):
        refuse_sizes(plan, {"source": 2})

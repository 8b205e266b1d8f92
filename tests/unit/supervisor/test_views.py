"""What tasks say of a view, put together."""

from __future__ import annotations

from pathlib import Path

from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.plan.graph import build_plan
from streamd.runtime.backoff import RestartPolicy
from streamd.runtime.control import Member
from streamd.supervisor.membership import Ownership
from streamd.supervisor.pipelines import ManagedPipeline
from streamd.supervisor.views import Asked, Looked, Views

TEXT = """
name: spend
kafka: {bootstrap: "kafka:9092"}
source: {kafka: {topic: orders, partitioned_by: user}}
stages:
- {id: totals, aggregate: {by: user, values: {orders: count()}}}
sink: {discard: {}}
"""


def test_pages_end_where_something_may_be_missing() -> None:
    found = Looked([(0, b'"b"', b"1"), (1, b'"a"', b"1"), (0, b'"c"', b"1")])
    assert [entry[0] for entry in found.first(2)[0]] == ["a", "b"]
    assert found.first(2)[1] == "b"
    assert found.first(3)[1] is None
    found.upto = "b"
    assert [entry[0] for entry in found.first(9)[0]] == ["a", "b"]
    assert found.first(9)[1] == "b"
    assert found.first(1)[1] == "a"


def test_a_page_holds_no_more_than_so_many_bytes_and_one_entry() -> None:
    found = Looked([(0, b'"a"', b"1" * 50), (0, b'"b"', b"1" * 50), (0, b'"c"', b"1" * 50)])
    shown, following = found.first(9, 10)
    assert ([entry[0] for entry in shown], following) == (["a"], "a")
    shown, following = found.first(9, 60)
    assert ([entry[0] for entry in shown], following) == (["a", "b"], "b")
    assert found.first(9, 1000)[1] is None


def test_the_later_checkpoint_of_two_is_right() -> None:
    old = Looked([(1, b'"a"', b"1"), (1, b'"gone"', b"1")], checkpoints={1: 4})
    new = Looked([(1, b'"a"', b"2")], checkpoints={1: 5})
    for order in ((old, new), (new, old)):
        found = Looked(elsewhere=[1])
        for one in order:
            found.add(one)
        assert (found.entries, found.checkpoints) == ([(1, b'"a"', b"2")], {1: 5})


def test_others_do_not_speak_of_what_this_node_runs() -> None:
    found = Looked(checkpoints={0: 1}, waiting=[1], elsewhere=[2])
    found.add(Looked([(0, b'"x"', b"1"), (1, b'"y"', b"1"), (2, b'"z"', b"1")], None, {0: 9, 1: 9, 2: 9}))
    found.settle(everybody=True)
    assert found.entries == [(2, b'"z"', b"1")]
    assert (found.peers, found.waiting, found.elsewhere) == ([2], [1], [])


def test_what_nobody_answers_for() -> None:
    for everybody, reasons, waiting in ((True, [], True), (False, [], False), (False, ["no answer"], True)):
        found = Looked(elsewhere=[0, 1], reasons=list(reasons))
        found.add(Looked(checkpoints={0: 1}))
        found.settle(everybody)
        assert (found.waiting, found.elsewhere) == (([1], []) if waiting else ([], [1]))


def test_a_partition_that_is_about_to_start_on_a_node_does_not_answer() -> None:
    found = Looked(elsewhere=[1])
    found.add(Looked(checkpoints={1: 3}))
    found.add(Looked(waiting=[1]))
    found.settle(everybody=True)
    assert found.waiting == [1]
    assert found.incomplete


async def test_a_node_that_has_not_joined_knows_nothing(tmp_path: Path) -> None:
    config = load_pipeline_text(TEXT, Path("spend.yaml"), Registry.default(), {}, ServiceConfig.model_validate({}))
    plan, context = build_plan(config, "app"), PipelineContext("app", "spend", tmp_path, tmp_path)
    pipeline = ManagedPipeline(plan, 1, context, lambda: None, RestartPolicy(), lambda plan, context: None)
    views = Views({"spend": pipeline}, {}, lambda worker, order: False)
    assert (await views.look("spend", "totals", Asked("ann"))).incomplete, "else it would be a key that is not there"
    pipeline.partitions = {"source": 2}
    nodes = {"/http://a:1": 1, "/http://b:1": 1}
    pipeline._owned_now(Ownership(Member("g", "m", 1), frozenset({("orders", 0)}), {"orders": 2}, nodes=nodes))
    found = await views.look("spend", "totals", Asked("ann"))
    assert (found.waiting, found.elsewhere) == ([0], [1])
    assert views.nodes("spend") == nodes
    pipeline._lost()
    assert (await views.look("spend", "totals", Asked("ann"))).incomplete

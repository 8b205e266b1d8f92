"""What a pipeline remembers of its rebalances: which tasks stayed, came and went, and since when each is here."""

from __future__ import annotations

import pytest

from streamd.record import TaskId
from streamd.runtime.control import Member
from streamd.supervisor.reconcile import Placement


def task(number):
    return TaskId("test", "numbers", 0, number)


@pytest.fixture
def pipeline(node):
    return node.pipeline(partitions=4)


def test_tasks_that_stay_are_here_since_they_came(pipeline):
    for rebalance, owned in enumerate(({0, 1, 2}, {0, 1}, {0, 1, 3}, {1, 2}), 1):
        pipeline.rebalances = rebalance
        pipeline._own({task(number) for number in owned})
    assert pipeline.since == {task(1): 1, task(2): 4}
    assert (pipeline.kept, pipeline.came, pipeline.went) == (2 + 2 + 1, 3 + 0 + 1 + 1, 0 + 1 + 0 + 2)


def test_after_an_eviction_everything_is_new(pipeline):
    pipeline._own({task(0), task(1)})
    pipeline._lost()
    assert (pipeline.owned, pipeline.since, pipeline.joined) == (frozenset(), {}, False)
    pipeline.rebalances = 2
    pipeline._own({task(0)})
    assert pipeline.since == {task(0): 2}
    assert (pipeline.kept, pipeline.came, pipeline.went) == (0, 3, 2)


def test_a_task_that_came_back_is_interrupted(node, pipeline):
    async def nothing():
        pass

    pipeline.run = nothing
    supervisor = node.make()
    pipeline._own({task(0), task(1)})
    supervisor.placed = {task(number): Placement(0, number, 1) for number in (0, 1)}
    assert supervisor._interrupted() == frozenset()
    pipeline.rebalances = 1
    pipeline._own({task(0)})
    pipeline.rebalances = 2
    pipeline._own({task(0), task(1)})
    assert supervisor._interrupted() == {task(1)}


@pytest.mark.parametrize(("delivery", "dropped"), [("at_least_once", {1: 0.0}), ("exactly_once", {})])
def test_without_transactions_who_leaves_hears_nothing_of_the_new_generation(node, pipeline, delivery, dropped):
    """Under it, it could set the positions of its new owner back; a transaction is fenced by its epoch."""
    object.__setattr__(pipeline.plan.config, "delivery", delivery)
    supervisor = node.make()
    sent = []
    supervisor.pool.send = lambda worker, order: sent.append(order) or True
    pipeline._own({task(0), task(1)})
    supervisor.placed = {task(number): Placement(0, number, 1) for number in (0, 1)}
    pipeline.rebalances = 1
    pipeline.member = Member("g", "m", 2)
    pipeline._own({task(0)})
    supervisor._drop_strays(pipeline, 0.0)
    assert {order.task.partition: order.deadline for order in sent} == dropped

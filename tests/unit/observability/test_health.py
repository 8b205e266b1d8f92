"""Live and ready, decided from status values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from streamd.observability.health import MAX_REASONS, Health, live, ready
from streamd.observability.status import (
    ErrorStatus,
    NodeStatus,
    PipelineState,
    PipelineStatus,
    TaskState,
    TaskStatus,
)

NOW = 1000.0
ERROR = ErrorStatus("UnavailableError", "Kafka at kafka:9092 cannot be reached", 0)


def task(**fields: Any) -> TaskStatus:
    return TaskStatus(
        **{"pipeline": "p", "part": 0, "partition": 1, "state": "running", "last_progress": NOW, **fields}
    )


def node(*tasks: TaskStatus, **fields: Any) -> NodeStatus:
    pipeline = PipelineStatus(**{"name": "p", "state": "running", "tasks": tasks, **fields})
    return NodeStatus("app", NOW, stall_timeout=30.0, pipelines=(pipeline,), last_reconcile=NOW)


def codes(health: Health) -> list[str]:
    assert health.ok == (not health.reasons)
    return [reason.code for reason in health.reasons]


def test_a_node_that_does_its_work_is_live_and_ready():
    status = node(task(lag=100), task(lag=0, idle=True), task(lag=None))
    assert live(status).ok
    assert ready(status).ok


def test_a_node_without_pipelines_is_live_and_ready():
    status = replace(node(), pipelines=())
    assert live(status).ok
    assert ready(status).ok


def test_progress_counts_against_lag():
    long_ago = NOW - 91
    assert codes(live(node(task(lag=5, last_progress=long_ago)))) == ["task_stalled"]
    assert live(node(task(lag=0, last_progress=long_ago))).ok
    assert live(node(task(lag=None, last_progress=long_ago))).ok
    assert live(node(task(lag=5, last_progress=NOW - 89))).ok


def test_the_reason_names_task_lag_and_time():
    (reason,) = live(node(task(lag=5, last_progress=NOW - 100))).reasons
    assert reason.pipeline == "p"
    assert reason.message == "task p.0.1 has a lag of 5 and made no progress for 100 s"


@pytest.mark.parametrize("state", get_args(TaskState))
def test_only_tasks_that_should_work_can_stall(state: TaskState):
    stalled = not live(node(task(state=state, lag=5, last_progress=0.0))).ok
    assert stalled == (state in {"starting", "running", "draining"})


def test_a_control_loop_that_stands_still_is_not_live():
    assert codes(live(replace(node(), last_reconcile=NOW - 91))) == ["supervisor_stalled"]


def test_an_unreachable_broker_is_no_reason_to_kill_the_process():
    away = node(
        task(state="backing_off", lag=5, last_progress=0.0, error=ERROR),
        state="backing_off",
        unreachable=("source orders: Kafka at kafka:9092 cannot be reached",),
    )
    assert live(away).ok
    assert codes(ready(away)) == ["unreachable", "task_backing_off"]
    assert "Kafka at kafka:9092" in ready(away).reasons[1].message


@pytest.mark.parametrize("state", get_args(TaskState))
def test_ready_wants_every_task_to_run(state: TaskState):
    assert ready(node(task(), task(state=state))).ok == (state in {"running", "drained", "stopped"})


@pytest.mark.parametrize("state", get_args(PipelineState))
def test_ready_wants_every_pipeline_to_run(state: PipelineState):
    assert ready(node(state=state)).ok == (state in {"running", "drained", "stopped"})


def test_a_failed_pipeline_says_why():
    health = ready(node(state="failed", error=ERROR))
    assert codes(health) == ["pipeline_failed"]
    assert health.reasons[0].message.endswith("UnavailableError: Kafka at kafka:9092 cannot be reached")


def test_a_pipeline_without_a_place_in_its_group_is_not_ready():
    assert codes(ready(node(joined=False))) == ["not_joined"]


def test_a_stand_by_node_is_ready():
    assert ready(node(joined=True)).ok


def test_a_node_that_stops_is_live_and_not_ready():
    status = replace(node(task()), stopping=True)
    assert live(status).ok
    assert codes(ready(status)) == ["stopping"]


def test_reasons_are_bounded():
    health = ready(node(*[task(state="starting", partition=partition) for partition in range(200)]))
    assert len(health.reasons) == MAX_REASONS
    assert health.more == 200 - MAX_REASONS


def test_a_table_that_is_still_read_is_why_a_node_is_not_ready():
    [reason] = ready(node(task(state="loading"), state="starting")).reasons
    assert (reason.code, reason.message.partition(" is ")[2]) == (
        "task_loading", "loading the tables that it looks rows up in",
    )  # fmt: skip

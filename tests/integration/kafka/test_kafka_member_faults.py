"""A member of a group whose coordinator does not answer, or answers with errors that pass: it stays a member."""

from __future__ import annotations

import uuid

import pytest

from faults.proxy import DEAFEN, LOSE_ANSWER, LOSE_REQUEST
from integration.kafka.workbench import until
from streamd.transport.kafka.membership import Assignment, GroupMember
from streamd.transport.kafka.settings import KafkaSettings

pytestmark = pytest.mark.kafka

FAST = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 100, "request.timeout.ms": 600}
TIMED_OUT, LOADING, UNKNOWN, REBALANCE = 7, 14, -1, 27


@pytest.fixture
async def member(proxied, make_topic):
    _, proxy = proxied
    settings = KafkaSettings.model_validate({"bootstrap": f"127.0.0.1:{proxy.port}", "options": FAST})
    assignments: list[Assignment] = []

    async def drained() -> None: ...

    topic = await make_topic(partitions=2)
    made = GroupMember(settings, f"group-{uuid.uuid4().hex[:12]}", [topic], assignments.append, drained)
    await made.start()
    yield made, assignments
    await made.stop()


@pytest.mark.parametrize("rule", [DEAFEN, LOSE_ANSWER, LOSE_REQUEST, TIMED_OUT, LOADING, UNKNOWN], ids=str)
async def test_heartbeats_go_on_after_one_that_failed(proxied, member, rule):
    _, proxy = proxied
    made, assignments = member
    before = made.membership
    proxy.spoil("heartbeat", rule)
    await until(lambda: proxy.done)
    last = made.last_heartbeat
    await until(lambda: made.last_heartbeat > last, 10)
    assert made.membership == before
    assert len(assignments) == 1


@pytest.mark.parametrize("request_name", ["join_group", "sync_group"])
@pytest.mark.parametrize("rule", [LOSE_ANSWER, LOSE_REQUEST, TIMED_OUT, LOADING, UNKNOWN], ids=str)
async def test_a_rebalance_whose_requests_fail_ends_with_an_assignment(proxied, member, request_name, rule):
    _, proxy = proxied
    made, assignments = member
    proxy.spoil(request_name, rule)
    proxy.spoil("heartbeat", REBALANCE)
    await until(lambda: proxy.done)
    await until(lambda: len(assignments) > 1 and made.assignment is not None, 20)
    assert assignments[-1].numbers == {0, 1}
    last = made.last_heartbeat
    await until(lambda: made.last_heartbeat > last, 10)

"""The owner of a process's tasks."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from streamd.errors import FatalError, FencedError, NotMemberError, TransientError
from streamd.observability.identity import Identity, Rival, identity
from streamd.record import TaskId
from streamd.runtime import tasks
from streamd.runtime.backoff import RestartPolicy
from streamd.runtime.control import Assign, Member
from streamd.runtime.tasks import TaskOwner

TASK = TaskId("app", "p", 0, 0)
POLICY = RestartPolicy(initial=0.001, maximum=0.01, unexpected_limit=3)


class Scripted:
    """A task whose attempts do what a list says: an error to raise, "end", or "wait" for stop."""

    def __init__(self, script, stops):
        self._what = script.pop(0)
        self._stop = asyncio.Event()
        self._stops = stops
        self.status = self
        self.state, self.idle, self.lag, self.positions = "running", False, None, {}
        self.records_in, self.last_progress = 1, 0.0
        self.membership = None

    def stop(self):
        self._stops.append("stop")
        self._stop.set()

    def update_membership(self, membership):
        self.membership = membership

    async def run(self):
        if isinstance(self._what, BaseException):
            raise self._what
        if self._what == "wait":
            await self._stop.wait()
        if self._what == "deaf":
            await asyncio.Event().wait()


class Swallows(Scripted):
    """One in which an error takes the place of a cancel."""

    async def run(self):
        try:
            await asyncio.Event().wait()
        finally:
            raise TransientError("away")


class Owned:
    def __init__(self, *script):
        self.script, self.ended, self.made, self.stops = list(script), asyncio.Queue(), [], []
        self.owner = TaskOwner(self._make, self.ended.put_nowait, policy=POLICY)

    def _make(self, assign, member):
        self.made.append(Scripted(self.script, self.stops))
        return self.made[-1]

    async def end(self):
        async with asyncio.timeout(10):
            return await self.ended.get()


async def test_a_task_that_ends_by_itself_is_drained():
    owned = Owned("end")
    async with owned.owner as owner:
        owner.assign(Assign(TASK, 4, 1))
        ended = await owned.end()
    assert (ended.outcome, ended.incarnation, ended.fault) == ("drained", 4, None)
    assert owner.tasks == ()


async def test_errors_that_may_pass_are_tried_again():
    owned = Owned(TransientError("away"), FencedError("newer"), ConnectionResetError(), "end")
    async with owned.owner as owner:
        owner.assign(Assign(TASK, 1, 1))
        ended = await owned.end()
    assert ended.outcome == "drained"
    assert ended.report.restarts == 3
    assert ended.report.records_in == 4


async def test_a_fatal_error_is_the_end_of_it():
    owned = Owned(FatalError("no"))
    async with owned.owner as owner:
        owner.assign(Assign(TASK, 1, 1))
        ended = await owned.end()
    assert (ended.outcome, ended.fault.error, ended.fault.message) == ("failed", "FatalError", "no")


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(0)])
async def test_unexpected_errors_do_not_reach_the_other_tasks(error):
    owned = Owned("wait", error, error, error)
    other = TaskId("app", "q", 0, 0)
    async with owned.owner as owner:
        owner.assign(Assign(other, 1, 1))
        await asyncio.sleep(0)
        owner.assign(Assign(TASK, 2, 1))
        ended = await owned.end()
        assert (ended.task, ended.outcome) == (TASK, "failed")
        assert owner.tasks == (other,)
        owner.stop(10.0)
        assert (await owned.end()).outcome == "stopped"


async def test_revoke_drains():
    owned = Owned("wait")
    async with owned.owner as owner:
        owner.assign(Assign(TASK, 1, 1))
        await asyncio.sleep(0)
        owner.revoke(TASK, 10.0, incarnation=99)
        assert owned.stops == []
        owner.revoke(TASK, 10.0, incarnation=1)
        assert (await owned.end()).outcome == "stopped"


@pytest.mark.parametrize(("deadline", "outcome"), [(60.0, "stopped"), (0.0, "killed")])
async def test_a_task_that_is_revoked_before_it_has_begun_does_not_begin(deadline, outcome):
    owned = Owned("wait")
    async with owned.owner as owner:
        owner.assign(Assign(TASK, 1, 1))
        owner.revoke(TASK, deadline)
        ended = await owned.end()
        assert (ended.outcome, ended.fault, owned.made, owner.tasks) == (outcome, None, [], ())
    assert owned.ended.empty()


async def test_revoke_ends_a_back_off_at_once():
    owned = Owned(TransientError("away", retry_after=3600.0))
    async with owned.owner as owner:
        owner.assign(Assign(TASK, 1, 1))
        while owner.reports()[0].state != "backing_off":  # noqa: ASYNC110 — its state has no event
            await asyncio.sleep(0)
        owner.revoke(TASK, 10.0)
        assert (await owned.end()).outcome == "stopped"


async def test_a_task_that_does_not_listen_is_killed_at_the_deadline():
    owned = Owned("deaf")
    async with owned.owner as owner:
        owner.assign(Assign(TASK, 1, 1))
        await asyncio.sleep(0)
        owner.revoke(TASK, 0.01)
        assert (await owned.end()).outcome == "killed"


async def test_a_new_generation_reaches_the_running_task_and_the_next_attempt():
    owned = Owned("wait")
    async with owned.owner as owner:
        owner.assign(Assign(TASK, 1, 1, Member("g", "m", 1)))
        await asyncio.sleep(0)
        owner.generation("p", Member("g", "m", 2))
        owner.generation("other", Member("g", "m", 9))
        assert owned.made[0].membership == Member("g", "m", 2)
        owner.stop(10.0)
        await owned.end()


async def test_a_cancel_that_is_lost_behind_an_error_is_not_forgotten():
    owned = Owned("wait", "wait")
    owned._make = owned.owner._make = lambda assign, member: owned.made.append(Swallows(["x"], [])) or owned.made[-1]
    async with asyncio.timeout(10):
        async with owned.owner as owner:
            owner.assign(Assign(TASK, 1, 1))
            await asyncio.sleep(0)
        assert len(owned.made) == 1
    assert (await owned.end()).task == TASK


async def test_leaving_kills_what_runs():
    owned = Owned("deaf")
    async with owned.owner as owner:
        owner.assign(Assign(TASK, 1, 1))
        await asyncio.sleep(0)
    assert (await owned.end()).outcome == "killed"


class FencedLater(Scripted):
    """Works until the test fences it."""

    def __init__(self, fence, stops):
        super().__init__(["fenced"], stops)
        self._fence = fence

    async def run(self):
        await self._fence.wait()
        raise FencedError("ILLEGAL_GENERATION")


class Rebalancing(Owned):
    """Its first attempt is fenced when the test says so."""

    def __init__(self, *script):
        super().__init__(*script)
        self.fence = asyncio.Event()

    def _make(self, assign, member):
        self.made.append(Scripted(self.script, self.stops) if self.made else FencedLater(self.fence, self.stops))
        return self.made[-1]


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 — it has no event
            await asyncio.sleep(0)


@pytest.mark.parametrize("news_first", [True, False])
async def test_a_fence_in_a_rebalance_is_no_failure(news_first):
    owned = Rebalancing("wait")
    async with owned.owner as owner:
        owner.assign(Assign(TASK, 1, 1, Member("g", "m", 1)))
        await asyncio.sleep(0)
        if news_first:
            owner.generation("p", Member("g", "m", 2))
            owned.fence.set()
        else:
            owned.fence.set()
            await until(lambda: owner.reports()[0].state == "backing_off")
            owner.generation("p", Member("g", "m", 2))
        await until(lambda: len(owned.made) == 2)
        report = owner.reports()[0]
        assert (report.state, report.restarts, report.fault) == ("running", 0, None)
        assert report.records_in == 2, "those of the first attempt count"
        owner.stop(10.0)
        await owned.end()


async def test_a_task_that_its_next_owner_fences_is_stopped_without_an_error():
    owned = Rebalancing()
    async with owned.owner as owner:
        owner.assign(Assign(TASK, 1, 1, Member("g", "m", 1)))
        await asyncio.sleep(0)
        owned.fence.set()
        await until(lambda: owner.reports()[0].state == "backing_off")
        owner.revoke(TASK, 10.0)
        ended = await owned.end()
    assert (ended.outcome, ended.fault, ended.report.restarts) == ("stopped", None, 0)


async def test_a_fence_without_a_rebalance_is_a_failure(monkeypatch):
    monkeypatch.setattr(tasks, "REBALANCE_NEWS", 0.01)
    owned = Rebalancing("end")
    owned.fence.set()
    async with owned.owner as owner:
        owner.assign(Assign(TASK, 1, 1, Member("g", "m", 1)))
        ended = await owned.end()
    assert (ended.outcome, ended.report.restarts, ended.report.fault.kind) == ("drained", 1, "fenced")


async def test_a_task_that_must_not_commit_any_more_is_killed_at_once():
    """Before it does another step, whatever it has in its hands and whatever it hears in the same turn."""
    steps = []

    class Stepping(Scripted):
        async def run(self):
            while True:
                steps.append(self.membership)
                await asyncio.sleep(0)

    owned = Owned("steps")
    owned._make = lambda assign, member: Stepping(owned.script, owned.stops)
    owned.owner._make = owned._make
    async with owned.owner as owner:
        owner.assign(Assign(TASK, 1, 1, Member("g", "m", 1)))
        await asyncio.sleep(0)
        owner.revoke(TASK, 0.0)
        taken = len(steps)
        owner.generation("p", Member("g", "m", 2))
        assert (await owned.end()).outcome == "killed"
        assert len(steps) == taken


async def test_who_is_no_member_is_not_fenced_by_a_rival(monkeypatch):
    """A supervisor that stands still brings no news: its tasks are tried again for as long as that lasts."""
    monkeypatch.setattr(tasks, "REBALANCE_NEWS", 0.001)
    refused = [NotMemberError("UNKNOWN_MEMBER_ID") for _ in range(2 * POLICY.fence_limit)]
    owned = Owned(*refused, "end")
    async with owned.owner as owner:
        owner.assign(Assign(TASK, 1, 1, Member("g", "m", 1)))
        assert (await owned.end()).outcome == "drained"


OTHER = Identity("otherhost", 77, 1_700_000_000)


class Rivalled(Owned):
    """Fenced for ever; `looks` are what is found of rivals, one after the other, the last one again and again."""

    def __init__(self, *looks, policy):
        super().__init__()
        self.looks, self.asked = list(looks), 0
        self.owner = TaskOwner(self._make, self.ended.put_nowait, policy=policy, rivals=self._rivals)

    def _make(self, assign, member):
        self.script[:] = [FencedError("newer")]
        return super()._make(assign, member)

    async def _rivals(self, assign):
        self.asked += 1
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


STORM = RestartPolicy(initial=0.001, maximum=0.01, fence_limit=30, rival_limit=3, rival_seconds=0.1)


async def test_a_rival_is_looked_for_once_it_is_no_hand_over_and_named():
    owned = Rivalled(Rival(OTHER, "group theirs", 1), policy=STORM)
    async with owned.owner as owner:
        owner.assign(Assign(TASK, 1, 1))
        ended = await owned.end()
    assert ended.outcome == "failed"
    assert f"This one: {identity()}. The other: {OTHER}, which commits to group theirs." in ended.fault.message
    assert owned.asked == len(owned.made) - STORM.rival_limit + 1, "not before the third fence"


async def test_one_of_the_past_is_no_rival_until_it_commits():
    """A node that ran the task before us has signed its positions too."""
    past = Rival(OTHER, "topic positions", 7, at_work=False)
    owned = Rivalled(past, policy=STORM)
    async with owned.owner as owner:
        owner.assign(Assign(TASK, 1, 1))
        ended = await owned.end()
    assert "Fenced 30 times in a row" in ended.fault.message
    at_work = Rivalled(past, past, dataclasses.replace(past, number=8), policy=STORM)
    async with at_work.owner as owner:
        owner.assign(Assign(TASK, 1, 1))
        ended = await at_work.end()
    assert f"The other: {OTHER}" in ended.fault.message


async def test_who_was_there_first_stands_a_storm_for_longer():
    """So that the other one stops meanwhile, which started later."""
    younger = Identity("otherhost", 77, identity().since + 60)
    owned = Rivalled(Rival(younger, "group theirs", 1), policy=STORM)
    async with owned.owner as owner:
        owner.assign(Assign(TASK, 1, 1))
        ended = await owned.end()
    assert "The other started later, and has not given up." in ended.fault.message
    assert len(owned.made) >= STORM.rival_limit * STORM.older_patience

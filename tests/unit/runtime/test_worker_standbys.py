"""What a worker follows: tried again when it fails, let go of when told to, and told of."""

from __future__ import annotations

import asyncio

import pytest

from streamd.errors import NotFoundError, TransientError
from streamd.record import TaskId
from streamd.runtime.backoff import RestartPolicy
from streamd.runtime.control import Follow, FollowEnded
from streamd.runtime.standbys import StandbyOwner

TASK = TaskId("app", "p", 0, 0)
ORDER = Follow(TASK, 7, 1)


class Copy:
    lag: int | None = 3
    ready = False


class Follower:
    """Fails with each of `errors` in turn, then follows."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.copy, self.follows, self.closed = list(errors), Copy(), asyncio.Event(), 0

    async def __call__(self, order, made) -> None:
        try:
            if self.errors:
                raise self.errors.pop(0)
            made(self.copy)
            self.follows.set()
            await asyncio.Event().wait()
        finally:
            self.closed += 1


@pytest.fixture
def ended() -> list[FollowEnded]:
    return []


def owner(follower: Follower, ended: list[FollowEnded]) -> StandbyOwner:
    return StandbyOwner(follower, ended.append, RestartPolicy(initial=0.001, maximum=0.002), lambda: 0.0)


async def test_it_is_tried_again_until_it_follows_and_let_go_of_once(ended: list[FollowEnded]) -> None:
    follower = Follower(TransientError("not now"), NotFoundError("nothing there"), ValueError("a fault"))
    kept = owner(follower, ended)
    kept.follow(ORDER)
    assert [report.state for report in kept.reports()] == ["copying"]
    async with asyncio.timeout(10):
        await follower.follows.wait()
    [report] = kept.reports()
    assert (report.task, report.incarnation, report.state, report.lag, report.ready) == (TASK, 7, "copying", 3, False)
    follower.copy.ready = True
    [report] = kept.reports()
    assert (report.state, report.ready, report.fault) == ("following", True, None)
    kept.unfollow(TASK, 6)
    await asyncio.sleep(0)
    assert ended == []
    kept.unfollow(TASK, 7)
    async with asyncio.timeout(10):
        while not ended:  # noqa: ASYNC110 — there is no event
            await asyncio.sleep(0)
    assert ended == [FollowEnded(TASK, 7)]
    assert follower.closed == 4
    assert kept.reports() == []


async def test_one_that_has_not_begun_is_let_go_of_as_well(ended: list[FollowEnded]) -> None:
    kept = owner(Follower(), ended)
    kept.follow(ORDER)
    kept.unfollow(TASK, 7)
    async with asyncio.timeout(10):
        while not ended:  # noqa: ASYNC110 — there is no event
            await asyncio.sleep(0)
    assert kept.reports() == []


async def test_a_cancel_that_is_lost_behind_an_error_is_not_forgotten(ended: list[FollowEnded]) -> None:
    """As where one of its changelogs fails in the moment in which it is let go of."""
    follows = asyncio.Event()

    async def follow(order, made) -> None:
        follows.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise TransientError("away")

    kept = StandbyOwner(follow, ended.append, RestartPolicy(initial=0.001, maximum=0.002), lambda: 0.0)
    kept.follow(ORDER)
    await follows.wait()
    kept.unfollow(TASK, 7)
    async with asyncio.timeout(10):
        while not ended:  # noqa: ASYNC110 — there is no event
            await asyncio.sleep(0.001)
    assert kept.reports() == []


async def test_what_fails_says_why(ended: list[FollowEnded]) -> None:
    follower = Follower(TransientError("not now", 60.0))
    kept = owner(follower, ended)
    kept.follow(ORDER)
    async with asyncio.timeout(10):
        while kept.reports()[0].fault is None:  # noqa: ASYNC110 — there is no event
            await asyncio.sleep(0)
    [report] = kept.reports()
    assert (report.state, report.fault.message, report.ready) == ("backing_off", "not now", False)
    await kept.close()
    assert ended == [FollowEnded(TASK, 7)]

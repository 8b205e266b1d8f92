"""The standby copies in one worker: each is followed until the supervisor ends it, and tried again when it fails.

Nothing that happens here stops a pipeline: without a copy a restore only takes longer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

import structlog

from streamd.errors import NotFoundError
from streamd.record import TaskId
from streamd.runtime.backoff import Failures, RestartPolicy, fault_of, next_delay
from streamd.runtime.control import Fault, Follow, FollowEnded, StandbyReport

log = structlog.get_logger(__name__)

# Seconds between two looks for a changelog that its task has not made yet.
_LOOK = 2.0


class Copy(Protocol):
    """What is followed, as `state.standby` has it."""

    @property
    def lag(self) -> int | None: ...
    @property
    def ready(self) -> bool: ...


Follower = Callable[[Follow, Callable[[Copy], None]], Awaitable[None]]
"""Follows until it is cancelled or fails; tells of the copy once there is one."""


class _Slot:
    def __init__(self, order: Follow) -> None:
        self.order = order
        self.copy: Copy | None = None
        self.fault: Fault | None = None
        self.runner: asyncio.Task[None] | None = None
        # Set when it is let go of: the cancel may be lost behind an error of the same moment.
        self.left = False

    def leave(self) -> None:
        """Let go of it."""
        self.left = True
        if self.runner is not None:
            self.runner.cancel()


class StandbyOwner:
    """Follows what it is told to. `on_ended` is called once for each order, when everything of it is released."""

    def __init__(
        self,
        follow: Follower,
        on_ended: Callable[[FollowEnded], None],
        policy: RestartPolicy,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._follow, self._on_ended, self._policy, self._chance = follow, on_ended, policy, chance
        self._slots: dict[TaskId, _Slot] = {}

    def follow(self, order: Follow) -> None:
        """Keep a copy of a task's state, of which none is kept yet."""
        slot = self._slots[order.task] = _Slot(order)
        slot.runner = asyncio.get_running_loop().create_task(self._attempts(slot), name=f"standby {order.task}")
        slot.runner.add_done_callback(lambda _: self._over(slot))

    def unfollow(self, task: TaskId, incarnation: int) -> None:
        """Let go of a copy."""
        slot = self._slots.get(task)
        if slot is not None and slot.order.incarnation == incarnation:
            slot.leave()

    def reports(self) -> list[StandbyReport]:
        """How each copy does, now."""
        return [
            StandbyReport(
                slot.order.task,
                slot.order.incarnation,
                _state(slot),
                lag=None if slot.copy is None else slot.copy.lag,
                ready=slot.copy is not None and slot.copy.ready,
                fault=slot.fault,
            )
            for slot in self._slots.values()
        ]

    def states(self) -> list[tuple[Any, ...]]:
        """What of `reports` is news at once."""
        return [(slot.order.task, slot.order.incarnation, _state(slot)) for slot in self._slots.values()]

    async def close(self) -> None:
        """Let go of everything."""
        runners = [slot.runner for slot in self._slots.values() if slot.runner is not None]
        for slot in self._slots.values():
            slot.leave()
        await asyncio.gather(*runners, return_exceptions=True)

    def _over(self, slot: _Slot) -> None:
        # Also of one that was let go of before it had begun.
        del self._slots[slot.order.task]
        self._on_ended(FollowEnded(slot.order.task, slot.order.incarnation))

    async def _attempts(self, slot: _Slot) -> None:
        failures, task = Failures(), str(slot.order.task)

        def made(copy: Copy) -> None:
            slot.copy, slot.fault = copy, None

        while not slot.left:
            try:
                await self._follow(slot.order, made)
            except Exception as error:
                fault = fault_of(error)
                if fault.kind == "unexpected":
                    log.exception("Standby copy failed unexpectedly", task=task)
                failures = Failures() if slot.copy is not None and slot.copy.ready else failures
                slot.copy, slot.fault = None, fault
                failures = failures.and_one("transient")
                delay = next_delay(self._policy, failures, self._chance(), getattr(error, "retry_after", None))
                if isinstance(error, NotFoundError):
                    # Its task has not begun yet, or was reset.
                    delay = min(delay, _LOOK)
                else:
                    log.warning(
                        "Standby copy will be tried again",
                        task=task, error=fault.error, message=fault.message, delay_seconds=round(delay, 3),
                    )  # fmt: skip
                if not slot.left:
                    await asyncio.sleep(delay)


def _state(slot: _Slot) -> Literal["copying", "following", "backing_off"]:
    if slot.copy is None:
        return "backing_off" if slot.fault is not None else "copying"
    return "following" if slot.copy.ready else "copying"

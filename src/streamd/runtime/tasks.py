"""The owner of the tasks in one process: runs each, restarts it when it fails, and reports how it does.

The worker process and the in-process mode both run their tasks through it: a task lives under the same rules in both.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, Self

import msgspec
import structlog

from streamd.clock import SYSTEM_CLOCK, Clock
from streamd.errors import NotMemberError, TransientError
from streamd.observability.identity import Rival, identity
from streamd.record import TaskId
from streamd.runtime.backoff import Failures, RestartPolicy, fault_of, give_up, gives_way, next_delay, was_calm
from streamd.runtime.control import Assign, Fault, Look, Member, Seen, TaskEnded, TaskReport
from streamd.runtime.retries import RetryLaterError

log = structlog.get_logger(__name__)

# Seconds that the news of a rebalance may come after a commit that was refused for its generation: until then nothing
# can be committed, and an attempt would be in vain.
REBALANCE_NEWS = 3.0
# The same after any other fence. An attempt does no harm: it opens only if the node is still a member of the group.
FENCE_NEWS = 0.5


class TaskState(Protocol):
    """What a task says of itself; `runtime.task` has the real one."""

    @property
    def state(self) -> str: ...
    @property
    def idle(self) -> bool: ...
    @property
    def lag(self) -> int | None: ...
    @property
    def records_in(self) -> int: ...
    @property
    def positions(self) -> dict[str, Any]: ...
    @property
    def last_progress(self) -> float: ...


class Runnable(Protocol):
    """A task as its owner sees it: made anew for each attempt, run once."""

    @property
    def status(self) -> TaskState: ...

    async def run(self) -> None: ...

    def stop(self) -> None: ...

    def update_membership(self, membership: Any) -> None: ...


class Slot:
    """One assigned task over all its attempts."""

    def __init__(self, assign: Assign, now: float) -> None:
        self.assign = assign
        self.member = assign.member
        self.task: Runnable | None = None
        self.runner: asyncio.Task[None] | None = None
        self.stopping = asyncio.Event()
        # Set when the task is to stop, or belongs to another generation.
        self.news = asyncio.Event()
        self.killed = False
        self.waiting = False
        self.failures = Failures()
        # Monotonic seconds of the first fence in the row.
        self.fenced_at = 0.0
        # Who was seen to fence it in that row.
        self.rival: Rival | None = None
        # Who may be long gone; whoever commits between two looks is not.
        self.suspect: Rival | None = None
        self.restarts = 0
        self.fault: Fault | None = None
        self.fault_at = 0
        self.kill_timer: asyncio.TimerHandle | None = None
        # Records taken in by earlier attempts, so that the count does not fall when a task starts anew.
        self.records_before = 0
        self.last_progress = now
        self.attempt_at = now


def _log_unexpected(error: BaseException, task: TaskId) -> None:
    log.error("Task failed unexpectedly", task=str(task), exc_info=error)


async def _nobody(assign: Assign) -> Rival | None:
    return None


class TaskOwner:
    """Runs tasks until told otherwise. Every one of them is a child of the TaskGroup that `run` opens."""

    def __init__(
        self,
        make: Callable[[Assign, Member | None], Runnable],
        on_ended: Callable[[TaskEnded], None],
        *,
        policy: RestartPolicy | None = None,
        membership: Callable[[Member], Any] = lambda member: member,
        clock: Clock = SYSTEM_CLOCK,
        chance: Callable[[], float] = random.random,
        on_unexpected: Callable[[BaseException, TaskId], None] | None = None,
        rivals: Callable[[Assign], Awaitable[Rival | None]] | None = None,
    ) -> None:
        """`make` builds a task for one attempt; what it raises counts as the attempt's error.

        `on_ended` is called once per assignment. `membership` turns a member into what tasks take. `on_unexpected` gets
        errors that nobody thought of, which are logged without it. `rivals` tells who else runs a task, as far as
        that can be told; it must not raise.
        """
        self._make = make
        self._on_ended = on_ended
        self._policy = policy or RestartPolicy()
        self._membership = membership
        self._clock = clock
        self._chance = chance
        self._on_unexpected = on_unexpected or _log_unexpected
        self._rivals = rivals or _nobody
        self._slots: dict[TaskId, Slot] = {}
        self._group: asyncio.TaskGroup | None = None
        self._one_ended = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:  # noqa: PYI036 (passed on as they are)
        """Cancel what still runs, nothing of it committed, and wait for it."""
        for slot in self._slots.values():
            _kill(slot)
        assert self._group is not None
        await self._group.__aexit__(*error)

    @property
    def tasks(self) -> tuple[TaskId, ...]:
        """Those assigned and not ended yet."""
        return tuple(self._slots)

    @property
    def versions(self) -> frozenset[tuple[str, int]]:
        """(pipeline, version) of the tasks assigned and not ended yet."""
        return frozenset((task.pipeline, slot.assign.version) for task, slot in self._slots.items())

    async def empty(self) -> None:
        """Return when no task is left."""
        while self._slots:
            self._one_ended.clear()
            await self._one_ended.wait()

    def assign(self, assign: Assign) -> None:
        """Start a task. Raises ValueError when it is already here."""
        if assign.task in self._slots:
            raise ValueError(f"Task {assign.task} is already assigned to this process.")
        assert self._group is not None, "Enter the owner first."
        slot = self._slots[assign.task] = Slot(assign, self._clock.monotonic())
        slot.runner = self._group.create_task(self._own(slot), name=f"task {assign.task}")
        slot.runner.add_done_callback(lambda _: self._never_began(slot))

    def revoke(self, task: TaskId, deadline: float, incarnation: int | None = None) -> None:
        """Drain a task, and cancel it after `deadline` seconds, with 0 at once; the earliest counts. No-op for one that
        is not here.
        """
        slot = self._slots.get(task)
        if slot is None or incarnation not in (None, slot.assign.incarnation):
            return
        slot.stopping.set()
        slot.news.set()
        if slot.task is not None:
            slot.task.stop()
        loop = asyncio.get_running_loop()
        if deadline <= 0:
            # Nothing more of it may happen, not even what is due in this turn of the loop.
            _kill(slot)
            return
        latest = loop.time() + deadline
        if slot.kill_timer is not None:
            if slot.kill_timer.when() <= latest:
                return
            slot.kill_timer.cancel()
        slot.kill_timer = loop.call_at(latest, _kill, slot)

    def stop(self, deadline: float) -> None:
        """Drain all tasks."""
        for task in tuple(self._slots):
            self.revoke(task, deadline)

    def generation(self, pipeline: str, member: Member) -> None:
        """Hand the new generation to the pipeline's tasks."""
        for slot in self._slots.values():
            if slot.assign.task.pipeline == pipeline:
                if member != slot.member:
                    slot.news.set()
                slot.member = member
                if slot.task is not None:
                    slot.task.update_membership(self._membership(member))

    def look(self, order: Look, answer: Callable[[Seen], None]) -> None:
        """Have a task tell what a view holds."""
        slot = self._slots.get(order.task)
        look = None if slot is None else getattr(slot.task, "look", None)
        if look is None:
            answer(Seen(order.number, "not_ready"))
        else:
            look(order, answer)

    def reports(self) -> list[TaskReport]:
        """How each task does, now."""
        return [self._report(slot) for slot in self._slots.values()]

    def states(self) -> list[tuple[TaskId, int, str, bool, int]]:
        """(task, incarnation, state, idle, restarts) of each: what of `reports` is news at once. Cheap, asked often."""
        return [(s.assign.task, s.assign.incarnation, *_state_of(s), s.restarts) for s in self._slots.values()]

    async def _own(self, slot: Slot) -> None:
        try:
            outcome, fault = await self._attempts(slot)
        except asyncio.CancelledError:
            self._end(slot, "killed", None)
            if not slot.killed:
                raise
        else:
            self._end(slot, outcome, fault)

    def _never_began(self, slot: Slot) -> None:
        """End one that was killed in the turn of the loop in which it was assigned: nothing of `_own` has run."""
        if self._slots.get(slot.assign.task) is slot:
            self._end(slot, "killed", None)

    async def _attempts(self, slot: Slot) -> tuple[Any, Fault | None]:
        # It may have been revoked before this turn of the loop: no task was there to be stopped.
        while not slot.stopping.is_set():
            slot.attempt_at = self._clock.monotonic()
            slot.news.clear()
            began_as = slot.member
            try:
                slot.waiting = False
                slot.task = self._make(slot.assign, slot.member)
                await slot.task.run()
                return ("stopped" if slot.stopping.is_set() else "drained"), None
            except RetryLaterError as error:
                # The task is as it should be, and so this is not counted: it only waits without a transaction.
                self._absorb(slot)
                slot.fault, slot.fault_at, slot.waiting = fault_of(error), self._clock.now_ms(), True
                log.info("Task waits to try a record again", task=str(slot.assign.task), message=str(error))
                if await _happens(slot.stopping, error.retry_after or 0.0):
                    return "stopped", slot.fault
                continue
            except (Exception, SystemExit) as error:
                fault = fault_of(error)
                retry_after = error.retry_after if isinstance(error, TransientError) else None
                if fault.kind == "unexpected":
                    self._on_unexpected(error, slot.assign.task)
            if fault.kind == "fenced" and await self._rebalanced(slot, began_as, fault):
                log.info(
                    "Task goes on after a rebalance",
                    task=str(slot.assign.task), stays=not slot.stopping.is_set(), message=fault.message,
                )  # fmt: skip
                if slot.stopping.is_set():
                    return "stopped", None
                continue
            self._count(slot, fault)
            rival = await self._rival_of(slot, fault)
            final = give_up(self._policy, slot.failures, fault, slot.assign.task, rival, self._fenced_for(slot))
            if final is not None:
                return "failed", final
            if slot.stopping.is_set():
                return "stopped", fault
            delay = next_delay(self._policy, slot.failures, self._chance(), retry_after)
            log.warning(
                "Task will be tried again",
                task=str(slot.assign.task), error=fault.error, message=fault.message, delay_seconds=round(delay, 3),
            )  # fmt: skip
            slot.waiting = True
            if await _happens(slot.stopping, delay):
                return "stopped", fault
        return "stopped", None

    async def _rebalanced(self, slot: Slot, began_as: Member | None, fault: Fault) -> bool:
        """Whether a fence is a rebalance's: one that began with the attempt or later, and may be known only soon.

        What was not committed is done again then, by this node or by the next owner; nothing is wrong.
        """
        if began_as is None:
            return False
        self._absorb(slot)
        slot.waiting = True
        patience = REBALANCE_NEWS if fault.error == NotMemberError.__name__ else FENCE_NEWS
        return slot.member != began_as or await _happens(slot.news, patience)

    async def _rival_of(self, slot: Slot, fault: Fault) -> Rival | None:
        """Who else runs the task, asked once that it was fenced more often than a hand-over explains."""
        if fault.kind != "fenced" or slot.failures.fenced < self._policy.rival_limit:
            return None
        slot.waiting = True
        found = await self._rivals(slot.assign)
        if found is not None and (found.at_work or slot.suspect not in (None, found)):
            slot.rival = found
        slot.suspect = found or slot.suspect
        if slot.rival is not None:
            log.warning(
                "Another deployment runs the same task",
                task=str(slot.assign.task), this=str(identity()),
                other=str(slot.rival.who), commits_to=slot.rival.where, gives_way=gives_way(identity(), slot.rival.who),
            )  # fmt: skip
        return slot.rival

    def _fenced_for(self, slot: Slot) -> float:
        return self._clock.monotonic() - slot.fenced_at if slot.failures.fenced else 0.0

    def _count(self, slot: Slot, fault: Fault) -> None:
        """Count the failure; one that follows a calm time is the first of its row."""
        self._absorb(slot)
        if was_calm(self._policy, self._clock.monotonic() - slot.attempt_at, fault.kind):
            slot.failures, slot.rival = Failures(), None
        # Without a membership there is no rival to be seen, only that the news of the group does not come.
        slot.failures = slot.failures.and_one("transient" if fault.error == NotMemberError.__name__ else fault.kind)
        if fault.kind == "fenced" and slot.failures.fenced == 1:
            slot.fenced_at = self._clock.monotonic()
        slot.restarts += 1
        slot.fault = fault
        slot.fault_at = self._clock.now_ms()

    def _absorb(self, slot: Slot) -> None:
        """Keep what is known of the attempt beyond its end."""
        if slot.task is not None:
            status = slot.task.status
            slot.records_before += status.records_in
            if status.records_in:
                slot.last_progress = max(slot.last_progress, status.last_progress)
            slot.task = None

    def _end(self, slot: Slot, outcome: Any, fault: Fault | None) -> None:
        if slot.kill_timer is not None:
            slot.kill_timer.cancel()
        report = self._report(slot)
        del self._slots[slot.assign.task]
        self._one_ended.set()
        self._on_ended(TaskEnded(slot.assign.task, slot.assign.incarnation, outcome, report, fault))

    def _report(self, slot: Slot) -> TaskReport:
        assign = slot.assign
        state, idle = _state_of(slot)
        report = TaskReport(
            assign.task,
            assign.incarnation,
            state,
            idle=idle,
            records_in=slot.records_before,
            last_progress=slot.last_progress,
            attempt_at=slot.attempt_at,
            restarts=slot.restarts,
            fault=slot.fault,
            fault_at=slot.fault_at,
        )
        if slot.task is None:
            return report
        status = slot.task.status
        return msgspec.structs.replace(
            report,
            lag=status.lag,
            records_in=slot.records_before + status.records_in,
            positions=status.positions,
            last_progress=max(slot.last_progress, status.last_progress) if status.records_in else slot.last_progress,
        )


def _state_of(slot: Slot) -> tuple[Any, bool]:
    """(state, idle) as reports say it."""
    if slot.task is None:
        return "backing_off" if slot.waiting else "starting", False
    status = slot.task.status
    state = status.state
    return "draining" if state == "running" and slot.stopping.is_set() else state, status.idle


def _kill(slot: Slot) -> None:
    if slot.runner is not None and not slot.runner.done():
        slot.killed = True
        # The cancel may be lost behind an error of the same moment: then there is no further attempt.
        slot.stopping.set()
        slot.runner.cancel()


async def _happens(event: asyncio.Event, timeout: float) -> bool:
    """Wait for the event; False when it did not come within `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            await event.wait()
    except TimeoutError:
        return False
    return True

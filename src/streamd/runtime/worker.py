"""The worker process: the data plane of a node, one per core. `python -m streamd.runtime.worker FD SUPERVISOR_PID`.

It does what the supervisor orders over the control channel, and nothing else: it ignores SIGINT and SIGTERM, and ends
when the supervisor does (the kernel kills it, and the channel closes). It has no state of its own that matters: killed
at any moment, its replacement takes the same tasks from their last checkpoint.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Collection
from typing import Any, Protocol

import structlog
import uvloop

from streamd.errors import ConfigError
from streamd.observability.identity import Rival, adopt
from streamd.observability.metrics import Snapshot
from streamd.runtime.backoff import RestartPolicy, fault_of
from streamd.runtime.control import (
    Assign,
    Channel,
    Follow,
    FollowEnded,
    Generation,
    Hello,
    Load,
    Loaded,
    Look,
    Member,
    Order,
    Progress,
    Revoke,
    SchemaChange,
    Seat,
    Start,
    Stop,
    TaskEnded,
    Unfollow,
    Unload,
    order_channel,
)
from streamd.runtime.garbage import Garbage
from streamd.runtime.standbys import Copy, StandbyOwner
from streamd.runtime.tasks import Runnable, TaskOwner

log = structlog.get_logger(__name__)

PROGRESS_INTERVAL = 1.0
LOOK_INTERVAL = 0.05  # how often states are compared, to report a change at once
UNREAD_LIMIT = 1024 * 1024  # a supervisor this far behind gets no periodic progress
PR_SET_PDEATHSIG = 1


class Host(Protocol):
    """Everything a worker needs from the engine. `runtime.host` has the real one."""

    @property
    def policy(self) -> RestartPolicy: ...

    def seat(self, worker: int) -> None:
        """The process has its number: count and log under it."""

    async def load(self, load: Load) -> None:
        """Read the pipeline's text, build its plan and its generated code. Raises ConfigError, FatalError."""

    async def unload(self, pipeline: str) -> None: ...

    async def retire(self, used: Collection[tuple[str, int]]) -> None:
        """Close replaced versions of pipelines, but for those of `used`: (pipeline, version) of live tasks."""

    def make(self, assign: Assign, member: Member | None) -> Runnable: ...

    def membership(self, member: Member) -> Any: ...

    async def follow(self, order: Follow, made: Callable[[Copy], None]) -> None:
        """Keep a standby copy until cancelled; `made` is told of it. Raises what ended it."""

    async def rival(self, assign: Assign) -> Rival | None:
        """Who else runs a task that is fenced again and again, None when nobody is found. Never raises."""

    def snapshot(self) -> Snapshot | None: ...

    def schema_changes(self) -> list[SchemaChange]:
        """What sources have shown since the last call."""

    async def close(self) -> None: ...


class Worker:
    """Carries out orders, and reports."""

    def __init__(self, make_host: Callable[[Start], Host]) -> None:
        self._make_host = make_host
        self._orders: asyncio.Queue[Order | None] = asyncio.Queue()
        self._channel: Channel[Order] = order_channel(self._orders.put_nowait, lambda: self._orders.put_nowait(None))
        self._reported: list[tuple[Any, ...]] = []
        self._retiring: set[asyncio.Task[None]] = set()
        self._standbys: StandbyOwner

    async def run(self, end: socket.socket) -> None:
        """Serve until ordered to stop, or until the supervisor is gone."""
        await self._channel.connect(end)
        self._channel.send(Hello(os.getpid(), time.process_time()))
        start = await self._orders.get()
        if not isinstance(start, Start):
            return
        host = self._make_host(start)
        self._garbage = Garbage()
        owner = TaskOwner(
            host.make,
            lambda ended: self._ended(ended, owner, host),
            policy=host.policy,
            membership=host.membership,
            rivals=host.rival,
        )
        self._standbys = StandbyOwner(lambda order, made: host.follow(order, made), self._follow_ended, host.policy)
        async with owner:
            reporter = asyncio.create_task(self._report_for_ever(owner, host))
            try:
                await self._obey(owner, host)
            finally:
                reporter.cancel()
                await self._standbys.close()
        self._channel.send(self._progress(owner, host, host.snapshot()))
        if self._retiring:
            await asyncio.wait(self._retiring)
        await host.close()
        self._channel.close()

    async def _obey(self, owner: TaskOwner, host: Host) -> None:
        while (order := await self._orders.get()) is not None:
            match order:
                case Seat():
                    host.seat(order.worker)
                case Load():
                    await self._load(host, order)
                    await host.retire(owner.versions)
                case Unload():
                    await host.unload(order.pipeline)
                case Assign():
                    owner.assign(order)
                case Revoke():
                    owner.revoke(order.task, order.deadline, order.incarnation)
                case Follow():
                    self._standbys.follow(order)
                case Unfollow():
                    self._standbys.unfollow(order.task, order.incarnation)
                case Generation():
                    owner.generation(order.pipeline, order.member)
                case Look():
                    owner.look(order, self._channel.send)
                case Stop():
                    owner.stop(order.deadline)
                    await self._drained(owner)
                    return
                case Start():
                    raise ValueError("The supervisor sent a second start message.")

    async def _drained(self, owner: TaskOwner) -> None:
        """Wait for the end of all tasks, or of the supervisor: then nobody is left to wait for them."""
        ended = asyncio.ensure_future(owner.empty())
        closed = asyncio.ensure_future(self._orders.get())
        await asyncio.wait((ended, closed), return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        closed.cancel()

    async def _load(self, host: Host, load: Load) -> None:
        try:
            await host.load(load)
        except Exception as error:
            fault = fault_of(error)
            if fault.kind == "unexpected":
                log.exception("Pipeline cannot be loaded", pipeline=load.pipeline)
            self._channel.send(Loaded(load.pipeline, load.version, fault))
            return
        gc.collect()
        gc.freeze()
        self._channel.send(Loaded(load.pipeline, load.version))

    def _follow_ended(self, ended: FollowEnded) -> None:
        self._channel.send(ended)

    def _ended(self, ended: TaskEnded, owner: TaskOwner, host: Host) -> None:
        # What the task has counted goes before the news of its end: once that is known, this process may be killed.
        self._channel.send(self._progress(owner, host, host.snapshot()))
        self._channel.send(ended)
        retiring = asyncio.get_running_loop().create_task(host.retire(owner.versions))
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)

    async def _report_for_ever(self, owner: TaskOwner, host: Host) -> None:
        """Report at once what changes state, and everything once a second. Collects garbage in between."""
        next_report = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            now = time.monotonic()
            if now >= next_report:
                next_report = now + PROGRESS_INTERVAL
                if self._channel.buffered < UNREAD_LIMIT:
                    self._channel.send(self._progress(owner, host, host.snapshot()))
                self._garbage.collect()
            elif self._states(owner) != self._reported and self._channel.buffered < UNREAD_LIMIT:
                self._channel.send(self._progress(owner, host, None))

    def _progress(self, owner: TaskOwner, host: Host, metrics: Snapshot | None) -> Progress:
        reports = owner.reports()
        self._reported = self._states(owner)
        changes = [] if metrics is None else host.schema_changes()
        return Progress(time.monotonic(), reports, metrics, self._standbys.reports(), changes)

    def _states(self, owner: TaskOwner) -> list[tuple[Any, ...]]:
        return [*owner.states(), *self._standbys.states()]


def die_with(supervisor: int) -> None:
    """Have the kernel kill this process when the supervisor ends, and end now if that has happened already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        os._exit(1)


def serve(fd: int, supervisor: int, make_host: Callable[[Start], Host]) -> None:
    """Run one worker over the inherited socket `fd`, to its end."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    die_with(supervisor)
    adopt(supervisor)
    end = socket.socket(fileno=fd)
    end.set_inheritable(False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Worker(make_host).run(end))


def main() -> None:
    from streamd.runtime.environment import refuse_untested
    from streamd.runtime.host import EngineHost

    try:
        refuse_untested()
    except ConfigError as error:
        sys.exit(f"error: {error}")
    serve(int(sys.argv[1]), int(sys.argv[2]), EngineHost)


if __name__ == "__main__":
    main()

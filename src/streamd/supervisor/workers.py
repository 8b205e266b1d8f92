"""The worker processes of a node: as many as wanted, each replaced when it dies, one spare ready to step in.

A worker's number is its place in the pool. Tasks belong to the place: the process that fills it next gets the same.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from streamd.clock import Clock
from streamd.observability import catalog
from streamd.observability.metrics import MetricSet, Snapshot
from streamd.observability.status import WorkerState
from streamd.record import TaskId
from streamd.runtime.control import (
    Assign,
    Follow,
    FollowEnded,
    Hello,
    Load,
    Loaded,
    News,
    Order,
    Progress,
    SchemaChange,
    Seat,
    Seen,
    StandbyReport,
    Start,
    Stop,
    TaskEnded,
    TaskReport,
)  # fmt: skip
from streamd.supervisor.children import WORKER_COMMAND, Child, Starter
from streamd.supervisor.options import Options
from streamd.supervisor.restart import Crashes, replacement_delay, was_useful
from streamd.supervisor.watchdog import judge

log = structlog.get_logger(__name__)

UNREAD_LIMIT = 64 * 1024 * 1024  # bytes of orders a worker may leave unread
SPARE_DELAY = 1.0  # seconds from the first time that all workers run to the start of the spare one
LOAD_AGAIN = 1.0  # seconds until a pipeline is loaded again that met an error that may pass
EXIT_GRACE = 2.0  # seconds from the end of its tasks to the end of a worker's process


class Listener(Protocol):
    """Who is told what happens in the pool. All calls come from the loop, none may block."""

    def task_ended(self, worker: int, ended: TaskEnded) -> None: ...
    def follow_ended(self, worker: int, ended: FollowEnded) -> None: ...
    def pipeline_loaded(self, loaded: Loaded) -> None: ...
    def worker_gone(self, worker: int) -> None: ...
    def reported(
        self, reports: Mapping[TaskId, TaskReport], before: Mapping[TaskId, TaskReport], seconds: float
    ) -> None: ...
    def metrics_came(self, source: str, snapshot: Snapshot | None) -> None: ...
    def seen(self, answer: Seen) -> None: ...
    def schema_changed(self, change: SchemaChange) -> None: ...
    def wake(self) -> None: ...


@dataclass(eq=False)
class Process:
    """A worker process as the pool knows it. `reports`, `standbys`: the newest ones; `sent`, `loaded`: pipelines."""

    child: Child
    heard_at: float | None = None
    progress_at: float = 0.0
    reports: dict[TaskId, TaskReport] = field(default_factory=dict)
    standbys: dict[TaskId, StandbyReport] = field(default_factory=dict)
    sent: dict[str, Load] = field(default_factory=dict)
    loaded: dict[str, int] = field(default_factory=dict)
    stopping_since: float | None = None
    started_at: int = 0
    records_in: int = 0

    @property
    def name(self) -> str:
        return f"worker-{self.child.pid}"


@dataclass(eq=False)
class Place:
    """A place in the pool. `not_before`: when its next process may start, monotonic seconds."""

    process: Process | None = None
    crashes: Crashes = field(default_factory=Crashes)
    not_before: float = 0.0
    spawning: bool = False


class WorkerPool:
    """Keeps the places filled. `step` is called by the control loop, several times a second and on each change."""

    def __init__(
        self,
        start: Start,
        options: Options,
        listener: Listener,
        metrics: MetricSet,
        clock: Clock,
        command: Sequence[str] = WORKER_COMMAND,
    ) -> None:
        self._start = start
        self._options = options
        self._listener = listener
        self._metrics = metrics
        self._clock = clock
        self._starter = Starter(command)
        self._chance: Callable[[], float] = random.random
        self._places: list[Place] = []
        self._spare = Place()
        self._loads: dict[str, Load] = {}
        self._spawns: set[asyncio.Task[None]] = set()
        self._closing = False
        self._settled_at: float | None = None
        self._stepped_at = clock.monotonic()

    @property
    def empty(self) -> bool:
        """No process is left, not even a spare one."""
        return not self._spawns and all(place.process is None for place in self._all())

    def places(self) -> Iterator[tuple[int, Place]]:
        """(worker, place) of the workers, without the spare one."""
        return iter(enumerate(self._places))

    def state(self, worker: int) -> WorkerState:
        """The state of a worker as status shows it."""
        process = self._places[worker].process
        if process is None:
            return "backing_off" if self._clock.monotonic() < self._places[worker].not_before else "starting"
        if process.stopping_since is not None:
            return "stopping"
        return "starting" if process.heard_at is None else "running"

    def report(self, worker: int, task: TaskId) -> TaskReport | None:
        """The newest report of a task, None while there is none from the process that runs it now."""
        process = self._places[worker].process if worker < len(self._places) else None
        return process.reports.get(task) if process else None

    def standby(self, worker: int, task: TaskId) -> StandbyReport | None:
        """The newest report of a standby copy."""
        process = self._places[worker].process if worker < len(self._places) else None
        return process.standbys.get(task) if process else None

    def progress_at(self, worker: int) -> float:
        """When the worker sent its newest report, monotonic seconds."""
        process = self._places[worker].process if worker < len(self._places) else None
        return process.progress_at if process else 0.0

    def load(self, load: Load) -> None:
        """Make a pipeline known to all processes, present and future."""
        self._loads[load.pipeline] = load
        for place in self._all():
            if place.process is not None:
                self._load(place.process, load)

    def unload(self, pipeline: str) -> None:
        """Future processes do not learn of the pipeline any more. Present ones keep it, idle."""
        self._loads.pop(pipeline, None)

    def knows(self, pipeline: str, version: int) -> bool:
        """Whether a worker is up that could run tasks of this version of the pipeline at once."""
        return any(place.process and place.process.loaded.get(pipeline) == version for place in self._places)

    def send(self, worker: int, order: Order) -> bool:
        """Give an order. False when the worker takes none now: its process is not there, or not up, or stopping."""
        process = self._places[worker].process if worker < len(self._places) else None
        if process is None or process.heard_at is None or process.stopping_since is not None:
            return False
        process.child.send(order)
        return True

    def assign(self, worker: int, assign: Assign | Follow) -> bool:
        """Have a worker run a task, or follow one. False when it takes no orders now, or does not know the pipeline."""
        process = self._places[worker].process if worker < len(self._places) else None
        known = process is not None and process.loaded.get(assign.task.pipeline) == assign.version
        return known and self.send(worker, assign)

    def kill(self, worker: int, reason: str) -> None:
        """Kill a worker; it is replaced as after a crash."""
        process = self._places[worker].process
        if process is not None:
            process.child.kill(reason)

    def start_no_more(self) -> None:
        """Have no worker started from now on, also none that is asked for already. Those that are there go on."""
        self._starter.close()

    def kill_all(self, reason: str) -> None:
        """Kill everything, for good."""
        self._closing = True
        self.start_no_more()
        for place in self._all():
            if place.process is not None:
                place.process.child.kill(reason)

    def step(self, wanted: int, busy: frozenset[int]) -> None:
        """Approach `wanted` places. Workers in `busy` have tasks and are not taken away."""
        now = self._clock.monotonic()
        if now - self._stepped_at > self._options.silence_timeout / 2:
            self._forgive(now)
        self._stepped_at = now
        while len(self._places) < wanted and not self._closing:
            self._places.append(Place())
        self._shrink(wanted, busy, now)
        for worker, place in self.places():
            if place.process is not None:
                self._watch(worker, place.process, now)
            elif worker < wanted and not place.spawning and now >= place.not_before and not self._closing:
                self._fill(place)
        self._keep_spare(wanted, now)

    async def close(self) -> None:
        """Kill what is left, and wait for it."""
        self.kill_all("The supervisor ends.")
        while self._spawns:
            await asyncio.gather(*self._spawns, return_exceptions=True)
        self.kill_all("The supervisor ends.")
        for place in self._all():
            if place.process is not None:
                await place.process.child.wait()

    def _all(self) -> list[Place]:
        return [*self._places, self._spare]

    def _forgive(self, now: float) -> None:
        """The supervisor itself was held up (suspended machine): what workers sent meanwhile is not read yet."""
        for place in self._all():
            if place.process is not None and place.process.heard_at is not None:
                place.process.heard_at = now

    def _shrink(self, wanted: int, busy: frozenset[int], now: float) -> None:
        for worker in range(len(self._places) - 1, wanted - 1, -1):
            place = self._places[worker]
            if worker in busy or place.spawning:
                continue
            if place.process is not None:
                self._stop(place.process, now)
            elif worker == len(self._places) - 1:
                del self._places[worker]

    def _stop(self, process: Process, now: float) -> None:
        if process.stopping_since is None:
            process.stopping_since = now
            process.child.send(Stop(EXIT_GRACE / 2))
        elif now - process.stopping_since > EXIT_GRACE:
            process.child.kill("It did not end when told to.")

    def _watch(self, worker: int, process: Process, now: float) -> None:
        if process.child.killed_for is not None or process.stopping_since is not None:
            return
        if process.child.buffered > UNREAD_LIMIT:
            process.child.kill("It does not read its orders.")
            return
        child, reports = process.child, process.reports.values()
        verdict = judge(now, child.spawned_at, process.heard_at, process.progress_at, reports, self._options)
        if verdict is not None:
            if verdict.stalled:
                self._metrics.counter(catalog.WORKER_STALLS, worker=worker).add()
            log.error("Worker will be killed", worker=worker, pid=process.child.pid, reason=verdict.reason)
            process.child.kill(verdict.reason)

    def _fill(self, place: Place) -> None:
        spare = self._spare.process if place is not self._spare else None
        # One that is still starting is ahead of one that is only begun now, and is spared its competition.
        if spare is not None and spare.stopping_since is None and spare.child.killed_for is None:
            self._spare.process = None
            place.process = spare
            spare.child.send(Seat(self._places.index(place)))
            self._listener.wake()
            return
        place.spawning = True
        task = asyncio.get_running_loop().create_task(self._spawn(place))
        self._spawns.add(task)
        task.add_done_callback(self._spawns.discard)

    async def _spawn(self, place: Place) -> None:
        try:
            child = await self._starter.start(self._news, self._gone)
        except OSError as error:
            if self._starter.closed:
                return
            place.crashes = place.crashes.and_one(useful=False)
            place.not_before = self._clock.monotonic() + max(1.0, self._delay(place))
            log.error("Worker cannot be started", error=error.strerror)
            return
        finally:
            place.spawning = False
        process = place.process = Process(child, started_at=self._clock.now_ms())
        if not child.alive:
            self._gone(child)
            return
        child.send(self._start)
        if place is not self._spare:
            child.send(Seat(self._places.index(place)))
        for load in self._loads.values():
            self._load(process, load)
        if self._closing:
            child.kill("The supervisor ends.")

    def _load(self, process: Process, load: Load) -> None:
        if process.sent.get(load.pipeline) != load:
            process.sent[load.pipeline] = load
            process.child.send(load)

    def _keep_spare(self, wanted: int, now: float) -> None:
        """One spare process, started once all workers run. At first it leaves the machine to them for a second."""
        place = self._spare
        if wanted == 0 or not self._options.spare or self._closing:
            if place.process is not None and place.process.stopping_since is None:
                # It has done nothing yet that could be finished.
                place.process.stopping_since = now
                place.process.child.kill("It is not needed any more.")
            return
        if place.process is not None:
            verdict = judge(now, place.process.child.spawned_at, place.process.heard_at, now, (), self._options)
            if verdict is not None:
                place.process.child.kill(verdict.reason)
        elif not place.spawning and now >= place.not_before and self._settled():
            self._settled_at = self._settled_at or now
            if now - self._settled_at < SPARE_DELAY:
                return
            self._fill(place)

    def _settled(self) -> bool:
        """All workers run."""
        return all(place.process is not None and place.process.heard_at is not None for place in self._places)

    def _place_of(self, child: Child) -> tuple[int, Place] | None:
        """(worker, place) of a process, worker -1 for the spare one."""
        for worker, place in (*self.places(), (-1, self._spare)):
            if place.process is not None and place.process.child is child:
                return worker, place
        return None

    def _news(self, child: Child, news: News) -> None:
        found = self._place_of(child)
        if found is None:
            return
        worker, place = found
        process = place.process
        assert process is not None
        first = process.heard_at is None
        process.heard_at = self._clock.monotonic()
        match news:
            case Hello():
                log.debug("Worker started", worker=_called(worker), pid=news.pid, seconds=round(news.seconds, 3))
            case Loaded():
                self._loaded(process, news)
            case Progress():
                self._progress(process, news)
            case Seen():
                self._listener.seen(news)
            case FollowEnded():
                process.standbys.pop(news.task, None)
                self._listener.follow_ended(worker, news)
            case TaskEnded():
                process.reports.pop(news.task, None)
                process.records_in += news.report.records_in
                self._listener.task_ended(worker, news)
        if first or not isinstance(news, Progress) or news.metrics is None:
            self._listener.wake()  # the periodic reports change no state

    def _loaded(self, process: Process, news: Loaded) -> None:
        if news.fault is None:
            process.loaded[news.pipeline] = news.version
        elif news.fault.kind == "transient":
            # Told again by the control loop, which introduces every pipeline on each round.
            asyncio.get_running_loop().call_later(LOAD_AGAIN, process.sent.pop, news.pipeline, None)
        self._listener.pipeline_loaded(news)

    def _progress(self, process: Process, news: Progress) -> None:
        before, seconds = process.reports, news.sent_at - process.progress_at
        process.progress_at = news.sent_at
        process.reports = {report.task: report for report in news.tasks}
        process.standbys = {report.task: report for report in news.standbys}
        self._listener.reported(process.reports, before, seconds)
        for change in news.schema_changes:
            self._listener.schema_changed(change)
        if news.metrics is not None:
            self._listener.metrics_came(process.name, news.metrics)

    def _gone(self, child: Child) -> None:
        found = self._place_of(child)
        if found is None:
            return
        worker, place = found
        process, place.process = place.process, None
        assert process is not None
        self._listener.metrics_came(process.name, None)
        if process.stopping_since is None and not self._closing:
            now = self._clock.monotonic()
            records_in = process.records_in + sum(report.records_in for report in process.reports.values())
            useful = was_useful(now - child.spawned_at, records_in, self._options.restart)
            place.crashes = place.crashes.and_one(useful)
            place.not_before = now + self._delay(place)
            log.error(
                "Worker died",
                worker=_called(worker), pid=child.pid, code=child.returncode, reason=child.killed_for,
                delay_seconds=round(place.not_before - now, 3),
            )  # fmt: skip
        if worker >= 0:
            self._metrics.counter(catalog.WORKER_RESTARTS, worker=worker).add(process.stopping_since is None)
            self._listener.worker_gone(worker)
        self._listener.wake()

    def _delay(self, place: Place) -> float:
        return replacement_delay(place.crashes, self._options.restart, self._chance())


def _called(worker: int) -> int | str:
    """A worker as the log names it."""
    return "spare" if worker < 0 else worker

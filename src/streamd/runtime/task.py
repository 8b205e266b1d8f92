"""A task: one partition of each source of a part, through its chains, to its sinks, checkpoint after checkpoint.

    read a batch → fused function → rows to writers, records to batch stages → … → checkpoint

A task is made for one attempt and run once. Whatever fails in it is raised from `run`; its owner makes a new one, which
starts from the last checkpoint. So there is one way to recover, whatever happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import structlog

from streamd.clock import SYSTEM_CLOCK, Clock
from streamd.component.context import TaskContext
from streamd.component.sink import Writer
from streamd.component.source import Reader
from streamd.component.transaction import Committed, Transaction
from streamd.errors import FatalError, FencedError
from streamd.observability import catalog
from streamd.observability.metrics import MetricSet
from streamd.record import BEGINNING, END, Position, RawRecord, TaskId
from streamd.runtime.assembly import Assembly
from streamd.runtime.checkpoint import Checkpoint
from streamd.runtime.control import Look, Seen
from streamd.runtime.failure import RecordFailedError
from streamd.runtime.faults import fault_point
from streamd.runtime.garbage import keep_many
from streamd.runtime.gauges import Gauges
from streamd.runtime.process import Process
from streamd.runtime.stores import stores_of
from streamd.runtime.views import Answer, Views
from streamd.runtime.watermark import Watermark

log = structlog.get_logger(__name__)

# A quiet pipeline commits as soon as its input is drained, but leaves the transport this long between two commits.
QUIET_GAP = 0.005
# All tasks of a process pay for commits from one core: beyond a few, each leaves this much longer for every other one.
FEW_TASKS, GAP_PER_TASK = 4, 0.008
# How long a read waits when nothing is due: only bounds how late `idle` is noticed.
IDLE_WAIT = 0.5
# Bytes taken by writers and not yet written, above which a task stops reading until they are.
BACKLOG_LIMIT = 4 * 1024 * 1024
CLOSE_TIMEOUT = 5.0


def quiet_gap(tasks: int) -> float:
    """Seconds that each of so many tasks of a process leaves at least between two commits of drained input."""
    return max(QUIET_GAP, (tasks - FEW_TASKS) * GAP_PER_TASK)


async def _or_fatal(read: Awaitable[Sequence[RawRecord]]) -> Sequence[RawRecord] | FatalError:
    """What a read gives, or why there will be nothing more: raised here it would end the task at once."""
    try:
        return await read
    except FatalError as error:
        return error


class Task:
    """One attempt at one task. `running`: how many of all are running in this process."""

    running: ClassVar[int] = 0

    def __init__(
        self,
        task: TaskId,
        assembly: Assembly,
        tasks: int,
        metrics: MetricSet,
        membership: Any = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`tasks`: how many its part has. `membership`: what fences its commits, None where there is no group."""
        self.id, self._assembly, self._tasks = task, assembly, tasks
        self._metrics, self._clock = metrics, clock
        self._part = assembly.plan.parts[task.part]
        self._config = assembly.plan.config
        self._transaction: Transaction = assembly.transaction(task, membership)
        self._bounded = {source.id for source in self._part.sources if source.spec.bounded(source.settings)}
        self._readers: dict[tuple[str, int], Reader] = {}
        self._writers: dict[str, Writer] = {}
        self._state = stores_of(task, assembly, tasks, lambda: Task.running, clock)
        # {reader's place: position after the last record processed}, what a checkpoint commits. A read that is done and
        # not taken yet has moved its reader on already.
        self._processed: dict[tuple[str, int], Position] = {}
        # {source: what its reader wants kept beside that position}
        self._beside: dict[str, Any] = {}
        # {reader's place: its read under way}. A read is never cancelled but at the end: it would lose its turn.
        self._reads: dict[tuple[str, int], asyncio.Task[Sequence[RawRecord] | FatalError]] = {}
        self._timed = self._part.timed
        self._watermark: Watermark
        self._views = Views(self._stage, lambda: self._state.checkpoint)
        self._stop = asyncio.Event()
        self._stop_seen: asyncio.Task[bool] | None = None
        self._uncommitted = 0
        self._began = 0.0
        self._last_commit = 0.0
        self.state = "starting"
        self.records_in = 0
        self._progress = clock.monotonic()
        self._paused = metrics.counter(catalog.BACKPRESSURE, pipeline=task.pipeline)
        self._place = {"pipeline": task.pipeline, "part": task.part, "partition": task.partition}
        self._gauges = Gauges(metrics, self._place, self._part, self._readers, self._writers, self._state.stores)

    # What the owner sees.

    @property
    def status(self) -> Task:
        """The task itself: state, idle, lag, records_in, positions, last_progress."""
        return self

    @property
    def lag(self) -> int | None:
        """Records (bytes, for files) there and not read, over all readers; None when one cannot know."""
        if not self._readers:
            return None
        lags = [reader.lag() for reader in self._readers.values()]
        return None if None in lags else sum(lag for lag in lags if lag is not None)

    @property
    def idle(self) -> bool:
        """True when everything that was there is read and committed."""
        if self.state == "drained":
            return True
        if self.state != "running" or self._uncommitted or any(read.done() for read in self._reads.values()):
            return False
        # An input with an end is done there, and not before: what comes slowly is no lag. One out of reach now may have
        # more than was known before.
        return all(
            reader.ended or (source not in self._bounded and reader.lag() == 0 and not getattr(reader, "stale", False))
            for (source, _), reader in self._readers.items()
        )

    @property
    def last_progress(self) -> float:
        """Monotonic seconds. Holding still on purpose (a rate limit, a record to be tried again) is no standstill."""
        process: Process | None = getattr(self, "_process", None)
        if process is None:
            return self._progress
        return max(self._progress, min(self._clock.monotonic(), process.waits_until))

    @property
    def positions(self) -> dict[str, Any]:
        """{source id: position}, of what was read."""
        return {source: reader.position() for (source, _), reader in self._readers.items()}

    def stop(self) -> None:
        """Drain: read no more, commit, and return from `run`."""
        self._stop.set()

    def look(self, order: Look, answer: Answer) -> None:
        """Tell what a view holds, as of the last checkpoint."""
        if self.state == "running":
            self._views.look(order, answer, committed=not self._uncommitted)
        else:
            answer(Seen(order.number, "not_ready"))

    def update_membership(self, membership: Any) -> None:
        """Commit under a new generation of the group from now on."""
        update = getattr(self._transaction, "update_membership", None)
        if update is not None:
            update(membership)

    async def run(self) -> None:
        """Run until stopped, or until all readers have ended; everything read is then committed.

        One that is stopped while it still opens, perhaps restoring much, ends at once.

        Raises what made it fail; nothing since the last checkpoint is committed then. A cancel has the same effect.
        """
        forget = self._metrics.before_snapshot(self._show)
        orderly = healthy = False
        Task.running += 1
        try:
            async with asyncio.TaskGroup() as group:
                self._stop_seen = group.create_task(self._stop.wait())
                try:
                    if await self._opened(group):
                        await self._loop(group)
                finally:
                    for read in (*self._reads.values(), self._stop_seen):
                        read.cancel()
            orderly = healthy = True
        except BaseExceptionGroup as errors:
            # One reader's error is the task's; a group only adds its wrapping.
            healthy = not isinstance(errors.exceptions[0], FencedError)
            raise errors.exceptions[0] from None
        finally:
            self._views.close()
            Task.running -= 1
            forget()
            self._metrics.remove(**self._place)
            if self.state != "drained":
                self.state = "stopped" if orderly else "failed"
            await asyncio.shield(self._close(healthy))

    # How it runs.

    async def _opened(self, group: asyncio.TaskGroup) -> bool:
        """Open; False when it was stopped before that was done."""
        assert self._stop_seen is not None
        opening = group.create_task(self._open())
        await asyncio.wait((opening, self._stop_seen), return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            return True
        opening.cancel()
        await asyncio.wait((opening,))
        return False

    async def _open(self) -> None:
        self.state = "loading" if self._part.tables else "starting"
        await self._assembly.tables.ready(self._part.tables, self._metrics)
        committed = self._assembly.checked(self.id, await self._transaction.open())
        fault_point("in_open")
        context = TaskContext(
            self._assembly.context, self.id, self._tasks, self._transaction, self._part.transport,
            watermark=lambda: self._watermark.now, idle=lambda: self._watermark.idle,
        )  # fmt: skip
        self._process = Process(
            self.id, self._part, self._assembly, context, self._writers, self._state.stores, self._metrics, self._clock
        )
        await self._process.open()
        self._state.refuse_left(committed, {one.id for one in (*self._part.sources, *self._part.all_sinks)})
        if self._state:
            await self._restore(committed)
        self._process.restored()
        places = {
            (source.id, self.id.partition): source
            for source in self._part.sources
            if self.id.partition < self._assembly.partitions.get(source.id, self.id.partition + 1)
        }
        self._watermark = Watermark(places, self._state.times, self._clock)
        for sink in self._part.all_sinks:
            cursor = committed.cursors.get(sink.id)
            told = replace(context, watermark=partial(self._process.keyed.watermark_of, sink.id))
            self._writers[sink.id] = await self._assembly.sinks[sink.id].open(told, cursor)
        for place, source in places.items():
            opened = self._assembly.sources[source.id].open(self.id.partition, committed.positions.get(place))
            self._readers[place] = reader = await opened
            if (recall := getattr(reader, "recall", None)) is not None:
                recall(committed.cursors.get(source.id))
            self._note_position(place, reader.position())
            self._watermark.attach(place, self._readers[place])
        self._checkpoint = Checkpoint(
            self.id, self._transaction, self._processed, self._beside, self._writers, self._state,
            self._watermark.state, self._metrics, self._clock, timeout=self._assembly.checkpoint_timeout,
        )  # fmt: skip
        if any(place not in committed.positions for place in self._readers):
            # Where a task began must not depend on when it is asked again: `start: latest` would skip what came since.
            await self._checkpoint.commit()
        self._progress = self._last_commit = self._clock.monotonic()
        self.state = "running"

    async def _restore(self, committed: Committed) -> None:
        """What stages remember, as it was committed."""
        self.state, began = "restoring", self._clock.monotonic()
        count = self._metrics.counter(catalog.RESTORED_RECORDS, pipeline=self.id.pipeline)
        records = 0

        def restored(number: int) -> None:
            nonlocal records
            records += number
            keep_many()
            count.add(number)
            self._progress = self._clock.monotonic()
            fault_point("in_restore")

        await self._state.restore(self._transaction, committed, restored)
        seconds = self._clock.monotonic() - began
        log.info(
            "State restored", task=str(self.id), records=records, local=self._state.local, seconds=round(seconds, 3),
            _template=f"State restored {self.id}",  # told of each task
        )  # fmt: skip

    async def _loop(self, group: asyncio.TaskGroup) -> None:
        while not self._stop.is_set():
            self._assembly.tables.check(self._part.tables)
            pause = self._process.ready_at - self._clock.monotonic()
            if pause > 0:
                await self._hold_back(pause)
            else:
                self._read_on(group)
                if not self._reads:
                    break
                await self._wait_for(self._reads.values(), self._tick_in())
                await self._take_what_came()
            if self._timed:
                await self._follow_time()
            if self._commit_due():
                await self._commit()
        ended = not self._stop.is_set()
        await self._process.finish()
        if ended:
            await self._follow_time()
        held_back = self._transaction.backlog or any(writer.backlog for writer in self._writers.values())
        if self._uncommitted or held_back:
            await self._commit()
        await self._state.keep_last(self._transaction, self._clock.now_ms())
        fault_point("in_last_mark")
        if ended:
            self.state = "drained"

    async def _hold_back(self, pause: float) -> None:
        """Wait for a stage to be ready; what went through it can be committed meanwhile."""
        began, waiting = self._clock.monotonic(), not self._drained()
        await self._wait_for((), pause)
        if waiting:
            self._process.held_back(self._clock.monotonic() - began)

    def _read_on(self, group: asyncio.TaskGroup) -> None:
        for place, reader in self._readers.items():
            if place not in self._reads and not reader.ended:
                read = partial(reader.read, self._process.max_records(reader.position()), IDLE_WAIT)
                reading = self._watermark.while_asked(place, read) if self._timed else read()
                self._reads[place] = group.create_task(_or_fatal(reading))

    async def _wait_for(self, reads: Iterable[asyncio.Task[Any]], timeout: float | None) -> None:
        """Return when a read is done, a commit is due, the time is over, or the task is to stop."""
        assert self._stop_seen is not None
        due = self._commit_in()
        if due is not None:
            timeout = due if timeout is None else min(due, timeout)
        await asyncio.wait((*reads, self._stop_seen), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    async def _take_what_came(self) -> None:
        for place in [place for place, read in self._reads.items() if read.done()]:
            records = self._reads.pop(place).result()
            if isinstance(records, FatalError):
                # Of what lies before it nothing is wrong, and the next attempt would come no further.
                if self._uncommitted:
                    await self._commit()
                raise records
            position = self._readers[place].position()
            if records:
                await self._take(place, records)
            if self._timed:
                self._watermark.took(place)
            self._note_position(place, position)
            if getattr(self._readers[place], "overdue", False):
                self._begin()
                self._uncommitted += 1

    def _note_position(self, place: tuple[str, int], position: Position) -> None:
        """Everything up to here is processed."""
        self._processed[place] = position
        if (cursor := getattr(self._readers[place], "cursor", None)) is not None:
            self._beside[place[0]] = cursor()

    async def _follow_time(self) -> None:
        """Have the keyed stages follow the watermark and the wall clock."""
        moved = self._watermark.move()
        gave = await self._process.keyed.advance(moved)
        due = self._process.keyed.due
        if due is not None and (now := self._clock.now_ms()) >= due:
            gave = await self._process.keyed.tick(now) or gave
        if gave or any(getattr(writer, "due", False) for writer in self._writers.values()):
            self._begin()
            self._uncommitted += 1
            await self._let_writers_follow()

    def _tick_in(self) -> float | None:
        """Seconds until a stage wants to know the time; None when none does."""
        due = self._process.keyed.due
        return None if due is None else max(0.0, (due - self._clock.now_ms()) / 1000)

    def _commit_in(self) -> float | None:
        """Seconds until a commit is due; None when there is nothing to commit."""
        if not self._uncommitted:
            return None
        now = self._clock.monotonic()
        due = self._began + self._config.commit_interval
        if self._drained():
            due = min(due, self._last_commit + quiet_gap(Task.running))
        return max(0.0, due - now)

    def _drained(self) -> bool:
        return all(reader.ended or reader.lag() == 0 for reader in self._readers.values())

    def _commit_due(self) -> bool:
        return self._commit_in() == 0.0

    async def _take(self, place: tuple[str, int], records: Sequence[RawRecord]) -> None:
        if self._uncommitted and self._process.retries_among(records):
            await self._commit()
        self._begin()
        # Before anything is awaited: a task with a batch in its hands is not idle.
        self._uncommitted += len(records)
        times = self._watermark.times(place) if self._timed else [BEGINNING, BEGINNING, END]
        try:
            await self._process.batch(place[0], records, times)
        except RecordFailedError as error:
            if error.complete_before:
                await self._commit()
            raise
        if self._timed:
            self._watermark.seen(place, times[0])
            if (remedy := self._watermark.in_seconds(place)) is not None:
                log.warning("Event times look like seconds", task=str(self.id), source=place[0], remedy=remedy)
        self.records_in += len(records)
        self._progress = self._clock.monotonic()
        await self._let_writers_follow()

    def _begin(self) -> None:
        if not self._uncommitted:
            self._began = self._clock.monotonic()
            fault_point("before_begin")
        self._transaction.begin()

    async def _let_writers_follow(self) -> None:
        """Backpressure: nothing more is read while too much is on its way out."""
        began = self._clock.monotonic()
        for writer in self._writers.values():
            if writer.backlog:
                await writer.drain()
        if self._transaction.backlog > BACKLOG_LIMIT:
            await self._transaction.drain()
        self._paused.add(self._clock.monotonic() - began)

    async def _commit(self) -> None:
        await self._checkpoint.commit()
        self._process.committed()
        await self._state.keep(self._transaction, self._clock.now_ms())
        for place, reader in self._readers.items():
            if (committed := getattr(reader, "committed", None)) is not None:
                committed(self._processed[place])
        self._uncommitted = 0
        self._last_commit = self._progress = self._clock.monotonic()
        self._views.committed()

    def _show(self) -> None:
        age = self._clock.monotonic() - self._began if self._uncommitted else 0.0
        opened = self._timed and hasattr(self, "_watermark")
        self._gauges.show(age, self._stage, self._watermark.now if opened else BEGINNING)

    def _stage(self, name: str) -> Any:
        return self._process.stage(name) if hasattr(self, "_process") else None

    async def _close(self, healthy: bool) -> None:
        """Release everything, bounded in time. A transaction left open would hold up the readers of its topics until it
        times out, so it is aborted, unless the task was killed or fenced: then the next `open` settles it.
        """
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                if healthy:
                    await self._transaction.close()
                for reader in self._readers.values():
                    await reader.close()
                for writer in self._writers.values():
                    await writer.close()
                if hasattr(self, "_process"):
                    await self._process.close()
        except TimeoutError:
            log.warning("Task did not release everything in time", task=str(self.id), seconds=CLOSE_TIMEOUT)
        except Exception as error:
            # Own code may fail here. It must not hide why the task ended, nor what else is to be released.
            log.exception("Task could not release everything", task=str(self.id), error=type(error).__name__)
        finally:
            self._state.close()
            self._transaction.abandon()

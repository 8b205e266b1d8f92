"""One pipeline on this node: checked, joined to its group, and which of its tasks are this node's to run."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Any, TypeVar

import structlog

from streamd.clock import Clock
from streamd.codecs.beside import owner_of
from streamd.component.context import PipelineContext
from streamd.config.pipeline import ComponentConfig
from streamd.errors import FatalError, TransientError
from streamd.observability.status import ErrorStatus
from streamd.plan.graph import PartPlan, PipelinePlan
from streamd.plan.loops import refuse_loops
from streamd.record import TaskId
from streamd.runtime.assembly import codecs_of, registry_of
from streamd.runtime.backoff import Failures, RestartPolicy, fault_of, next_delay
from streamd.runtime.control import Fault, Load, Member, SchemaChange
from streamd.runtime.faults import fault_point
from streamd.supervisor.membership import (
    Group,
    GroupFactory,
    KafkaGroup,
    Ownership,
    group_of,
    group_topic,
    partitions_of,
)  # fmt: skip
from streamd.supervisor.sizes import refuse_sizes, size_of
from streamd.supervisor.standbys import Ready, warm_on_disk
from streamd.transport.embedded.lock import hold, let_go, lock_path

log = structlog.get_logger(__name__)

T = TypeVar("T")
PREPARE_TIMEOUT = 60.0  # seconds for one attempt to check one component
LEAVE_TIMEOUT = 5.0
MOST_SCHEMA_CHANGES = 500
# Seconds to wait for a worker before the group is joined all the same.
WARM_TIMEOUT = 10.0


class ManagedPipeline:
    """Desired state of one pipeline. `run` prepares it and holds its membership; the control loop reads the rest.

    `partitions`: how many each source has, None until it is known. `owned`: the tasks that are this node's. `over`:
    those of them that were read to their end. `since`: {owned task: the rebalance that brought it}; while that is the
    same, nobody else can have run it. `kept`, `came`, `went`: tasks, over all rebalances. `failure`: why it is stopped
    for good. `copied`: says whether a standby copy that is kept here would be used. `node`: where this node's HTTP
    server is to be found, "" nowhere; `nodes`: {where those of the group are: how many}. `unreachable`: a sentence for
    each component whose server cannot be reached now, since `waiting_since` (monotonic seconds).
    """

    keeps_standbys = True

    def __init__(
        self,
        plan: PipelinePlan,
        version: int,
        context: PipelineContext,
        on_change: Callable[[], None],
        policy: RestartPolicy,
        group: GroupFactory = group_of,
    ) -> None:
        self.plan = plan
        self.name = plan.name
        self.version = version
        self.partitions: dict[str, int] | None = None
        self.owned: frozenset[TaskId] = frozenset()
        self.over: set[TaskId] = set()
        self.member: Member | None = None
        self.joined = False
        self.rebalances = 0
        self.since: dict[TaskId, int] = {}
        self.kept = self.came = self.went = 0
        self.failure: Fault | None = None
        self.error: ErrorStatus | None = None
        self.unreachable: dict[str, str] = {}
        # {(source, kind, path, type now): the change as it was first seen}
        self.schema_changes: dict[tuple[str, ...], SchemaChange] = {}
        self.waiting_since: float | None = None
        self.task_restarts = 0
        self.copied: Ready = lambda task: None
        self.node = ""
        self.nodes: Mapping[str, int] = {}
        # Partition numbers of which this node keeps copies, and whether it was said that there is no node for them.
        self._copies: frozenset[int] = frozenset()
        self._alone = False
        self._progress: dict[TaskId, float] = {}
        self.released = False
        self._context = context
        self._make_group = group
        self._on_change = on_change
        self._policy = policy
        # Set by who runs its tasks, once they could be run at once.
        self.warm = asyncio.Event()
        self._release = asyncio.Event()
        self._sources: dict[str, Any] = {}
        self._group: Group | None = None
        self._lock = lock_path(context.state_dir, plan.name)
        self._holds = False

    @property
    def clock(self) -> Clock:
        return self._context.clock

    @property
    def ready(self) -> bool:
        """Whether it is known what to run here, and it may be run."""
        return self.partitions is not None and self.joined and self.failure is None

    @property
    def awaited(self) -> bool:
        """Whether it is about to be ready, as far as one can tell."""
        return not self.joined and self.failure is None and not self.unreachable

    @property
    def desired(self) -> frozenset[TaskId]:
        """The tasks that should run here now."""
        return self.owned - self.over if self.ready else frozenset()

    @property
    def standbys(self) -> frozenset[TaskId]:
        """The tasks of other nodes of whose state a copy should be kept here now."""
        return self._stateful(self._copies) - self.owned if self.ready else frozenset()

    @property
    def drained(self) -> bool:
        """Whether all it had to do here is done: every input was bounded and is at its end."""
        return self.ready and bool(self.owned) and not self.desired

    def tasks_of(self, part: PartPlan) -> int:
        """How many tasks a part has, over all nodes; 0 while that is not known."""
        return 0 if self.partitions is None else self._tasks(part)

    def ended(self, task: TaskId) -> None:
        """A task has read its input to the end. Who reads what it gave through an exchange has to look once more."""
        self.over.add(task)
        behind = {part.index for part in self.plan.parts if task.part in self._writers_of(part)}
        self.over = {done for done in self.over if done.part not in behind}

    def _writers_of(self, part: PartPlan) -> set[int]:
        """The parts that write to the exchanges that a part reads."""
        return {writer.index for source in part.sources if (writer := self.plan.writer_of(source)) is not None}

    def load(self) -> Load:
        """The order that makes the pipeline known to a worker."""
        config = self.plan.config
        file = None if config.file is None else str(config.file)
        # A copy: the counts grow, and what was sent is compared with what there is to send.
        return Load(self.name, self.version, file, config.text, dict(self.partitions or {}), dict(config.imports))

    def fail(self, fault: Fault) -> None:
        """Stop it for good. Its tasks are drained by the control loop. The first reason counts."""
        self.note(fault)
        if self.failure is None:
            self.failure = fault
            self.say_failed(fault)
            self._on_change()

    def say_failed(self, fault: Fault) -> None:
        """Tell people that it failed for good."""
        log.error("Pipeline failed", pipeline=self.name, error=fault.error, message=fault.message)

    def say_unexpected(self, error: BaseException) -> None:
        """Tell people of an error that nobody thought of, with its traceback."""
        log.error("Pipeline cannot be prepared", pipeline=self.name, exc_info=error)

    def schema_changed(self, change: SchemaChange) -> None:
        """A worker has seen a change of a source; others may have seen it before."""
        key = (change.source, change.kind, change.path, change.now)
        if key in self.schema_changes or len(self.schema_changes) < MOST_SCHEMA_CHANGES:
            known = self.schema_changes.get(key, change)
            self.schema_changes[key] = min(known, change, key=lambda each: each.at)

    def note(self, fault: Fault) -> None:
        """Remember an error for status, whether it passes or not."""
        self.error = ErrorStatus(fault.error, fault.message, self.clock.now_ms())

    def progress_of(self, task: TaskId) -> float:
        """When the task last made progress, or came to this node. Monotonic seconds."""
        return self._progress.get(task, 0.0)

    def progressed(self, task: TaskId, at: float) -> None:
        """The task made progress, in whatever process."""
        if at > self._progress.get(task, at):
            self._progress[task] = at

    def release(self) -> None:
        """Nothing of it runs any more: leave the group and close. `run` then returns."""
        self._release.set()

    async def run(self) -> None:
        """Prepare, join, hold the membership until released or failed. Never raises but for a cancel."""
        work = asyncio.create_task(self._work(), name=f"membership of {self.name}")
        released = asyncio.create_task(self._release.wait())
        try:
            await asyncio.wait((work, released), return_when=asyncio.FIRST_COMPLETED)
            if not self._release.is_set() and (error := work.exception()) is not None:
                if fault_of(error).kind == "unexpected":
                    self.say_unexpected(error)
                self.fail(fault_of(error))
            await released
        finally:
            released.cancel()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await self._close()

    async def _work(self) -> None:
        """Prepare, join, and stay a member. Returns only for a pipeline without a group; raises what ends it."""
        if any(part.transport == "embedded" for part in self.plan.parts):
            await hold(self._lock, self.name)
            self._holds = True
        self._sources = {s.id: self._make(s) for part in self.plan.parts for s in part.sources}
        self.partitions = await self._prepare()
        group = self._group = self._make_group(self.plan, self._context)
        if group is None:
            self._own({self._task(part, p) for part in self.plan.parts for p in range(self._tasks(part))})
        else:
            if isinstance(group, KafkaGroup):
                group.advertise(self.node)
            if self.keeps_standbys and isinstance(group, KafkaGroup):
                group.keep_standbys(self._wanted_copies, self._warm)
            # Who joins takes partitions from others at once: they should not lie idle until a worker is up.
            self._on_change()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WARM_TIMEOUT):
                    await self.warm.wait()
            while not await self._member_of(group):
                pass

    async def _member_of(self, group: Group) -> bool:
        """Join, and stay a member. True once left on purpose, False when membership ended by what may pass."""
        await self._until_reachable(None, lambda: group.join(self._owned_now, self._lost))
        try:
            await group.wait()
        except TransientError as error:
            self.note(fault_of(error))
            log.warning("Pipeline joins its group anew", pipeline=self.name, message=str(error))
            self._lost()
            await asyncio.sleep(self._policy.initial)
            return False
        return True

    def _make(self, component: ComponentConfig) -> Any:
        return component.spec.factory(component.settings, self._context)

    async def _prepare(self) -> dict[str, int]:
        """Check all sources and sinks, as long as it takes; returns the sources' partitions."""
        for part in self.plan.parts:
            refuse_loops(part, self.name, self._context.base_dir)
        tables = self.plan.config.tables
        for component in (*tables, *(c for part in self.plan.parts for c in part.all_sinks)):
            instance = self._make(component)
            try:
                await self._until_reachable(component, instance.prepare)
            finally:
                await instance.close()
        partitions: dict[str, int] = {}
        waiting = [component for part in self.plan.parts for component in part.sources]
        while waiting:
            component = waiting.pop(0)
            source, prepare = self._sources[component.id], self._sources[component.id].prepare
            if component.name == "exchange":
                size = size_of(self.plan, component, partitions)
                if size is None:
                    waiting.append(component)
                    continue
                prepare = partial(source.create_for, size)
            await self._until_reachable(component, prepare)
            partitions[component.id] = await self._until_reachable(component, source.partitions)
        refuse_sizes(self.plan, partitions)
        await self._prepare_formats()
        return partitions

    async def _prepare_formats(self) -> None:
        """Have schemas registered, and what else formats need, before any worker does the same."""
        ends = [component for part in self.plan.parts for component in (*part.sources, *part.all_sinks)]
        registry = registry_of(self._context)
        codecs = codecs_of(ends, self._context.base_dir, registry)
        try:
            by_id = {component.id: component for component in ends}
            for name, codec in codecs.items():
                await self._until_reachable(by_id[owner_of(name)], codec.prepare)
        finally:
            for codec in codecs.values():
                await codec.close()
            if registry is not None:
                await registry.close()

    def _owned_now(self, ownership: Ownership) -> None:
        """A generation begins. Tasks that stay go on in it."""
        assert self.partitions is not None
        fault_point("in_assign")
        for part in self.plan.parts:
            for source in part.sources:
                count = ownership.counts.get(group_topic(source) or "", 0)
                self.partitions[source.id] = max(self.partitions[source.id], count)
        try:
            refuse_sizes(self.plan, self.partitions)
        except FatalError as error:
            self.fail(fault_of(error))
            return
        self.member = ownership.member
        self.rebalances += 1
        self._copies = ownership.standbys
        self.nodes = ownership.nodes
        self._say_copies(ownership.copies)
        if any(self._writers_of(part) for part in self.plan.parts):
            # Who reads an exchange on a node that has just come has to hear from its writers that they are over.
            self.over.clear()
        self._own(
            {
                self._task(part, partition)
                for part in self.plan.parts
                for partition in partitions_of(part, ownership.partitions, self._tasks(part))
            }
        )

    def _stateful(self, partitions: Collection[int]) -> frozenset[TaskId]:
        """The tasks of these partitions whose state can be copied: exact, and in changelogs of Kafka."""
        return frozenset(
            self._task(part, partition)
            for part in self.plan.parts
            if part.copyable(self.plan.config.delivery) and any(group_topic(source) for source in part.sources)
            for partition in partitions
            if partition < self._tasks(part)
        )

    @property
    def _wanted_copies(self) -> int:
        return self.plan.config.state_standbys if self._stateful((0,)) else 0

    def _warm(self) -> frozenset[int]:
        """The partition numbers of which everything that is kept is here on disk, and would be used."""
        if not self.plan.config.state_snapshots:
            return frozenset()
        every = range(max(self._tasks(part) for part in self.plan.parts))
        tasks = self._stateful(every)
        known = {task: self.copied(task) for task in tasks}
        folder = self._context.state_dir / "snapshots"
        warm = warm_on_disk(folder, [task for task in tasks if known[task] is None])
        cold = {task.partition for task in tasks if not known[task] and task not in warm}
        return frozenset(task.partition for task in tasks) - cold

    def _say_copies(self, copies: int) -> None:
        """Say it once, when there is no node for copies that are wanted, and when there is one again."""
        wanted = self._wanted_copies
        if (copies < wanted) != self._alone:
            self._alone = copies < wanted
            text = "There are too few nodes for standby copies" if self._alone else "Standby copies are kept"
            log.info(text, pipeline=self.name, standbys=wanted, copies=copies)

    def _lost(self) -> None:
        """Evicted: what runs can not commit, and is to end. The next generation starts it anew."""
        log.warning("Pipeline lost its place in its group", pipeline=self.name)
        self.went += len(self.owned)
        self.owned = frozenset()
        self.since = {}
        self.joined = False
        self._copies = frozenset()
        self._on_change()

    def _own(self, tasks: set[TaskId]) -> None:
        now = self.clock.monotonic()
        self._progress = {task: self._progress.get(task, now) for task in tasks}
        self.over &= tasks
        stay = tasks & self.owned
        self.kept += len(stay)
        self.came += len(tasks) - len(stay)
        self.went += len(self.owned) - len(stay)
        self.since = {task: self.since[task] if task in stay else self.rebalances for task in tasks}
        self.owned = frozenset(tasks)
        self.joined = True
        self._on_change()

    def _tasks(self, part: PartPlan) -> int:
        """How many tasks the part has: one for each partition of the source that has most."""
        assert self.partitions is not None
        return max(self.partitions[source.id] for source in part.sources)

    def _task(self, part: PartPlan, partition: int) -> TaskId:
        return TaskId(self._context.app, self.name, part.index, partition)

    async def _until_reachable(self, component: ComponentConfig | None, act: Callable[[], Awaitable[T]]) -> T:
        """Act, again and again with back-off while that fails with a transient error. Raises any other."""
        failures = Failures()
        name = f"group of {self.name}" if component is None else f"{component.kind} {component.id}"
        while True:
            try:
                async with asyncio.timeout(PREPARE_TIMEOUT):
                    result = await act()
            except Exception as error:
                fault = fault_of(error)
                if fault.kind not in ("transient", "fenced"):
                    raise
            else:
                self.unreachable.pop(name, None)
                self.waiting_since = None if not self.unreachable else self.waiting_since
                return result
            failures = failures.and_one(fault.kind)
            self.unreachable[name] = f"{name}: {fault.message}"
            self.waiting_since = self.waiting_since or self.clock.monotonic()
            self.note(fault)
            delay = next_delay(self._policy, failures, random.random())
            log.warning(
                "Pipeline waits for a server",
                pipeline=self.name, component=name, error=fault.error, message=fault.message,
                delay_seconds=round(delay, 1),
            )  # fmt: skip
            self._on_change()
            await asyncio.sleep(delay)

    async def _close(self) -> None:
        closing = [source.close() for source in self._sources.values()]
        if self._group is not None:
            closing.insert(0, self._group.leave())
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT):
                await asyncio.gather(*closing, return_exceptions=True)
        except TimeoutError:
            log.warning("Pipeline was not closed in time", pipeline=self.name)
        if self._holds:
            let_go(self._lock)
        self.released = True
        self._on_change()

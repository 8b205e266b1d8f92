"""A pipeline's place in its Kafka group, held by the supervisor: who has which partitions, and until when.

The member never reads. There is no fetcher behind it, so nothing can be delivered, and nothing is awaited while a new
assignment arrives (aiokafka sends no heartbeats then). What it has to say goes to two callbacks: `on_assigned`, at once
and synchronous, and `on_revoked`, which has a third of the rebalance timeout to drain the tasks; heartbeats go on
meanwhile, and the coordinator still takes commits of the old generation.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka.client import ConnectionGroup
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import KafkaError, RequestTimedOutError
from aiokafka.protocol.group import JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest

from streamd.errors import FatalError, StreamdError, TransientError
from streamd.transport.kafka.admin import open_admin
from streamd.transport.kafka.assignor import TogetherAssignor, nodes_of, standbys_of, topic_counts
from streamd.transport.kafka.connection import connect, disconnect
from streamd.transport.kafka.error_codes import ends_aiokafka, meaning
from streamd.transport.kafka.failures import explain, missing_topic, unreachable
from streamd.transport.kafka.settings import KafkaSettings

log = structlog.get_logger(__name__)

# Milliseconds between heartbeats, a fifth of the session at most: a rebalance is noticed by them.
HEARTBEAT = 500
# Seconds that `on_assigned` may take before it is worth a warning: the member is silent while it runs.
ASSIGNED_LIMIT = 0.05
# Seconds between two looks at the coordinator's errors; also proves that the supervisor's loop turns.
_LOOK = 0.2
# Seconds before a new start after coordination broke down.
_PAUSE = 1.0
# Seconds to leave the group in; after that the session has to run out.
_LEAVE_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Membership:
    """Proof of membership, for `TxnOffsetCommit`: the coordinator refuses commits of another member or generation."""

    group: str
    member_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a member got in one generation.

    `partitions`: {topic: its partitions that are ours, ascending}, topics without any left out. `counts`: {topic:
    how many partitions it has}, as the group's leader saw it, for all topics. `rejoined`: the member was evicted
    and is a new one, so that nothing it had may be resumed warm. `standbys`: the partition numbers whose state this
    member is to keep copies of; `copies`: how many each has in the group, those that have fewest. `nodes`: {what
    members say as `node`: how many say so}, over all; empty when it is not known.
    """

    membership: Membership
    partitions: Mapping[str, tuple[int, ...]]
    counts: Mapping[str, int]
    rejoined: bool = False
    standbys: frozenset[int] = frozenset()
    copies: int = 0
    nodes: Mapping[str, int] = field(default_factory=dict)

    @property
    def numbers(self) -> frozenset[int]:
        """The partition numbers that are ours in any topic: the tasks to run."""
        return frozenset(number for numbers in self.partitions.values() for number in numbers)


def group_name(app: str, pipeline: str) -> str:
    """The group of a pipeline that does not name one. As with transactional ids, `app` tells deployments apart."""
    return f"streamd.{app}.{pipeline}"


def rebalance_timeout(settings: KafkaSettings) -> float:
    """Seconds that a rebalance waits for a member, as long as for one that is silent where nothing else is set.

    Members join at once, since their tasks go on meanwhile. One that does not is often none any more: the answer to its
    join was lost, and it has joined as another.
    """
    set_to = settings.option("consumer", "rebalance.timeout.ms")
    return float(set_to or settings.option("consumer", "session.timeout.ms")) / 1000


class GroupMember:
    """One member of the group `group`, subscribed to `topics`.

    `on_assigned(assignment)` must return at once and must not fail. `on_revoked()` is awaited before the rebalance goes
    on, for at most `revoke_budget` seconds; then it is cancelled. It is also called when the member was evicted, with
    `membership` None: then nothing can be committed any more. Both run on the loop that called `start`.
    `capacity`: how much this node can carry, in proportion to others. `remembered`: partition numbers whose state lies
    on this node's disk; they come back to it if nobody else has them. `copies`: how many standby copies of each
    partition's state there are to be, 0 from a member that keeps none; `warm()`: of which it has one, asked at each
    join. `node`: a text that all members are told.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        group: str,
        topics: Collection[str],
        on_assigned: Callable[[Assignment], None],
        on_revoked: Callable[[], Awaitable[None]],
        *,
        capacity: int = 1,
        remembered: Collection[int] = (),
        copies: int = 0,
        warm: Callable[[], Collection[int]] = tuple,
        node: str = "",
    ) -> None:
        if not topics:
            raise ValueError("a member of a group needs at least one topic")
        self.group = group
        self.topics = frozenset(topics)
        self._settings = settings
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._assignor = TogetherAssignor(capacity, remembered, copies, warm, node)
        self._client: Any = None
        self._coordinator: _Coordinator | None = None
        self._subscription: Any = None
        self._assignment: Assignment | None = None
        self._known_as: str | None = None
        self._joined = asyncio.Event()
        self._ended: asyncio.Future[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def revoke_budget(self) -> float:
        """Seconds that `on_revoked` may take."""
        return rebalance_timeout(self._settings) / 3

    @property
    def assignment(self) -> Assignment | None:
        """What is ours now; None before the first assignment, during a rebalance and after an eviction."""
        return self._assignment

    @property
    def membership(self) -> Membership | None:
        """What commits are valid with: the assignment's, also while `on_revoked` drains; None once evicted."""
        coordinator = self._coordinator
        if coordinator is None or coordinator.generation < 0 or not coordinator.member_id:
            return None
        return Membership(self.group, coordinator.member_id, coordinator.generation)

    @property
    def last_heartbeat(self) -> float | None:
        """When the coordinator last confirmed us, on the monotonic clock."""
        return self._coordinator.last_confirmed if self._coordinator is not None else None

    async def start(self) -> None:
        """Join the group, and return after the first `on_assigned`.

        Raises UnavailableError, AccessDeniedError, NotFoundError (a topic does not exist), FatalError. After an error
        or a cancel the member is closed.
        """
        if self._client is not None:
            raise RuntimeError("a member can be started only once; make a new one")
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        settings = self._settings
        async with open_admin(settings) as admin:
            found = await admin.topics(self.topics)
            for topic in sorted(self.topics):
                if topic not in found:
                    raise missing_topic(settings, topic)
        self._client = await connect(settings, f"join group {self.group}", "consumer")
        await self._client.set_topics(self.topics)
        self._ended = asyncio.get_running_loop().create_future()
        self._subscribe()
        self._watch = asyncio.create_task(self._look(), name=f"group {self.group}")
        joined: asyncio.Future[Any] = asyncio.ensure_future(self._joined.wait())
        # One rebalance for the others to drain, one more in case that somebody joins meanwhile.
        patience = 2 * rebalance_timeout(settings)
        try:
            done, _ = await asyncio.wait({joined, self._ended}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            joined.cancel()
        if self._ended in done:
            self._ended.result()
        if not done:
            raise unreachable(settings, f"join group {self.group}", f"no assignment within {patience:g} s")

    def _subscribe(self) -> None:
        self._subscription = SubscriptionState()
        self._subscription.register_fetch_waiters(set())
        self._subscription.subscribe(set(self.topics))
        self._coordinator = _Coordinator(self)

    async def wait(self) -> None:
        """Return when `stop` was called. Raises what ended the membership: AccessDeniedError, FatalError, or a
        TransientError that one of the callbacks raised.
        """
        if self._ended is None:
            raise RuntimeError("the member was not started")
        await asyncio.shield(self._ended)

    async def confirm(self) -> Membership | None:
        """Ask the coordinator now whether we are a member, and as what; None when we are not, or nobody answers.

        For a task that was fenced: only who is still a member may take its transactional id back.
        """
        coordinator, before = self._coordinator, self.membership
        if coordinator is None or before is None or not await coordinator.beat():
            return None
        return before if self.membership == before else None

    async def leave(self) -> None:
        """Leave the group at once and close: others get the partitions. Drain first, `on_revoked` is not called."""
        await self.stop()

    async def stop(self) -> None:
        """Leave if still a member, stop everything and close; bounded in time, never raises, can be called again."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        coordinator, self._coordinator = self._coordinator, None
        if coordinator is not None:
            await coordinator.shut()
        self._assignment = None
        if self._client is not None:
            await disconnect(self._client)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    async def _look(self) -> None:
        """Take the errors that the coordinator parks (it stands still until somebody does), and keep it going."""
        while self._coordinator is not None and self._ended is not None:
            self._subscription._last_fetch_ended = time.monotonic()
            try:
                self._coordinator.check_errors()
            except Exception as error:
                if self._coordinator.finished or not isinstance(error, KafkaError):
                    await self._begin_anew(error)
                    continue
                found = explain(error, self._settings, f"be a member of group {self.group}", group=self.group)
                if not isinstance(found, TransientError):
                    self._end(found)
                    return
                log.warning("group coordinator failed, trying again", group=self.group, error=str(found))
            await asyncio.sleep(_LOOK)

    async def _begin_anew(self, error: Exception) -> None:
        """aiokafka's coordination ended by an error that nobody foresaw: leave, and join as a new member."""
        log.error("coordination of a group ended, joining anew", group=self.group, error=str(error))
        broken = self._coordinator
        if broken is not None:
            await broken.shut()
        await self.revoked()
        await asyncio.sleep(_PAUSE)
        self._subscribe()

    def _end(self, error: StreamdError) -> None:
        self._assignment = None
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)
            self._ended.exception()  # `start` or `wait` may never be asked again; that is no unretrieved error

    async def revoked(self) -> None:
        """Called by the coordinator before it joins again."""
        assignment, self._assignment = self._assignment, None
        if assignment is None:
            return
        log.info("group rebalances", group=self.group, generation=assignment.membership.generation)
        try:
            async with asyncio.timeout(self.revoke_budget):
                await self._on_revoked()
        except TimeoutError:
            log.warning("tasks were not drained in time for a rebalance", group=self.group, budget=self.revoke_budget)
        except TransientError as error:
            self._end(error)
        except Exception as error:
            self._end(
                FatalError(f"draining for a rebalance of group {self.group} failed: {type(error).__name__}: {error}")
            )

    def assigned(self, generation: int, member_id: str, partitions: dict[str, list[int]], data: bytes | None) -> None:
        """Called by the coordinator with each new assignment; everything here is synchronous."""
        rejoined = self._known_as is not None and self._known_as != member_id
        self._known_as = member_id
        assignment = Assignment(
            Membership(self.group, member_id, generation),
            {topic: tuple(sorted(numbers)) for topic, numbers in sorted(partitions.items())},
            topic_counts(data),
            rejoined,
            *standbys_of(data),
            nodes_of(data),
        )
        self._assignor.joined(generation, assignment.numbers)
        self._assignment = assignment
        began = time.monotonic()
        try:
            self._on_assigned(assignment)
        except TransientError as error:
            self._end(error)
        except Exception as error:
            self._end(FatalError(f"taking on partitions of group {self.group} failed: {type(error).__name__}: {error}"))
        took = time.monotonic() - began
        if took > ASSIGNED_LIMIT:
            log.warning("taking on partitions held up the heartbeats", group=self.group, seconds=round(took, 3))
        log.info("group joined", group=self.group, generation=generation, partitions=sorted(assignment.numbers))
        self._joined.set()


class _Coordinator(GroupCoordinator):  # type: ignore[misc]
    """aiokafka's coordinator without its commits, its offset look-ups and its swallowing of callback errors."""

    def __init__(self, member: GroupMember) -> None:
        settings = member._settings
        session = settings.option("consumer", "session.timeout.ms")
        self._member = member
        self._rebalance_seconds = rebalance_timeout(settings)
        self.last_confirmed: float | None = None
        self.member_id: str
        self.generation: int
        super().__init__(
            member._client,
            member._subscription,
            group_id=member.group,
            session_timeout_ms=session,
            heartbeat_interval_ms=settings.option("consumer", "heartbeat.interval.ms") or min(session // 5, HEARTBEAT),
            retry_backoff_ms=settings.option("consumer", "retry.backoff.ms"),
            enable_auto_commit=False,
            assignors=(member._assignor,),
            max_poll_interval_ms=settings.option("consumer", "max.poll.interval.ms"),
            rebalance_timeout_ms=int(1000 * self._rebalance_seconds),
        )

    @property
    def finished(self) -> bool:
        return bool(self._coordination_task.done())

    async def beat(self) -> bool:
        """One heartbeat now; False when refused or not answered."""
        try:
            return await self._do_heartbeat()
        except KafkaError:
            return False

    async def _do_heartbeat(self) -> bool:
        confirmed = bool(await super()._do_heartbeat())
        if confirmed:
            self.last_confirmed = time.monotonic()
        return confirmed

    async def _on_join_prepare(self, previous_assignment: Any) -> None:
        self._subscription.begin_reassignment()
        self._group_subscription = None
        await self._member.revoked()

    async def _on_join_complete(self, generation: int, member_id: str, protocol: str, assignment_bytes: bytes) -> None:
        decoded = ConsumerProtocol.ASSIGNMENT.decode(assignment_bytes)
        self._subscription.assign_from_subscribed(decoded.partitions())
        self.last_confirmed = time.monotonic()
        partitions = {topic: numbers for topic, numbers in decoded.assignment if numbers}
        self._member.assigned(generation, member_id, partitions, decoded.user_data)

    async def _send_req(self, request: Any) -> Any:
        """An error that passes counts as no answer: at those that it does not foresee, aiokafka ends the membership."""
        # Joining waits until all others have drained: for that alone the answer may take a whole rebalance.
        patience = self._rebalance_seconds if isinstance(request, (JoinGroupRequest, SyncGroupRequest)) else 0.0
        group = ConnectionGroup.COORDINATION
        try:
            answer = await self._client.send(self.coordinator_id, request, group=group, patience=patience)
            if ends_aiokafka(code := getattr(answer, "error_code", 0)):
                await asyncio.sleep(_LOOK)
                raise RequestTimedOutError(f"the group's coordinator said {meaning(code).name}")
        except KafkaError as error:
            log.warning("no answer from the group's coordinator", group=self.group_id, error=str(error))
            self.coordinator_dead()
            raise
        return answer

    async def shut(self) -> None:
        """Stop all tasks at once and leave the group, within seconds."""
        if not self._closing.done():
            self._closing.set_result(None)
        tasks = [t for t in (self._coordination_task, self._heartbeat_task, self._commit_refresh_task) if t is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Also a member that never got an assignment has an id, and would hold up the others until its session ends.
        if self.member_id and self.coordinator_id is not None:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(_LEAVE_TIMEOUT):
                    # On another connection: a broker answers the next request on one only after a join that it holds.
                    leave = LeaveGroupRequest(self.group_id, self.member_id)
                    await self._client.send(self.coordinator_id, leave, group=ConnectionGroup.DEFAULT)
        self.generation, self.member_id = -1, ""

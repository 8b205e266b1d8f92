"""A pipeline's place in its group, as the supervisor holds it. The one file here that knows that groups are Kafka's."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from streamd.component.context import PipelineContext
from streamd.config.pipeline import ComponentConfig
from streamd.errors import ConfigError
from streamd.plan.graph import PartPlan, PipelinePlan
from streamd.runtime.control import Member
from streamd.runtime.faults import fault_point


@dataclass(frozen=True, slots=True)
class Ownership:
    """What a group gave to this node in one generation.

    `partitions`: (topic, partition) pairs. `counts`: how many partitions each topic has, as the group saw it.
    `standbys`: partition numbers of which this node keeps standby copies; `copies`: how many each has in the group.
    `nodes`: {where members' HTTP servers are: how many say so}, "" for those that do not; empty when it is not known.
    """

    member: Member
    partitions: frozenset[tuple[str, int]]
    counts: dict[str, int] = field(default_factory=dict)
    standbys: frozenset[int] = frozenset()
    copies: int = 0
    nodes: Mapping[str, int] = field(default_factory=dict)


class Group(Protocol):
    """One pipeline's membership. Calls back on the loop that joined; neither callback may block."""

    async def join(self, on_owned: Callable[[Ownership], None], on_lost: Callable[[], None]) -> None:
        """Return once the first generation is there. `on_owned` is called for it and for each later one.

        `on_lost`: this node was evicted; nothing that its tasks did since can be committed. A new generation follows.
        Raises UnavailableError, AccessDeniedError, NotFoundError, FatalError; it may be called again after one.
        """

    async def wait(self) -> None:
        """Return after `leave`. Raises what ended the membership; `join` may be called again after a TransientError."""

    async def leave(self) -> None:
        """Leave, so that others take over at once. Bounded in time; never raises."""


GroupFactory = Callable[[PipelinePlan, PipelineContext], Group | None]


def group_of(plan: PipelinePlan, context: PipelineContext) -> Group | None:
    """The pipeline's group, or None when it reads nothing that is shared out by one. Raises ConfigError."""
    sources = [source for part in plan.parts for source in part.sources if group_topic(source) is not None]
    if not sources:
        return None
    names = sorted({name for source in sources if (name := getattr(source.settings, "group", None)) is not None})
    if len(names) > 1:
        raise ConfigError(f"The sources of pipeline {plan.name} name several groups, {', '.join(names)}; one is right.")
    topics = frozenset(topic for source in sources if (topic := group_topic(source)) is not None)
    return KafkaGroup(context, names[0] if names else None, topics)


def group_topic(source: ComponentConfig) -> str | None:
    """The topic that a source reads as a member of the pipeline's group, None for one that needs no group."""
    return source.settings.topic if source.spec.transport == "kafka" else None  # type: ignore[attr-defined]


def partitions_of(part: PartPlan, owned: frozenset[tuple[str, int]], tasks: int) -> frozenset[int]:
    """Which partitions of a part are this node's. A part that reads no topic of the group belongs to every node."""
    topics = {topic for source in part.sources if (topic := group_topic(source)) is not None}
    if not topics:
        return frozenset(range(tasks))
    return frozenset(partition for topic, partition in owned if topic in topics)


class KafkaGroup:
    """A group of Kafka, through a member that never reads."""

    def __init__(self, context: PipelineContext, group: str | None, topics: frozenset[str]) -> None:
        # By name: a node without Kafka must not pay for importing a client of it.
        self._kafka = importlib.import_module("streamd.transport.kafka.membership")
        self._settings = context.kafka
        self._group = group or self._kafka.group_name(context.app, context.pipeline)
        self._topics = topics
        self._member: Any = None
        self._copies = 0
        self._warm: Callable[[], Collection[int]] = tuple
        self._node = ""

    def advertise(self, node: str) -> None:
        """Before `join`: all members are told that this node's HTTP server is to be found there."""
        self._node = node

    def keep_standbys(self, copies: int, warm: Callable[[], Collection[int]]) -> None:
        """Before `join`: there are to be so many copies of each task's state, and `warm()` are here already."""
        self._copies, self._warm = copies, warm

    async def join(self, on_owned: Callable[[Ownership], None], on_lost: Callable[[], None]) -> None:
        await self.leave()

        def assigned(assignment: Any) -> None:
            if assignment.rejoined:
                on_lost()
            proof = assignment.membership
            pairs = frozenset((topic, p) for topic, numbers in assignment.partitions.items() for p in numbers)
            member = Member(proof.group, proof.member_id, proof.generation)
            counts, nodes = dict(assignment.counts), dict(assignment.nodes)
            on_owned(Ownership(member, pairs, counts, assignment.standbys, assignment.copies, nodes))

        async def revoked() -> None:
            # Tasks go on meanwhile: the coordinator takes commits of the old generation until the new one is there,
            # those that stay are told of it at once, and those that leave are fenced by their new owner.
            fault_point("in_revoke")
            if made.membership is None:
                on_lost()

        made = self._kafka.GroupMember(
            self._settings, self._group, self._topics, assigned, revoked,
            copies=self._copies, warm=self._warm, node=self._node,
        )  # fmt: skip
        self._member = made
        await made.start()

    async def wait(self) -> None:
        if self._member is not None:
            await self._member.wait()

    async def leave(self) -> None:
        member, self._member = self._member, None
        if member is not None:
            await member.stop()

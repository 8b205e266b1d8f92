"""Who else runs a task of ours: another deployment with the same app and pipeline, found by what it has committed.

Asked only after a fence that no rebalance explains. A deployment that commits to another group fences each task of ours
by its transactional id, and no generation keeps the two apart; its commits carry its signature (`positions`). A task
without a Kafka source has one record of positions, which whoever runs it writes. Two that fence each other may both
never get as far as their positions: each that asks leaves its signature beside them, outside any transaction.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from aiokafka.protocol.admin import DescribeGroupsRequest, ListGroupsRequest

from streamd.component.context import PipelineContext
from streamd.errors import StreamdError
from streamd.observability.identity import Rival, identity
from streamd.record import TaskId
from streamd.transport.kafka.client import KafkaClient
from streamd.transport.kafka.coordinator import GROUP, Coordinator
from streamd.transport.kafka.leases import ClientLease
from streamd.transport.kafka.membership import group_name
from streamd.transport.kafka.position_store import TopicPositions
from streamd.transport.kafka.positions import FENCED, Signature, signature_in
from streamd.transport.kafka.protocol import OffsetFetch
from streamd.transport.kafka.topic import cluster_of

log = logging.getLogger("streamd.kafka")

_WITHIN: Final = 8.0  # seconds for all of it
_REQUEST: Final = 3.0
_GROUPS: Final = 2_000  # of a cluster with more, those whose names look like ours come first
_AT_ONCE: Final = 16
_LATELY: Final = 20  # commits: a hand-over between nodes is forgotten after as many
_CONNECTION: Final = "rivals"


async def rival_of(task: TaskId, sources: Sequence[Any], context: PipelineContext) -> Rival | None:
    """Whoever runs the task under another group, or last committed a task without one; None when nobody is found.

    `sources`: the `ComponentConfig`s of the task's part. Never raises: what may not be seen is not found.
    """
    settings = cluster_of(context, f"task {task}")
    kafka = [source for source in sources if source.spec.transport == "kafka"]
    named = (source.settings.group for source in kafka if source.settings.group)
    group = next(named, group_name(task.app, task.pipeline))
    own = {(source.settings.topic, task.partition) for source in kafka}
    lease = ClientLease(settings, "producer")
    try:
        async with asyncio.timeout(_WITHIN):
            await lease.client.start(_REQUEST)
            found = await (_in_groups(lease.client, task, group, own) if kafka else _in_topic(lease.client, task))
    except (StreamdError, TimeoutError) as error:
        log.debug("who else runs %s is not known: %r", task, error)
        return None
    finally:
        lease.client.release(_CONNECTION)
        lease.give_back()
    return max(found, key=lambda rival: (rival.who.since, rival.number), default=None)


async def _in_topic(client: KafkaClient, task: TaskId) -> list[Rival]:
    """Who else wrote positions of the task lately, or was fenced. At work for sure, if that was after we wrote.

    Transactions that were fenced count as well: two that fence each other may never get to commit.
    """
    positions = TopicPositions(client, task, create=False)
    try:
        await positions.sign_fenced(_REQUEST)
    except StreamdError as error:
        log.debug("that %s was fenced here cannot be told to others: %r", task, error)
    documents = await positions.written(_REQUEST)
    lately = len(documents) - _LATELY
    found: list[Rival] = []
    ours = False
    for index, (offset, text) in enumerate(documents):
        signed = signature_in(text)
        if signed is None:
            continue
        ours |= signed.who.same(identity())
        if index >= lately or signed.number == FENCED:
            numbered = replace(signed, number=offset)
            found += _foreign([numbered], task, f"topic {positions.topic}", at_work=ours)
    return found[-1:]


async def _in_groups(client: KafkaClient, task: TaskId, ours: str, own: Collection[tuple[str, int]]) -> list[Rival]:
    """`ours`: our own group. `own`: the partitions that the task reads."""
    names = sorted(await _groups(client) - {ours}, key=lambda name: (not name.startswith("streamd."), name))
    slots = asyncio.Semaphore(_AT_ONCE)

    async def look(group: str) -> list[Rival]:
        async with slots:
            try:
                # What is committed may be of an earlier life of who is a member now: only a next commit tells.
                signatures = await _signatures(client, group, own)
                return list(_foreign(signatures, task, f"group {group}", at_work=False))
            except StreamdError as error:
                log.debug("what group %s has committed is not known: %r", group, error)
                return []

    found = [rival for rivals in await asyncio.gather(*map(look, names[:_GROUPS])) for rival in rivals]
    # Offsets outlive their deployment by a week: only a group with members is at work.
    return [rival for rival in found if await _has_members(client, rival.where.removeprefix("group "))]


def _foreign(signatures: Sequence[Signature], task: TaskId, where: str, at_work: bool) -> Iterator[Rival]:
    for signed in signatures:
        if signed.pipeline == f"{task.app}.{task.pipeline}" and not signed.who.same(identity()):
            yield Rival(signed.who, where, signed.number, at_work)


async def _groups(client: KafkaClient) -> set[str]:
    """The names of all consumer groups that we may see."""
    answers = [
        await client.send(node, ListGroupsRequest(), _CONNECTION, _REQUEST) for node in await client.nodes(_REQUEST)
    ]
    return {name for answer in answers if not answer.error_code for name, kind in answer.groups if kind != "share"}


async def _signatures(client: KafkaClient, group: str, own: Collection[tuple[str, int]]) -> list[Signature]:
    """Who has committed the task's own partitions; where nobody says, who has committed the others."""
    answer = await Coordinator(client, GROUP, group, _CONNECTION).ask(
        OffsetFetch(group, None, False, {}),
        lambda answer: {answer.error_code},
        f"give the offsets of group {group}",
        _REQUEST,
        repeatable=True,
    )
    every = {(topic, part[0]): _signed(part[3]) for topic, parts, _ in answer.topics for part in parts}
    found = {place: signed for place, signed in every.items() if signed is not None}
    return [signed for place, signed in found.items() if place in own] or list(found.values())


def _signed(metadata: str | None) -> Signature | None:
    return signature_in(metadata) if metadata else None


async def _has_members(client: KafkaClient, group: str) -> bool:
    answer = await Coordinator(client, GROUP, group, _CONNECTION).ask(
        DescribeGroupsRequest([group]),
        lambda answer: {answer.groups[0][0]},
        f"describe group {group}",
        _REQUEST,
        repeatable=True,
    )
    return bool(answer.groups[0][5])

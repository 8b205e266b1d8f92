"""What the control plane asks of a cluster: its topics, their offsets, its groups; it makes missing topics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import (
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    DescribeGroupsRequest,
)
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

from streamd.errors import FatalError, StreamdError, TransientError
from streamd.transport.kafka.connection import connect, disconnect
from streamd.transport.kafka.error_codes import meaning
from streamd.transport.kafka.failures import explain, missing_topic, of_code
from streamd.transport.kafka.settings import KafkaSettings

Result = TypeVar("Result")
When = Literal["earliest", "latest"]
_AT: Mapping[str, int] = {"latest": -1, "earliest": -2}
_READ_COMMITTED = 1
_NOT_CONTROLLER, _TOPIC_EXISTS, _UNKNOWN_TOPIC, _TOO_FEW_BROKERS = 41, 36, 3, 38
# Seconds. A broker that comes back counts only after its first heartbeats; one that takes longer is missing.
_COMING_BACK = 5.0
# Pause before something is asked again that is not there yet (leaders of a new topic, a coordinator that moved).
_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class Broker:
    """One broker as it calls itself to clients."""

    id: int
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """The brokers that are up, and which of them is the controller (-1: none)."""

    controller: int
    brokers: tuple[Broker, ...]


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: how many partitions, how many replicas each, how many of the partitions have no leader just now."""

    name: str
    partitions: int
    replication_factor: int
    leaderless: int


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a group. `partitions`: {topic: its partitions}."""

    id: str
    client_id: str
    host: str
    partitions: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group. `state` as Kafka calls it: Stable, PreparingRebalance, CompletingRebalance, Empty, Dead."""

    name: str
    state: str
    protocol: str
    members: tuple[Member, ...]


@asynccontextmanager
async def open_admin(settings: KafkaSettings) -> AsyncIterator[KafkaAdmin]:
    """`async with open_admin(settings) as admin:` connected, and closed at the end. Errors: `KafkaAdmin.start`."""
    admin = KafkaAdmin(settings)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


class KafkaAdmin:
    """Administrative calls over one connection to each broker.

    Every call tries again what may pass by itself, until `default.api.timeout.ms` (30 s) is over. All raise
    UnavailableError when no broker answered in that time, AccessDeniedError, and FatalError for what Kafka refuses.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._timeout: float = settings.option("admin", "default.api.timeout.ms") / 1000
        self._client: Any = None

    async def start(self) -> None:
        """Connect. Raises UnavailableError, AccessDeniedError, NotFoundError (a TLS file), FatalError."""
        self._client = await connect(self._settings, "connect")

    async def close(self) -> None:
        """Disconnect; never raises."""
        if self._client is not None:
            client, self._client = self._client, None
            await disconnect(client)

    async def cluster(self) -> Cluster:
        """The brokers that are up now."""
        answer = await self._metadata([], "describe the cluster")
        brokers = tuple(Broker(node, host, port) for node, host, port, *_ in answer.brokers)
        return Cluster(answer.controller_id, brokers)

    async def topics(self, names: Collection[str] | None = None) -> dict[str, Topic]:
        """The topics of these names that exist, all topics when None. Asking does not make a topic.

        Raises AccessDeniedError for a topic that may not be described.
        """
        if names is not None and not names:
            return {}
        wanted = None if names is None else sorted(names)
        answer = await self._metadata(wanted, f"describe topics {', '.join(wanted or ['*'])}")
        found: dict[str, Topic] = {}
        for code, name, _, partitions in answer.topics:
            if code == _UNKNOWN_TOPIC:
                continue
            if code and not meaning(code).retriable:
                raise of_code(code, self._settings, f"describe topic {name}", topic=name)
            replicas = min((len(part[3]) for part in partitions), default=0)
            found[name] = Topic(name, len(partitions), replicas, sum(part[2] < 0 for part in partitions))
        return found

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has. Raises NotFoundError."""
        found = (await self.topics([topic])).get(topic)
        if found is None or found.partitions == 0:
            raise missing_topic(self._settings, topic)
        return found.partitions

    async def create_topic(
        self,
        name: str,
        partitions: int | None = None,
        replication_factor: int | None = None,
        config: Mapping[str, str] | None = None,
    ) -> bool:
        """Make a topic and wait until every partition has a leader; False when it was there already, as it is.

        `partitions` and `replication_factor`: the broker's own defaults when None. Raises FatalError when Kafka refuses
        (a name or a setting that is not valid, more replicas than brokers).
        """
        settings = [(key, str(value)) for key, value in (config or {}).items()]
        request = CreateTopicsRequest(
            [(name, partitions or -1, replication_factor or -1, [], settings)], int(self._timeout * 1000), False
        )
        doing = f"create topic {name}"
        begun = time.monotonic()

        async def attempt() -> bool:
            answer = await self._to_controller(request)
            _, code, detail = answer.topic_errors[0]
            if code == _TOPIC_EXISTS:
                return False
            if code == _TOO_FEW_BROKERS and time.monotonic() < begun + min(_COMING_BACK, self._timeout / 2):
                raise _NotYetError(f"topic {name} cannot be made with the brokers that are there: {detail}")
            self._raise(code, doing, topic=name, detail=detail)
            return True

        created = await self._until(doing, attempt, topic=name)
        await self.wait_for_leaders(name, partitions if created else None)
        return created

    async def ensure_topic(
        self,
        name: str,
        create: bool,
        partitions: int | None = None,
        replication_factor: int | None = None,
        config: Mapping[str, str] | None = None,
    ) -> Topic:
        """The topic, made first when it is missing and `create` allows it. Raises NotFoundError when it does not."""
        found = (await self.topics([name])).get(name)
        if found is None:
            if not create:
                raise missing_topic(self._settings, name)
            await self.create_topic(name, partitions, replication_factor, config)
            found = (await self.topics([name])).get(name)
            if found is None:
                raise TransientError(f"topic {name} was made, and is gone again: does somebody else delete it?")
        return found

    async def create_partitions(self, topic: str, count: int) -> None:
        """Give a topic more partitions, `count` in all, and wait for their leaders."""
        request = CreatePartitionsRequest([(topic, (count, None))], int(self._timeout * 1000), False)
        doing = f"give topic {topic} {count} partitions"

        async def attempt() -> None:
            answer = await self._to_controller(request)
            _, code, detail = answer.topic_errors[0]
            self._raise(code, doing, topic=topic, detail=detail)

        await self._until(doing, attempt, topic=topic)
        await self.wait_for_leaders(topic, count)

    async def delete_topics(self, names: Collection[str]) -> None:
        """Delete topics; one that does not exist is not an error."""
        request = DeleteTopicsRequest(sorted(names), int(self._timeout * 1000))
        doing = f"delete topics {', '.join(sorted(names))}"

        async def attempt() -> None:
            answer = await self._to_controller(request)
            for name, code in answer.topic_error_codes:
                if code != _UNKNOWN_TOPIC:
                    self._raise(code, doing, topic=name)

        if names:
            await self._until(doing, attempt)

    async def wait_for_leaders(self, topic: str, partitions: int | None = None) -> None:
        """Return when the topic is there, with as many partitions, and each has a leader."""

        async def attempt() -> None:
            found = (await self.topics([topic])).get(topic)
            if found is None or not found.partitions or found.leaderless or found.partitions < (partitions or 1):
                raise _NotYetError(f"topic {topic} has no leaders yet")

        await self._until(f"wait for the leaders of topic {topic}", attempt, topic=topic)

    async def offsets(
        self, topic: str, partitions: Collection[int], at: When | int, *, committed: bool = True
    ) -> dict[int, int]:
        """{partition: offset}: the first one kept, the end, or the first record at or after a time (ms since epoch).

        With `committed` the end is where a reader of committed records stands when it has read all (the last stable
        offset), else the high watermark. A time after the last record gives the end. Raises NotFoundError.
        """
        doing = f"list offsets of topic {topic}"
        time_or_mark = _AT[at] if isinstance(at, str) else at
        if isinstance(at, int) and at < 0:
            raise FatalError(f"a time to start from is in ms since the epoch and not negative, got {at}")

        async def attempt() -> dict[int, int]:
            return await self._list_offsets(topic, partitions, time_or_mark, committed, doing)

        found = await self._until(doing, attempt, topic=topic)
        beyond = [partition for partition, offset in found.items() if offset < 0]
        if beyond:
            found |= await self.offsets(topic, beyond, "latest", committed=committed)
        return found

    async def describe_group(self, group: str) -> Group:
        """The group as its coordinator sees it; one that nobody knows is `Dead` and without members."""
        doing = f"describe group {group}"

        async def attempt() -> Group:
            node = await self._client.coordinator_lookup(CoordinationType.GROUP, group)
            answer = await self._client.send(node, DescribeGroupsRequest([group]), group=ConnectionGroup.COORDINATION)
            code, name, state, _, protocol, members, *_ = answer.groups[0]
            self._raise(code, doing, group=group)
            return Group(name, state, protocol, tuple(_member(member) for member in members))

        return await self._until(doing, attempt, group=group)

    async def _list_offsets(
        self, topic: str, partitions: Collection[int], at: int, committed: bool, doing: str
    ) -> dict[int, int]:
        metadata = await self._metadata([topic], doing)
        code, _, _, known = metadata.topics[0]
        self._raise(code, doing, topic=topic)
        leaders = {part[1]: part[2] for part in known}
        wanted: dict[int, list[tuple[int, int]]] = {}
        for partition in partitions:
            if partition not in leaders:
                raise FatalError(f"topic {topic} has {len(leaders)} partitions; there is no partition {partition}")
            if leaders[partition] < 0:
                raise _NotYetError(f"partition {partition} of topic {topic} has no leader")
            wanted.setdefault(leaders[partition], []).append((partition, at))
        self._client.cluster.update_metadata(metadata)
        found: dict[int, int] = {}
        for node, asked in wanted.items():
            request = OffsetRequest(-1, _READ_COMMITTED if committed else 0, [(topic, asked)])
            answer = await self._client.send(node, request)
            for partition, code, _, offset in answer.topics[0][1]:
                self._raise(code, doing, topic=topic)
                found[partition] = offset
        return found

    async def _metadata(self, topics: list[str] | None, doing: str) -> Any:
        async def attempt() -> Any:
            request = MetadataRequest(topics, allow_auto_topic_creation=False)
            answer = await self._client.send(self._any_node(), request)
            if not answer.brokers:
                raise _NotYetError("the cluster has no brokers yet")
            return answer

        return await self._until(doing, attempt)

    async def _to_controller(self, request: Any) -> Any:
        # Any broker of a KRaft cluster passes these on; before KRaft only the controller takes them.
        await self._client.force_metadata_update()
        controller = self._client.cluster.controller
        return await self._client.send(controller.nodeId if controller else self._any_node(), request)

    def _any_node(self) -> int:
        node: int | None = self._client.get_random_node()
        if node is None:
            raise _NotYetError("no broker is known")
        return node

    def _raise(
        self, code: int, doing: str, *, topic: str | None = None, group: str | None = None, detail: str | None = None
    ) -> None:
        """Raise for an error code, 0 is none: _NotYetError when asking again can help."""
        if code == 0:
            return
        error = of_code(code, self._settings, doing, topic=topic, group=group, detail=detail)
        if code == _NOT_CONTROLLER or (meaning(code).retriable and code != _UNKNOWN_TOPIC):
            raise _NotYetError(str(error))
        raise error

    async def _until(
        self,
        doing: str,
        attempt: Callable[[], Awaitable[Result]],
        *,
        topic: str | None = None,
        group: str | None = None,
    ) -> Result:
        """The result of `attempt`, tried again after what may pass, until the time is over."""
        end = time.monotonic() + self._timeout
        while True:
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(0.0, end - time.monotonic())):
                    return await attempt()
            except _NotYetError as error:
                if time.monotonic() + _PAUSE >= end:
                    raise TransientError(f"{error}, {self._timeout:g} s after it was first asked for") from None
            except (KafkaError, OSError, TimeoutError) as error:
                found = explain(error, self._settings, doing, topic=topic, group=group)
                if not isinstance(found, TransientError) or time.monotonic() + _PAUSE >= end:
                    raise found from error
                self._client.force_metadata_update()
            await asyncio.sleep(_PAUSE)


class _NotYetError(StreamdError):
    """Asked too early; ask again."""


def _member(raw: tuple[Any, ...]) -> Member:
    member_id, client_id, host, _, assignment = raw
    partitions: dict[str, tuple[int, ...]] = {}
    if assignment:
        decoded = ConsumerProtocolMemberAssignment.decode(assignment)
        partitions = {topic: tuple(sorted(parts)) for topic, parts in decoded.assignment}
    return Member(member_id, client_id, host, partitions)

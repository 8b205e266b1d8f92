"""What diagnosis asks of a cluster: facts about brokers, topics, producers and transactions. Judges nothing."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka.protocol.admin import ApiVersionRequest, DescribeConfigsRequest
from aiokafka.protocol.offset import OffsetRequest

from streamd.errors import StreamdError, UnavailableError
from streamd.transport.kafka.client import LATEST, KafkaClient
from streamd.transport.kafka.coordinator import GROUP, TRANSACTION, Coordinator
from streamd.transport.kafka.error_codes import error_of, meaning
from streamd.transport.kafka.inspect_protocol import (
    DescribeGroups,
    DescribeProducers,
    DescribeTransactions,
    ListTransactions,
    Metadata,
    WriteTxnMarkers,
    by_topic,
    names_of,
)
from streamd.transport.kafka.protocol import READ_COMMITTED, READ_UNCOMMITTED, AddOffsetsToTxn, EndTxn, InitProducerId
from streamd.transport.kafka.settings import KafkaSettings

WITHIN: Final = 10.0
"""Seconds for one question."""
_CONNECT: Final = 5.0
_CONNECTION: Final = "inspection"
_OF_TOPIC, _OF_BROKER = 2, 4  # kinds of resources in DescribeConfigs
_DENIED: Final = 29
_UNKNOWN: Final = 3
_OPEN_STATES: Final = frozenset({"Ongoing", "PrepareCommit", "PrepareAbort"})

Place = tuple[str, int]  # topic, partition


@dataclass(frozen=True, slots=True)
class Node:
    """A broker. `versions`: {request's key: (lowest, highest version)}; `refused`: why it did not answer."""

    id: int
    host: str
    port: int
    versions: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    refused: str | None = None

    @property
    def name(self) -> str:
        return f"broker {self.id} ({self.host}:{self.port})"


@dataclass(frozen=True, slots=True)
class Replicas:
    """A topic as the brokers see it. `isr`: replicas in sync, by partition. `operations`: what we may do, by ACL name.

    `denied`: it may not even be described.
    """

    name: str
    leaders: Mapping[int, int] = field(default_factory=dict)
    replicas: Mapping[int, int] = field(default_factory=dict)
    isr: Mapping[int, int] = field(default_factory=dict)
    operations: frozenset[str] = frozenset()
    denied: bool = False

    @property
    def partitions(self) -> int:
        return len(self.leaders)


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction as its coordinator knows it. `start_ms`: by the coordinator's clock, -1 when none is open."""

    id: str
    state: str
    timeout_ms: int
    start_ms: int
    producer_id: int
    epoch: int
    places: tuple[Place, ...]

    @property
    def open(self) -> bool:
        return self.state in _OPEN_STATES


@dataclass(frozen=True, slots=True)
class OpenProducer:
    """A producer with an open transaction in one partition, as the partition's leader knows it."""

    place: Place
    producer_id: int
    epoch: int
    last_ms: int
    coordinator_epoch: int
    start_offset: int


@dataclass(frozen=True, slots=True)
class Members:
    """A group: its state, and its members as `client id at host`."""

    state: str
    members: tuple[str, ...]
    operations: frozenset[str]


class Inspection:
    """One look at one cluster; `open` and `close` it."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Raises NotFoundError and FatalError for TLS files that cannot be used."""
        self.settings = settings
        self.client = KafkaClient(settings.client_arguments("admin"), settings)

    async def open(self) -> None:
        """Connect. Raises UnavailableError, AccessDeniedError, FatalError."""
        await self.client.start(_CONNECT)

    async def close(self) -> None:
        """Disconnect; never raises."""
        await self.client.close()

    async def nodes(self) -> list[Node]:
        """All brokers, each asked itself what it speaks."""
        answer = await self._ask(await self.client.any_node(WITHIN), Metadata([], False, False, False))
        return list(await asyncio.gather(*(self._node(*one[:3]) for one in sorted(answer.brokers))))

    async def _node(self, node: int, host: str, port: int) -> Node:
        try:
            answer = await self._ask(node, ApiVersionRequest())
        except StreamdError as error:
            return Node(node, host, port, refused=str(error))
        return Node(node, host, port, {key: (low, high) for key, low, high in answer.api_versions})

    async def topics(self, names: Collection[str]) -> tuple[dict[str, Replicas], frozenset[str]]:
        """The topics of these names that exist, and what we may do to the cluster."""
        answer = await self._ask(await self.client.any_node(WITHIN), Metadata(sorted(names), False, True, True))
        found: dict[str, Replicas] = {}
        for code, name, _, partitions, operations in answer.topics:
            if code == _UNKNOWN:
                continue
            found[name] = Replicas(
                name,
                {part[1]: part[2] for part in partitions},
                {part[1]: len(part[4]) for part in partitions},
                {part[1]: len(part[5]) for part in partitions},
                frozenset(names_of(operations)),
                denied=code == _DENIED,
            )
        return found, frozenset(names_of(answer.operations))

    async def broker_settings(self, node: int) -> dict[str, str]:
        """A broker's settings by name. Raises AccessDeniedError."""
        return (await self._settings(node, [(_OF_BROKER, str(node), None)]))[str(node)]

    async def topic_settings(self, topics: Collection[str]) -> dict[str, dict[str, str]]:
        """{topic: its settings}. Raises AccessDeniedError."""
        if not topics:
            return {}
        resources = [(_OF_TOPIC, topic, None) for topic in sorted(topics)]
        return await self._settings(await self.client.any_node(WITHIN), resources)

    async def _settings(self, node: int, resources: list[tuple[int, str, None]]) -> dict[str, dict[str, str]]:
        answer = await self._ask(node, DescribeConfigsRequest(resources))
        found: dict[str, dict[str, str]] = {}
        for code, detail, _, name, entries in answer.resources:
            if code:
                raise error_of(code, f"describe the settings of {name}", detail)
            found[name] = {entry[0]: entry[1] or "" for entry in entries}
        return found

    async def group(self, name: str) -> Members:
        """A group and who is in it. Raises AccessDeniedError."""
        answer = await Coordinator(self.client, GROUP, name, _CONNECTION).ask(
            DescribeGroups([name], True),
            lambda answer: {answer.groups[0][0]},
            f"describe group {name}",
            WITHIN,
            repeatable=True,
        )
        _, _, state, _, _, members, operations = answer.groups[0]
        return Members(state, tuple(f"{m[1]} at {m[2].lstrip('/')}" for m in members), frozenset(names_of(operations)))

    async def transactions(self, prefix: str = "", producer_ids: Collection[int] = ()) -> list[Transaction]:
        """Transactions that are open now, by the start of their id or their producer. Raises FatalError (Kafka 2.x)."""
        ids: set[str] = set()
        for node in await self.client.nodes(WITHIN):
            answer = await self._ask(node, ListTransactions(sorted(_OPEN_STATES), sorted(producer_ids), {}))
            if answer.error_code and not meaning(answer.error_code).retriable:
                raise error_of(answer.error_code, "list transactions")
            ids |= {one[0] for one in answer.transactions if one[0].startswith(prefix)}
        found = await asyncio.gather(*map(self.transaction, sorted(ids)))
        return [one for one in found if one is not None and one.open]

    async def transaction(self, transactional_id: str) -> Transaction | None:
        """One transactional id's newest transaction; None when its coordinator does not know the id."""
        answer = await Coordinator(self.client, TRANSACTION, transactional_id, _CONNECTION).ask(
            DescribeTransactions([transactional_id], {}),
            lambda answer: {answer.transactions[0][0]} - {_ID_NOT_FOUND},
            f"describe transaction {transactional_id}",
            WITHIN,
            repeatable=True,
        )
        code, name, state, timeout_ms, start_ms, producer_id, epoch, topics, _ = answer.transactions[0]
        if code == _ID_NOT_FOUND:
            return None
        places = tuple((topic, partition) for topic, partitions, _ in topics for partition in partitions)
        return Transaction(name, state, timeout_ms, start_ms, producer_id, epoch, places)

    async def unstable(self, topics: Mapping[str, Replicas]) -> dict[Place, int]:
        """{place: records between the last stable offset and the high watermark}, where there are any."""
        ends = await self.ends(topics)
        return {place: high - stable for place, (stable, high) in ends.items() if stable < high}

    async def ends(self, topics: Mapping[str, Replicas]) -> dict[Place, tuple[int, int]]:
        """{place: (last stable offset, high watermark)} of all partitions that have a leader."""
        found: dict[Place, tuple[int, int]] = {}
        for node, places in self._by_leader(topics, ((t, p) for t, one in topics.items() for p in one.leaders)).items():
            # In this order: the high watermark never falls, so that what moved meanwhile is not taken for unstable.
            high = await self._ends(node, places, READ_UNCOMMITTED)
            stable = await self._ends(node, places, READ_COMMITTED)
            found |= {place: (stable[place], end) for place, end in high.items() if place in stable}
        return found

    async def _ends(self, node: int, places: Collection[Place], isolation: int) -> dict[Place, int]:
        topics = [(topic, [(p, LATEST) for p in numbers]) for topic, numbers in by_topic(places)]
        answer = await self._ask(node, OffsetRequest(-1, isolation, topics))
        return {(topic, part[0]): part[3] for topic, parts in answer.topics for part in parts if not part[1]}

    async def open_producers(self, topics: Mapping[str, Replicas], places: Collection[Place]) -> list[OpenProducer]:
        """Producers with an open transaction in these partitions."""
        found = []
        for node, mine in self._by_leader(topics, places).items():
            request = DescribeProducers([(topic, numbers, {}) for topic, numbers in by_topic(mine)], {})
            answer = await self._ask(node, request)
            for topic, parts, _ in answer.topics:
                for partition, code, detail, producers, _ in parts:
                    if code and not meaning(code).retriable:
                        raise error_of(code, f"describe the producers of {topic}[{partition}]", detail)
                    found += [OpenProducer((topic, partition), *one[:2], *one[3:6]) for one in producers if one[5] >= 0]
        return found

    async def end_transaction(self, transaction: Transaction) -> None:
        """Abort a transaction by fencing its producer. Raises FencedError and others of `Coordinator.ask`."""
        await Coordinator(self.client, TRANSACTION, transaction.id, _CONNECTION).ask(
            InitProducerId(transaction.id, max(transaction.timeout_ms, 1)),
            lambda answer: {answer.error_code},
            f"abort transaction {transaction.id}",
            WITHIN,
            repeatable=True,
        )

    async def write_abort_marker(self, topics: Mapping[str, Replicas], producer: OpenProducer) -> None:
        """End a transaction in one partition that no coordinator will end. Raises AccessDeniedError, TransientError."""
        topic, partition = producer.place
        [node] = self._by_leader(topics, [producer.place])
        # A producer that never came past a coordinator has an epoch of -1 there; the first is 0.
        epoch = max(producer.coordinator_epoch, 0)
        marker: Any = (producer.producer_id, producer.epoch, False, [(topic, [partition], {})], epoch, {})
        answer = await self._ask(node, WriteTxnMarkers([marker], {}))
        code = answer.markers[0][1][0][1][0][1]
        if code:
            raise error_of(code, f"write an abort marker to {topic}[{partition}]")

    async def send(self, node: int, request: Any) -> Any:
        """Any other question to one broker."""
        return await self._ask(node, request)

    async def _ask(self, node: int, request: Any) -> Any:
        return await self.client.send(node, request, _CONNECTION, WITHIN)

    @staticmethod
    def _by_leader(topics: Mapping[str, Replicas], places: Iterable[Place]) -> dict[int, list[Place]]:
        found: dict[int, list[Place]] = {}
        for topic, partition in places:
            leader = topics[topic].leaders.get(partition, -1)
            if leader >= 0:
                found.setdefault(leader, []).append((topic, partition))
        return found


_ID_NOT_FOUND: Final = 105


@dataclass(frozen=True, slots=True)
class Clock:
    """A broker's clock against ours: `ahead` seconds, known to within `within` seconds either way."""

    node: int
    ahead: float
    within: float


class Probe:
    """A transaction of the transactional id `streamd.APP.doctor.NUMBER` that writes no record and is aborted.

    It shows whether the id may be used, what timeout the broker allows, and what time it is there: a coordinator notes
    when a transaction began, by its own clock. What it leaves is the id, which brokers forget after a week.
    """

    def __init__(self, inspection: Inspection, app: str, number: int, group: str, timeout: float) -> None:
        """`group`: a group whose offsets join the transaction (none is committed). `timeout`: seconds."""
        self._inspection, self._group, self._timeout = inspection, group, timeout
        self._id = f"streamd.{app}.doctor.{number}"
        self._coordinator = Coordinator(inspection.client, TRANSACTION, self._id, _CONNECTION)

    @staticmethod
    def owns(app: str, transactional_id: str) -> bool:
        """Whether an id is a probe's; those of tasks have two numbers."""
        return re.fullmatch(rf"streamd\.{re.escape(app)}\.doctor\.\d+", transactional_id) is not None

    async def run(self) -> Clock:
        """Raises AccessDeniedError, FatalError (the timeout is too long), UnavailableError."""

        def code_of(answer: Any) -> tuple[int]:
            return (answer.error_code,)

        opened = await self._coordinator.ask(
            InitProducerId(self._id, int(self._timeout * 1000)), code_of, f"open {self._id}", WITHIN, repeatable=True
        )
        node = await self._inspection.client.coordinator(TRANSACTION, self._id, WITHIN)
        proof = self._id, opened.producer_id, opened.producer_epoch
        before = time.time()
        await self._coordinator.ask(
            AddOffsetsToTxn(*proof, self._group), code_of, f"use group {self._group}", WITHIN, repeatable=True
        )
        after = time.time()
        try:
            found = await self._inspection.transaction(self._id)
        finally:
            await self._coordinator.ask(EndTxn(*proof, False), code_of, f"abort {self._id}", WITHIN, repeatable=False)
        if found is None or found.start_ms <= 0:
            raise UnavailableError(f"the coordinator of {self._id} does not say when its transaction began")
        return Clock(node, found.start_ms / 1000 - (before + after) / 2, (after - before) / 2 + 0.001)

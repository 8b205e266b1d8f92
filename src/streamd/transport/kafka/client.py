"""The shared client of one worker and one cluster: where partitions and coordinators are, and how errors are told."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Hashable, Mapping
from types import MappingProxyType
from typing import Any, Final

import aiokafka.errors as kafka_errors
from aiokafka import __version__ as aiokafka_version
from aiokafka.client import CoordinationType
from aiokafka.protocol.admin import (
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteRecordsRequest,
    DescribeConfigsRequest,
)
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.structs import TopicPartition

from streamd.errors import AccessDeniedError, FatalError, NotFoundError, StreamdError, TransientError, UnavailableError
from streamd.transport.kafka.buffers import keep_freed_buffers
from streamd.transport.kafka.cluster import METADATA, Connections
from streamd.transport.kafka.error_codes import OFFSET_OUT_OF_RANGE, error_of, meaning
from streamd.transport.kafka.failures import explain
from streamd.transport.kafka.settings import KafkaSettings

log = logging.getLogger("streamd.kafka")

NEEDED_AIOKAFKA: Final = "0.14.0"
EARLIEST: Final = -2
LATEST: Final = -1
_TOPIC_ALREADY_EXISTS: Final = 36
_INVALID_PARTITIONS: Final = 37
_TOPIC: Final = 2  # kind of resource in DescribeConfigs

_DENIED = (
    kafka_errors.AuthenticationFailedError,
    kafka_errors.AuthenticationMethodNotSupported,
    kafka_errors.SaslAuthenticationFailed,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
)
_NOT_SENT = kafka_errors.NodeNotReadyError


class NotSentError(UnavailableError):
    """The request was never sent: asking again is safe whatever it does."""


class KafkaClient:
    """One cluster as the readers and transactions of one worker see it.

    `arguments` are those of `AIOKafkaClient` (`KafkaSettings.client_arguments()`); with the `settings` themselves,
    errors of login and TLS say what to change there. Made and used within one event loop.
    """

    def __init__(self, arguments: Mapping[str, Any], settings: KafkaSettings | None = None) -> None:
        if aiokafka_version != NEEDED_AIOKAFKA:
            raise FatalError(f"aiokafka {aiokafka_version} is installed, streamd needs exactly {NEEDED_AIOKAFKA}")
        keep_freed_buffers()
        self._connections = Connections(**arguments)
        servers = arguments["bootstrap_servers"]
        self._address = servers if isinstance(servers, str) else ", ".join(servers)
        self._settings = settings
        self._coordinators: dict[tuple[int, str], int] = {}
        self._starting = asyncio.Lock()
        self._started = False
        self.record_limits: dict[str, int] = {}
        """{topic: largest batch in bytes that it takes}, for topics that refused one."""

    @property
    def address(self) -> str:
        """The bootstrap servers, for messages."""
        return self._address

    async def start(self, deadline: float = 10.0) -> None:
        """Connect, trying again with back-off for `deadline` seconds; no-op once connected.

        Raises UnavailableError, AccessDeniedError.
        """
        async with self._starting:
            if not self._started:
                await self._connect(deadline)
                self._started = True

    async def _connect(self, deadline: float) -> None:
        until = time.monotonic() + deadline
        wait = 0.1
        while True:
            try:
                async with asyncio.timeout(max(until - time.monotonic(), 0.05)):
                    await self._connections.bootstrap_once()
                return
            except (OSError, TimeoutError, kafka_errors.KafkaError) as error:
                self._raise_if_refused(error)
                if time.monotonic() + wait >= until:
                    raise UnavailableError(
                        f"Kafka at {self._address} cannot be reached within {deadline:g} s: {_text(error)}"
                    ) from error
            await asyncio.sleep(wait)
            wait = min(wait * 2, 1.0)

    def _raise_if_refused(self, error: Exception | None) -> None:
        """Raise for a connection that failed because of who we are, or who they are: no use in trying again."""
        if error is None:
            return
        tls = any(isinstance(one, ssl.SSLError) for one in (error, error.__cause__, error.__context__))
        ours = isinstance(getattr(error, "reason", None), StreamdError)  # from the provider of a token
        if not (tls or ours or isinstance(error, _DENIED)):
            return
        if self._settings is not None:
            problem = explain(error, self._settings, "connect")
        else:
            problem = AccessDeniedError(f"Kafka at {self._address} refused the connection: {_text(error)}")
        if not isinstance(problem, TransientError):
            raise problem from error

    async def close(self) -> None:
        """Close every connection. Bounded in time; never raises."""
        try:
            async with asyncio.timeout(5):
                await self._connections.close()
        except (TimeoutError, OSError, kafka_errors.KafkaError) as error:
            log.debug("closing the Kafka client: %r", error)

    def release(self, group: Hashable) -> None:
        """Close the connections of one group at once."""
        self._connections.release(group)

    async def send(self, node: int, request: Any, group: Hashable, timeout: float) -> Any:
        """One request to one node over the connection of `group`, answered within `timeout` seconds.

        Raises NotSentError when it was not sent for sure, UnavailableError when it may have been, AccessDeniedError,
        FatalError (a broker too old).
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._connections.send(node, request, group=group)
        except _NOT_SENT as error:
            self._raise_if_refused(self._connections.refused)
            raise NotSentError(f"Kafka node {node} at {self._address} cannot be reached") from error
        except kafka_errors.IncompatibleBrokerVersion as error:
            raise FatalError(f"Kafka at {self._address} is too old: {_text(error)}") from error
        except (TimeoutError, kafka_errors.RequestTimedOutError) as error:
            self._connections.drop(node, group)
            raise UnavailableError(f"Kafka node {node} did not answer {request!r} within {timeout:g} s") from error
        except (OSError, kafka_errors.KafkaError) as error:
            raise UnavailableError(f"the connection to Kafka node {node} was lost: {_text(error)}") from error

    def leader(self, topic: str, partition: int) -> int | None:
        """The node that leads a partition as far as known, else None."""
        node = self._connections.cluster.leader_for_partition(TopicPartition(topic, partition))
        return None if node == -1 else node

    async def refresh(self, timeout: float = 5.0) -> None:
        """Ask for the cluster's metadata again; returns after `timeout` seconds at the latest, whatever came."""
        try:
            async with asyncio.timeout(timeout):
                await self._connections.force_metadata_update()
        except TimeoutError:
            pass

    def refresh_soon(self, topic: str) -> None:
        """Have the metadata asked for in the background, this topic's among it."""
        self._connections.add_topic(topic)
        self._connections.force_metadata_update()

    async def learn_record_limit(self, topic: str, refused: int) -> int:
        """Ask for the largest batch in bytes that a topic takes, after it has refused one of `refused` bytes.

        Kept in `record_limits`. Where the topic's settings may not be read it is a guess below what was refused.
        """
        limit = max(refused - 1, 1)
        node = self._connections.get_random_node()
        request = DescribeConfigsRequest([(_TOPIC, topic, ["max.message.bytes"])])
        try:
            if node is not None:
                response = await self.send(node, request, METADATA, 5.0)
                code, *_, entries = response.resources[0]
                if not code:
                    limit = min(limit, *(int(entry[1]) for entry in entries if entry[0] == "max.message.bytes"))
        except (StreamdError, ValueError, IndexError) as error:
            log.debug("the limit of %s is not known: %r", topic, error)
        self.record_limits[topic] = min(limit, self.record_limits.get(topic, limit))
        return self.record_limits[topic]

    async def partition_count(self, topic: str, deadline: float = 10.0) -> int:
        """How many partitions a topic has. Raises NotFoundError, AccessDeniedError, UnavailableError."""
        connections = self._connections
        until = time.monotonic() + deadline
        wait = 0.02
        connections.add_topic(topic)
        while True:
            partitions = connections.cluster.partitions_for_topic(topic)
            if partitions:
                return len(partitions)
            if topic in connections.cluster.unauthorized_topics:
                raise AccessDeniedError(
                    f"Kafka does not let us see the topic {topic!r}: it needs Describe, Read or Write"
                )
            if time.monotonic() + wait > until:
                self._raise_if_refused(connections.refused)
                if connections.answered:
                    raise NotFoundError(f"Kafka at {self._address} has no topic {topic!r}")
                raise UnavailableError(f"Kafka at {self._address} does not answer")
            await self.refresh(max(until - time.monotonic(), 0.05))
            if not connections.cluster.partitions_for_topic(topic):
                await asyncio.sleep(wait)
                wait = min(wait * 2, 0.5)

    async def any_node(self, deadline: float) -> int:
        """Some node of the cluster. Raises UnavailableError."""
        if self._connections.get_random_node() is None:
            await self.refresh(deadline)
        node = self._connections.get_random_node()
        if node is None:
            raise NotSentError(f"Kafka at {self._address}: no node is known")
        return int(node)

    async def nodes(self, deadline: float) -> list[int]:
        """All nodes that are up, as far as known. Raises UnavailableError."""
        await self.any_node(deadline)
        return [int(broker.nodeId) for broker in self._connections.cluster.brokers()]

    async def ask_any(self, request: Any, group: Hashable, deadline: float, doing: str) -> Any:
        """The answer of whatever node, to a request that is harmless to repeat and has one `error_code`.

        Raises UnavailableError after `deadline` seconds, and errors by code.
        """
        until = time.monotonic() + deadline
        wait = 0.02
        while True:
            problem: StreamdError
            try:
                left = max(until - time.monotonic(), 0.05)
                answer = await self.send(await self.any_node(left), request, group, left)
                if not answer.error_code:
                    return answer
                problem = error_of(answer.error_code, doing)
                if not meaning(answer.error_code).retriable:
                    raise problem
            except UnavailableError as error:
                problem = error
            if time.monotonic() + wait > until:
                raise problem
            await asyncio.sleep(wait)
            wait = min(wait * 2, 0.5)

    async def create_compacted_topic(
        self, topic: str, deadline: float, partitions: int = 1, settings: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Make a topic that keeps the last record of each key; fine when it is there already.

        `settings` are the topic's other ones. Raises AccessDeniedError, FatalError, UnavailableError.
        """
        configs = [("cleanup.policy", "compact"), *settings.items()]
        request = CreateTopicsRequest([(topic, partitions, -1, [], configs)], int(deadline * 1000), False)
        answer = await self.send(await self._controller(deadline), request, METADATA, deadline)
        _, code, detail = answer.topic_errors[0]
        if code not in (0, _TOPIC_ALREADY_EXISTS):
            raise error_of(code, f"make the topic {topic}", detail)

    async def add_partitions(self, topic: str, count: int, deadline: float) -> None:
        """Have a topic grow to `count` partitions; fine when it has as many already. Raises as above."""
        request = CreatePartitionsRequest([(topic, (count, None))], int(deadline * 1000), False)
        answer = await self.send(await self._controller(deadline), request, METADATA, deadline)
        _, code, detail = answer.topic_errors[0]
        if code not in (0, _INVALID_PARTITIONS):
            raise error_of(code, f"give the topic {topic} {count} partitions", detail)

    async def delete_records(self, topic: str, partition: int, before: int, deadline: float = 10.0) -> None:
        """Delete what lies before an offset. Raises AccessDeniedError, NotFoundError, UnavailableError, FatalError."""
        doing = f"delete records of {topic}[{partition}]"
        node = self.leader(topic, partition)
        if node is None:
            raise NotSentError(f"{topic}[{partition}] has no leader")
        request = DeleteRecordsRequest([(topic, [(partition, before)])], int(deadline * 1000))
        answer = await self.send(node, request, METADATA, deadline)
        code = answer.topics[0][1][0][2]
        if code not in (0, OFFSET_OUT_OF_RANGE):
            raise error_of(code, doing)

    async def _controller(self, deadline: float) -> int:
        controller = self._connections.cluster.controller
        return int(controller.nodeId) if controller else await self.any_node(deadline)

    async def coordinator(self, kind: CoordinationType, key: str, timeout: float) -> int:
        """The node that coordinates a group or a transactional id; remembered until `forget_coordinator`.

        Raises NotSentError when it cannot be told now, and what else `send` raises.
        """
        known = self._coordinators.get((kind, key))
        if known is not None:
            return known
        try:
            node = await self.any_node(timeout)
            response = await self.send(node, FindCoordinatorRequest(key, kind), METADATA, timeout)
        except UnavailableError as error:
            raise NotSentError(str(error)) from error
        if response.error_code:
            if meaning(response.error_code).retriable:
                raise NotSentError(f"Kafka at {self._address}: the coordinator of {key!r} is not available")
            raise error_of(response.error_code, f"name the coordinator of {key!r}")
        self._coordinators[(kind, key)] = response.coordinator_id
        return int(response.coordinator_id)

    def forget_coordinator(self, kind: CoordinationType, key: str) -> None:
        """The coordinator has moved: ask for it again next time."""
        self._coordinators.pop((kind, key), None)

    async def find_offset(
        self, topic: str, partition: int, timestamp: int, *, isolation: int = 1, deadline: float = 30.0
    ) -> int:
        """The first offset whose timestamp is ≥ `timestamp` ms; -2 asks for the earliest, -1 for the end.

        The end under isolation 1 is the last stable offset. A timestamp after all records gives the end.
        Raises UnavailableError after `deadline` seconds, NotFoundError, AccessDeniedError.
        """
        until = time.monotonic() + deadline
        wait = 0.02
        await self.partition_count(topic, deadline)
        doing = f"find an offset of {topic}[{partition}]"
        while True:
            problem: StreamdError
            try:
                node = self.leader(topic, partition)
                if node is None:
                    raise NotSentError(f"{topic}[{partition}] has no leader")
                request = OffsetRequest(-1, isolation, [(topic, [(partition, timestamp)])])
                response = await self.send(node, request, METADATA, max(until - time.monotonic(), 0.1))
                _, code, _, offset = response.topics[0][1][0]
                if not code:
                    if offset < 0:
                        return await self.find_offset(topic, partition, LATEST, isolation=isolation, deadline=deadline)
                    return int(offset)
                problem = error_of(code, doing)
                if not meaning(code).retriable:
                    raise problem
            except UnavailableError as error:
                problem = error
            if time.monotonic() + wait > until:
                raise problem
            await asyncio.sleep(wait)
            await self.refresh(max(until - time.monotonic(), 0.1))
            wait = min(wait * 2, 1.0)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__

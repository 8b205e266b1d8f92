"""aiokafka's client with three things mended. It uses internals: aiokafka is pinned, see `pyproject.toml`."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Hashable
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import AIOKafkaConnection, CloseReason, create_conn
from aiokafka.errors import KafkaError, NodeNotReadyError, RequestTimedOutError, StaleMetadata
from aiokafka.protocol.metadata import MetadataRequest

log = logging.getLogger("streamd.kafka")
# It reports each topic that is missing at each refresh; whoever asked for the topic says so, once.
logging.getLogger("aiokafka.cluster").setLevel(logging.CRITICAL)

METADATA = "metadata"
"""The connection group of metadata and coordinator look-ups, which must never wait behind a long poll."""


class Connections(AIOKafkaClient):  # type: ignore[misc]
    """One connection per (node, group), opened when first needed.

    Differs from aiokafka's client in that asking about a topic never creates it, that a node which does not answer
    holds up only its own connections, and that it asks the bootstrap servers again when no known node answers.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._sync_task: asyncio.Task[None] | None = None
        self._arguments = {
            "client_id": self._client_id,
            "request_timeout_ms": self._request_timeout_ms,
            "ssl_context": self._ssl_context,
            "security_protocol": self._security_protocol,
            "max_idle_ms": self._connections_max_idle_ms,
            "sasl_mechanism": self._sasl_mechanism,
            "sasl_plain_username": self._sasl_plain_username,
            "sasl_plain_password": self._sasl_plain_password,
            "sasl_kerberos_service_name": self._sasl_kerberos_service_name,
            "sasl_kerberos_domain_name": self._sasl_kerberos_domain_name,
            "sasl_oauth_token_provider": self._sasl_oauth_token_provider,
        }
        self._opening: dict[tuple[Any, Hashable], asyncio.Lock] = {}
        self._refused: Exception | None = None
        self._answered = False

    @property
    def answered(self) -> bool:
        """Whether the last request for metadata was answered."""
        return self._answered

    @property
    def refused(self) -> Exception | None:
        """Why the last connection could not be opened, None when it was."""
        return self._refused

    async def bootstrap_once(self) -> None:
        """Learn of the cluster's nodes from the first bootstrap server that answers, and keep the metadata fresh.

        Raises what made the last of them fail.
        """
        problem: Exception = KafkaError("no bootstrap server was given")
        for host, port, _ in self.hosts:
            try:
                if await self._ask(self.cluster, MetadataRequest([], False), host, port):
                    break
                problem = KafkaError(f"{host}:{port} names no brokers")
            except (TimeoutError, OSError, KafkaError) as error:
                problem = error
        else:
            raise problem
        if self._sync_task is None:
            self._sync_task = asyncio.get_running_loop().create_task(self._md_synchronizer())

    async def send(self, node_id: Any, request: Any, *, group: Hashable = 0, patience: float = 0.0) -> Any:
        """As aiokafka's. `patience`: seconds that the answer may take beyond the usual time.

        A connection whose answer is overdue is closed: what is asked next must not wait behind it.
        """
        connection = await self._get_conn(node_id, group=group)
        if connection is None:
            raise NodeNotReadyError(f"no connection to Kafka node {node_id}")
        usual = connection._request_timeout
        connection._request_timeout = usual + patience
        try:
            answer = connection.send(request)  # takes the timeout as it is now
        finally:
            connection._request_timeout = usual
        try:
            return await answer
        except TimeoutError as error:
            self._overdue(connection)
            raise RequestTimedOutError(f"Kafka node {node_id} did not answer {usual + patience:g} s") from error

    def _overdue(self, connection: AIOKafkaConnection) -> None:
        for where in [where for where, known in self._conns.items() if known is connection]:
            del self._conns[where]
        connection.close(reason=CloseReason.CONNECTION_TIMEOUT)

    def release(self, group: Hashable) -> None:
        """Close the connections of a group at once; what waits on them fails."""
        for where in [where for where in self._conns if where[1] == group]:
            self._conns.pop(where).close(reason=CloseReason.SHUTDOWN)
        for where in [where for where in self._opening if where[1] == group]:
            del self._opening[where]

    def drop(self, node_id: Any, group: Hashable) -> None:
        """Close one connection whose answer is overdue: what is asked next must not wait behind it."""
        connection = self._conns.pop((node_id, group), None)
        if connection is not None:
            connection.close(reason=CloseReason.CONNECTION_TIMEOUT)

    async def _get_conn(self, node_id: Any, *, group: Hashable = 0, no_hint: bool = False) -> AIOKafkaConnection | None:
        where = (node_id, group)
        connection = self._conns.get(where)
        if connection is not None and connection.connected():
            return connection
        try:
            async with self._opening.setdefault(where, asyncio.Lock()):
                connection = self._conns.get(where)
                if connection is not None and connection.connected():
                    return connection
                broker = self.cluster.broker_metadata(node_id)
                if broker is None:
                    raise StaleMetadata(f"node {node_id} is not in the cluster's metadata")
                connection = await create_conn(
                    broker.host, broker.port, on_close=self._on_connection_closed, **self._arguments
                )
                self._conns[where] = connection
                self._refused = None
                return connection
        except (TimeoutError, OSError, KafkaError) as error:
            self._refused = error
            log.debug("no connection to Kafka node %s: %r", node_id, error)
            self.force_metadata_update()
            return None

    async def _metadata_update(self, cluster_metadata: ClusterMetadata, topics: Any) -> bool:
        request = MetadataRequest(None if topics is None else list(topics), False)
        nodes = [broker.nodeId for broker in self.cluster.brokers()]
        random.shuffle(nodes)
        for node in nodes:
            connection = await self._get_conn(node, group=METADATA)
            if connection is None:
                continue
            try:
                metadata = await connection.send(request)
            except (TimeoutError, KafkaError) as error:
                log.debug("no metadata from Kafka node %s: %r", node, error)
                self._overdue(connection)
                continue
            if metadata.brokers:
                cluster_metadata.update_metadata(metadata)
                self._answered = True
                return True
        for host, port, _ in self.hosts:
            try:
                if await self._ask(cluster_metadata, request, host, port):
                    return True
            except (TimeoutError, OSError, KafkaError) as error:
                log.debug("no metadata from %s:%s: %r", host, port, error)
        cluster_metadata.failed_update(None)
        self._answered = False
        return False

    async def _ask(self, cluster_metadata: ClusterMetadata, request: MetadataRequest, host: str, port: int) -> bool:
        connection = await create_conn(host, port, **self._arguments)
        try:
            metadata = await connection.send(request)
        finally:
            connection.close(reason=CloseReason.SHUTDOWN)
        if metadata.brokers:
            cluster_metadata.update_metadata(metadata)
            self._answered = True
        return bool(metadata.brokers)

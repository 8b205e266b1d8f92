"""A started client for the control plane, or an error that says why there is none."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from streamd.errors import StreamdError, UnavailableError
from streamd.transport.kafka.failures import explain, unreachable
from streamd.transport.kafka.options import Client
from streamd.transport.kafka.settings import KafkaSettings

# Seconds to end connections in; they are dropped after that.
CLOSE_TIMEOUT = 5.0
_CONNECTION_ARGUMENTS = (
    "client_id",
    "request_timeout_ms",
    "ssl_context",
    "security_protocol",
    "sasl_mechanism",
    "sasl_plain_username",
    "sasl_plain_password",
    "sasl_oauth_token_provider",
)


class QuietClient(AIOKafkaClient):  # type: ignore[misc]
    """aiokafka's client, but asking about a topic never makes it: stock metadata requests do, on most brokers."""

    async def _metadata_update(self, cluster_metadata: Any, topics: Any) -> bool:
        request = MetadataRequest(list(topics) if topics else None, allow_auto_topic_creation=False)
        nodes = [broker.nodeId for broker in self.cluster.brokers()]
        bootstrap = next((key for key in self._conns if key[0] == "bootstrap"), None)
        if bootstrap is not None:
            nodes.append("bootstrap")
        random.shuffle(nodes)
        for node in nodes:
            connection = await self._get_conn(node)
            if connection is None:
                continue
            try:
                metadata = await connection.send(request)
            except (KafkaError, TimeoutError):
                continue
            if not metadata.brokers:
                return False
            cluster_metadata.update_metadata(metadata)
            if bootstrap is not None and self.cluster.brokers() and bootstrap in self._conns:
                self._conns.pop(bootstrap).close()
            return True
        cluster_metadata.failed_update(None)
        return False


async def connect(settings: KafkaSettings, doing: str, client: Client = "admin", **overrides: Any) -> AIOKafkaClient:
    """A client that has spoken to a broker; the caller closes it with `disconnect`.

    `doing`: what for, as it follows `to` in an error. `overrides`: aiokafka arguments that win. Raises
    UnavailableError, AccessDeniedError, NotFoundError or FatalError (TLS files, certificates that do not fit).
    """
    arguments = settings.client_arguments(client) | overrides
    opened = QuietClient(**arguments)
    try:
        await opened.bootstrap()
    except BaseException as error:
        await disconnect(opened)
        if isinstance(error, KafkaError):
            raise await _diagnose(settings, doing, arguments) from error
        if isinstance(error, Exception):
            raise explain(error, settings, doing) from error
        raise
    return opened


async def disconnect(client: AIOKafkaClient) -> None:
    """Close a client, within a few seconds, without ever raising."""
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await client.close()


async def _diagnose(settings: KafkaSettings, doing: str, arguments: dict[str, Any]) -> StreamdError:
    """Why no broker took us. aiokafka only logs that, so each is asked once more; what one can act on wins."""
    timeout = min(int(arguments["request_timeout_ms"]), 5000)
    chosen = {name: arguments[name] for name in _CONNECTION_ARGUMENTS if name in arguments} | {
        "request_timeout_ms": timeout
    }
    reasons: list[str] = []
    for host, port, _ in collect_hosts(arguments["bootstrap_servers"]):
        try:
            connection = await create_conn(host, port, **chosen)
            connection.close()
        except Exception as error:
            found = explain(error, settings, doing)
            if not isinstance(found, UnavailableError) or getattr(error, "reason", None) is found:
                return found
            reasons.append(f"{host}:{port}: {_short(error)}")
    return unreachable(settings, doing, "; ".join(reasons) or "the connection was lost")


def _short(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.removeprefix("KafkaConnectionError: ")

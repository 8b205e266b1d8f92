"""A started client for the control plane, or an error that says why there is none."""

from __future__ import annotations

import asyncio
import contextlib

from aiokafka.errors import KafkaError

from streamd.transport.kafka.cluster import Connections
from streamd.transport.kafka.failures import explain
from streamd.transport.kafka.options import Client
from streamd.transport.kafka.settings import KafkaSettings

# Seconds to end connections in; they are dropped after that.
CLOSE_TIMEOUT = 5.0


async def connect(settings: KafkaSettings, doing: str, client: Client = "admin") -> Connections:
    """A client that has spoken to a broker; the caller closes it with `disconnect`.

    `doing`: what for, as it follows `to` in an error. Raises UnavailableError, AccessDeniedError, NotFoundError or
    FatalError (TLS files, certificates that do not fit).
    """
    opened = Connections(**settings.client_arguments(client))
    try:
        await opened.bootstrap_once()
    except BaseException as error:
        await disconnect(opened)
        if isinstance(error, Exception):
            raise explain(error, settings, doing) from error
        raise
    return opened


async def disconnect(client: Connections) -> None:
    """Close a client, within a few seconds, without ever raising."""
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await client.close()

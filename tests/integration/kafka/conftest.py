"""Fixtures for the tests of the Kafka data plane."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from integration.kafka.workbench import Proxy, Workbench
from services.kafka import KafkaBroker
from streamd.transport.kafka.client import KafkaClient


@pytest.fixture
async def client(kafka: KafkaBroker) -> AsyncIterator[KafkaClient]:
    opened = KafkaClient({"bootstrap_servers": kafka.bootstrap})
    await opened.start()
    yield opened
    await opened.close()


@pytest.fixture
async def bench(client: KafkaClient) -> AsyncIterator[Workbench]:
    made = Workbench(client)
    yield made
    await made.close()


@pytest.fixture
async def proxied(kafka: KafkaBroker) -> AsyncIterator[tuple[KafkaClient, Proxy]]:
    """A client whose every connection but the first goes through a proxy."""
    host, port = kafka.bootstrap.split(":")
    proxy = Proxy(host, int(port))
    await proxy.start()
    opened = KafkaClient({"bootstrap_servers": kafka.bootstrap})
    cluster = opened._connections.cluster

    def redirect(_: object) -> None:
        cluster._brokers = {
            node: broker._replace(host="127.0.0.1", port=proxy.port) for node, broker in cluster._brokers.items()
        }

    cluster.add_listener(redirect)
    await opened.start()
    yield opened, proxy
    await opened.close()
    await proxy.stop()

"""Fixtures for the tests of the Kafka data plane."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from faults.proxy import Proxy
from integration.kafka.workbench import Workbench
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
    """A client, and the proxy that all of its traffic goes through."""
    host, port = kafka.behind_proxy.split(":")
    proxy = Proxy(host, int(port))
    await proxy.start(kafka.proxy_port)
    opened = KafkaClient({"bootstrap_servers": f"127.0.0.1:{kafka.proxy_port}"})
    await opened.start()
    yield opened, proxy
    await opened.close()
    await proxy.stop()

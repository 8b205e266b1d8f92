"""A node, and servers for it on free ports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from services.api_node import Client, Node, Serve
from streamd.api.options import ApiOptions
from streamd.api.server import ApiServer


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
async def serve(node: Node) -> AsyncIterator[Serve]:
    """`await serve(**options)` gives a client of a running server; all end with the test."""
    async with AsyncExitStack() as stack:

        async def start(clock: Any = None, **options: Any) -> Client:
            given = ApiOptions(**{"port": 0, **options})
            server = ApiServer(node, given) if clock is None else ApiServer(node, given, clock)
            session = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)))
            return Client(await stack.enter_async_context(server), session)

        yield start

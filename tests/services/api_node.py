"""What the HTTP API is asked about in tests: a node with real metrics and a status to be set; and its client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from streamd.api.server import ApiServer
from streamd.observability.merge import MergedMetrics
from streamd.observability.status import NodeStatus


class Node:
    """What a supervisor is to the API."""

    def __init__(self) -> None:
        self.metrics = MergedMetrics()
        now = time.monotonic()
        self.now = NodeStatus("app", now, 30.0, last_reconcile=now, started_at=1_700_000_000_000)
        self.broken = False

    def status(self) -> NodeStatus:
        if self.broken:
            raise RuntimeError("contents of a record")
        return self.now


class Client:
    """One client of one server; `get` gives status, headers and the parsed body."""

    def __init__(self, server: ApiServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session

    async def ask(self, path: str, method: str = "GET", **options: Any) -> tuple[int, Any, Any]:
        async with self.session.request(method, self.server.url + path, **options) as response:
            body = await response.read()
            is_json = response.content_type == "application/json" and body
            return response.status, response.headers, await response.json() if is_json else body.decode()

    async def get(self, path: str, **options: Any) -> Any:
        """The body of an answer that has to be 200."""
        status, _, body = await self.ask(path, **options)
        assert status == 200, body
        return body


Serve = Callable[..., Awaitable[Client]]


async def until(condition: Callable[[], bool], deadline: float = 20.0) -> None:
    """Returns once the condition holds; raises TimeoutError after `deadline` seconds."""
    async with asyncio.timeout(deadline):
        while not condition():  # noqa: ASYNC110 — what is waited for has no event
            await asyncio.sleep(0.005)

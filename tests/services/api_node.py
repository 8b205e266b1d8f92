"""What the HTTP API is asked about in tests: a node with real metrics and a status to be set; and its client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from copy import deepcopy
from typing import Any

import aiohttp
import orjson

from streamd.api.server import ApiServer
from streamd.observability.merge import MergedMetrics
from streamd.observability.status import NodeStatus
from streamd.state.entries import key_text
from streamd.supervisor.views import Asked, Looked


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


class KnownViews:
    """Views of one pipeline; `answer` is what its tasks say, `asked` what they were asked, `told` where nodes are."""

    def __init__(self, answer: Looked) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, Asked]] = []
        self.told: dict[str, int] = {}

    def of(self, name: str) -> list[str] | None:
        return ["totals", "regions"] if name == "spend" else None

    def nodes(self, name: str) -> dict[str, int]:
        assert name == "spend"
        return self.told

    async def look(self, name: str, stage: str, asked: Asked, within: float = 5.0) -> Looked:
        self.asked.append((name, stage, asked))
        found = deepcopy(self.answer)
        if asked.key is not None:
            found.entries = [entry for entry in found.entries if key_text(orjson.loads(entry[1])) == asked.key]
        return found


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

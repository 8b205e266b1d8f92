"""`GET /health/live` and `GET /health/ready`: 200 or 503, and the reasons as JSON."""

from __future__ import annotations

from aiohttp import web

from streamd.api.answers import Answer, json_answer
from streamd.api.context import CONTEXT
from streamd.observability.health import Health, live, ready


async def get_live(request: web.Request) -> Answer:
    return _answer(live(request.app[CONTEXT].source.status()))


async def get_ready(request: web.Request) -> Answer:
    return _answer(ready(request.app[CONTEXT].source.status()))


def _answer(health: Health) -> Answer:
    return json_answer(health, 200 if health.ok else 503)


ROUTES = (web.get("/health/live", get_live), web.get("/health/ready", get_ready))

"""`GET /api/v1/version`: what runs here."""

from __future__ import annotations

import platform

from aiohttp import web

from streamd import __version__
from streamd.api.answers import Answer, json_answer


async def version(_request: web.Request) -> Answer:
    return json_answer({"name": "streamd", "version": __version__, "python": platform.python_version(), "api": "v1"})


ROUTES = (web.get("/api/v1/version", version),)

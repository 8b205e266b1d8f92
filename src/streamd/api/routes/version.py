"""`GET /api/v1/version`: what runs here."""

from __future__ import annotations

import platform
from importlib.metadata import version as installed_version

from aiohttp import web

from streamd.api.answers import Answer, json_answer

VERSION = installed_version("streamd")


async def version(_request: web.Request) -> Answer:
    return json_answer({"name": "streamd", "version": VERSION, "python": platform.python_version(), "api": "v1"})


ROUTES = (web.get("/api/v1/version", version),)

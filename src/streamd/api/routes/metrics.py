"""`GET /metrics`: all metrics of the node, as Prometheus text or, where the Accept header asks for it, OpenMetrics."""

from __future__ import annotations

import asyncio

from aiohttp import web

from streamd.api.answers import Answer
from streamd.api.context import CONTEXT
from streamd.observability.merge import render

COMPRESS_ABOVE = 4096


async def metrics(request: web.Request) -> Answer:
    context = request.app[CONTEXT]
    context.publish()
    families = context.source.metrics.collect()
    # In a thread: a large page takes long enough to delay the heartbeats of the supervisor's loop.
    body, content_type = await asyncio.to_thread(render, families, request.headers.get("Accept", ""))
    answer = Answer(body=body, headers={"Content-Type": content_type})
    if len(body) > COMPRESS_ABOVE:
        answer.enable_compression()
    return answer


ROUTES = (web.get("/metrics", metrics),)

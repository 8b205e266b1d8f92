"""`GET /api/v1/workers`: the worker processes of this node."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from aiohttp import web

from streamd.api.answers import Answer, json_answer
from streamd.api.context import CONTEXT, ApiContext
from streamd.observability import catalog
from streamd.observability.status import NodeStatus, WorkerStatus


async def workers(request: web.Request) -> Answer:
    context = request.app[CONTEXT]
    status = context.source.status()
    return json_answer({"workers": [_worker(context, status, worker) for worker in status.workers]})


def _worker(context: ApiContext, status: NodeStatus, worker: WorkerStatus) -> dict[str, Any]:
    metrics = context.source.metrics
    fields = asdict(worker)
    del fields["last_report"]
    return fields | {
        "seconds_since_report": round(max(status.monotonic - worker.last_report, 0.0), 3),
        "cpu_seconds": round(metrics.totals(catalog.PROCESS_CPU, worker=worker.worker), 3),
        "resident_bytes": int(metrics.totals(catalog.PROCESS_MEMORY, worker=worker.worker)),
        "event_loop_lag_seconds": round(metrics.totals(catalog.LOOP_LAG, worker=worker.worker), 6),
    }


ROUTES = (web.get("/api/v1/workers", workers),)

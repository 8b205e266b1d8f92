"""`GET /api/v1/pipelines` and `GET /api/v1/pipelines/{name}`: what each pipeline does right now.

Rates are records per second over the last 10 s. Totals are since the node started, over all its tasks. Lag is in
records (bytes, for files), null when no task knows it. What goes out are records given to sinks; dead letters are not
among them: they are counted by where and why they failed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from aiohttp import web

from streamd.api.answers import Answer, error_answer, json_answer
from streamd.api.context import CONTEXT, ApiContext
from streamd.observability import catalog
from streamd.observability.catalog import Metric
from streamd.observability.rates import quantile
from streamd.observability.status import GraphNode, NodeStatus, PipelineStatus, TaskStatus

FIGURES = {
    "records_in": catalog.SOURCE_RECORDS,
    "records_filtered": catalog.STAGE_FILTERED,
    "records_failed": catalog.FAILED_RECORDS,
    "bytes_in": catalog.SOURCE_BYTES,
}
SINK_FIGURES = {"records_out": catalog.SINK_RECORDS, "bytes_out": catalog.SINK_BYTES}
OUTCOMES = {"records_skipped": catalog.SKIPPED_RECORDS, "dead_letters": catalog.DEAD_LETTERS}
NODE_FIGURES = {
    "source": ("source", {"records": catalog.SOURCE_RECORDS, "bytes": catalog.SOURCE_BYTES}),
    "stage": (
        "stage",
        {
            "records_in": catalog.STAGE_INPUT,
            "records_out": catalog.STAGE_OUTPUT,
            "records_filtered": catalog.STAGE_FILTERED,
        },
    ),
    "sink": ("sink", {"records": catalog.SINK_RECORDS, "bytes": catalog.SINK_BYTES}),
    "dead_letter": ("sink", {"records": catalog.SINK_RECORDS, "bytes": catalog.SINK_BYTES}),
}


async def pipelines(request: web.Request) -> Answer:
    context = request.app[CONTEXT]
    status = context.source.status()
    return json_answer(
        {
            "app": status.app,
            "time": context.clock.now_ms(),
            "started_at": status.started_at,
            "stopping": status.stopping,
            "pipelines": [_summary(context, pipeline) for pipeline in status.pipelines],
        }
    )


async def pipeline(request: web.Request) -> Answer:
    context = request.app[CONTEXT]
    status = context.source.status()
    name = request.match_info["name"]
    found = status.pipeline(name)
    if found is None:
        known = ", ".join(sorted(each.name for each in status.pipelines)[:20]) or "none"
        return error_answer(
            404, "no_such_pipeline", f"there is no pipeline {name[:200]!r} on this node; it has: {known}"
        )
    return json_answer(_details(context, status, found))


def _summary(context: ApiContext, pipeline: PipelineStatus) -> dict[str, Any]:
    name = pipeline.name
    lags = [task.lag for task in pipeline.tasks if task.lag is not None]
    return {
        "name": name,
        "state": pipeline.state,
        "description": pipeline.description,
        "delivery": pipeline.delivery,
        "tasks": {"total": len(pipeline.tasks), **Counter(task.state for task in pipeline.tasks)},
        "rates": {figure: _rate(context, metric, name) for figure, metric in FIGURES.items()}
        | {
            figure: _out(pipeline, context.rates.by(metric, "sink", pipeline=name))
            for figure, metric in SINK_FIGURES.items()
        },
        "totals": {figure: _total(context, metric, name) for figure, metric in (FIGURES | OUTCOMES).items()}
        | {
            figure: int(_out(pipeline, context.source.metrics.by(metric, "sink", pipeline=name)))
            for figure, metric in SINK_FIGURES.items()
        },
        "dead_letters": _reasons(context, name),
        "lag": sum(lags) if lags else None,
        "latency_seconds": _latency(context, name),
        "restarts": pipeline.restarts,
        "error": pipeline.error,
    }


def _details(context: ApiContext, status: NodeStatus, pipeline: PipelineStatus) -> dict[str, Any]:
    metrics = context.source.metrics
    name = pipeline.name
    committed = metrics.series(catalog.CHECKPOINT_TIME, pipeline=name).values()
    return _summary(context, pipeline) | {
        "file": pipeline.file,
        "joined": pipeline.joined,
        "unreachable": pipeline.unreachable,
        "graph": [_node(context, pipeline, node) for node in pipeline.graph],
        "tables": [_table(context, name, table) for table in pipeline.tables],
        "task_list": [_task(status, task) for task in pipeline.tasks],
        "schema_changes": [asdict(change) for change in pipeline.schema_changes],
        "standbys": [asdict(standby) for standby in pipeline.standbys],
        "errors": {
            "failed": _by_error(context, catalog.FAILED_RECORDS, name),
            "dead_letters": _by_error(context, catalog.DEAD_LETTERS, name),
            "skipped": _by_error(context, catalog.SKIPPED_RECORDS, name),
        },
        "checkpoints": {
            "total": _total(context, catalog.CHECKPOINTS, name),
            "failed": _total(context, catalog.CHECKPOINT_FAILURES, name),
            "last_at": int(max(committed) * 1000) if committed else None,
        },
    }


def _node(context: ApiContext, pipeline: PipelineStatus, node: GraphNode) -> dict[str, Any]:
    label, figures = NODE_FIGURES[node.kind]
    of = {"pipeline": pipeline.name, label: node.id}
    metrics, rates = context.source.metrics, context.rates
    failed = metrics.totals(catalog.FAILED_RECORDS, pipeline=pipeline.name, component=node.id)
    return asdict(node) | {
        "totals": {name: int(metrics.totals(metric, **of)) for name, metric in figures.items()}
        | {"records_failed": int(failed)},
        "rates": {name: round(rates.by(metric, label, **of).get(node.id, 0.0), 3) for name, metric in figures.items()},
    }


def _table(context: ApiContext, pipeline: str, table: str) -> dict[str, Any]:
    """A table as the workers of this node have it; null for what none has told yet, or cannot know."""
    metrics, of = context.source.metrics, {"pipeline": pipeline, "table": table}

    def now(metric: Metric) -> float | None:
        return next(iter(metrics.series(metric, **of).values()), None)

    rows, lag, age = now(catalog.TABLE_ROWS), now(catalog.TABLE_LAG), now(catalog.TABLE_AGE)
    return {
        "id": table,
        "loaded": now(catalog.TABLE_LOADED) == 1,
        "rows": None if rows is None else int(rows),
        "lag": None if lag is None else int(lag),
        "records": int(metrics.totals(catalog.TABLE_RECORDS, **of)),
        "seconds_since_update": None if age is None else round(age, 3),
    }


def _task(status: NodeStatus, task: TaskStatus) -> dict[str, Any]:
    fields = asdict(task)
    del fields["pipeline"], fields["last_progress"]
    return fields | {"seconds_since_progress": round(max(status.monotonic - task.last_progress, 0.0), 3)}


def _rate(context: ApiContext, metric: Metric, pipeline: str) -> float:
    return round(context.rates.by(metric, "pipeline", pipeline=pipeline).get(pipeline, 0.0), 3)


def _total(context: ApiContext, metric: Metric, pipeline: str) -> int:
    return int(context.source.metrics.totals(metric, pipeline=pipeline))


def _out(pipeline: PipelineStatus, by_sink: dict[str, float]) -> float:
    """The sum over the pipeline's sinks, without dead letters, which have the sinks' metrics as well."""
    dead_letters = {node.id for node in pipeline.graph if node.kind == "dead_letter"}
    return round(sum(value for sink, value in by_sink.items() if sink not in dead_letters), 3)


def _by_error(context: ApiContext, metric: Metric, pipeline: str) -> dict[str, int]:
    return {
        error: int(records) for error, records in context.source.metrics.by(metric, "error", pipeline=pipeline).items()
    }


def _reasons(context: ApiContext, pipeline: str) -> list[dict[str, Any]]:
    """Dead letters by component, phase and error, the most frequent first."""
    series = context.source.metrics.series(catalog.DEAD_LETTERS, pipeline=pipeline)
    counted = sorted(series.items(), key=lambda item: (-item[1], item[0]))
    names = catalog.DEAD_LETTERS.labels[1:]
    return [dict(zip(names, labels[1:], strict=True)) | {"records": int(records)} for labels, records in counted]


def _latency(context: ApiContext, pipeline: str) -> dict[str, float | None]:
    counts = context.rates.buckets(catalog.LATENCY, pipeline=pipeline)
    bounds = catalog.LATENCY.buckets
    return {"p50": quantile(0.5, bounds, counts), "p99": quantile(0.99, bounds, counts)}


ROUTES = (web.get("/api/v1/pipelines", pipelines), web.get("/api/v1/pipelines/{name}", pipeline))

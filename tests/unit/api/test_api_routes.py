"""What each route answers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import platform
import re
from dataclasses import replace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from services.api_node import Node, Serve
from streamd.observability import catalog
from streamd.observability.metrics import MetricSet
from streamd.observability.status import ErrorStatus, GraphNode, PipelineStatus, TaskStatus, WorkerStatus
from streamd.version import __version__

ERROR = ErrorStatus("UnavailableError", "Kafka at kafka:9092 cannot be reached", 1_700_000_001_000)
GRAPH = (
    GraphNode("in", "source", "kafka"),
    GraphNode("big", "stage", "filter", ("in",)),
    GraphNode("out", "sink", "kafka", ("big",)),
    GraphNode("dlq", "dead_letter", "kafka"),
)


def worker() -> MetricSet:
    metrics = MetricSet()
    metrics.counter(catalog.SOURCE_RECORDS, pipeline="orders", source="in").add(100)
    metrics.counter(catalog.SOURCE_BYTES, pipeline="orders", source="in").add(5000)
    metrics.counter(catalog.STAGE_INPUT, pipeline="orders", stage="big").add(100)
    metrics.counter(catalog.STAGE_FILTERED, pipeline="orders", stage="big").add(60)
    metrics.counter(catalog.STAGE_OUTPUT, pipeline="orders", stage="big").add(37)
    metrics.counter(catalog.SINK_RECORDS, pipeline="orders", sink="out").add(37)
    metrics.counter(catalog.SINK_RECORDS, pipeline="orders", sink="dlq").add(3)
    failed = {"pipeline": "orders", "component": "big", "error": "MissingFieldError"}
    metrics.counter(catalog.FAILED_RECORDS, phase="transform", **failed).add(3)
    metrics.counter(catalog.DEAD_LETTERS, **failed, phase="transform").add(3)
    metrics.histogram(catalog.LATENCY, pipeline="orders").observe(0.025, 37)
    metrics.counter(catalog.CHECKPOINTS, pipeline="orders").add(4)
    metrics.gauge(catalog.CHECKPOINT_TIME, pipeline="orders", part=0, partition=0).set(1_700_000_002.5)
    table = {"pipeline": "orders", "table": "users"}
    metrics.counter(catalog.TABLE_RECORDS, **table).add(12)
    for metric, value in ((catalog.TABLE_ROWS, 9), (catalog.TABLE_LAG, 1), (catalog.TABLE_LOADED, 1)):
        metrics.gauge(metric, **table).set(value)
    metrics.counter(catalog.PROCESS_CPU, worker=0).add(1.5)
    metrics.gauge(catalog.PROCESS_MEMORY, worker=0).set(50_000_000)
    return metrics


@pytest.fixture
def orders(node: Node) -> Node:
    """A node with one pipeline of two tasks, one of which backs off."""
    now = node.now.monotonic
    tasks = (
        TaskStatus("orders", 0, 0, "running", 0, lag=5, records_in=100, positions={"in": 17}, last_progress=now - 2),
        TaskStatus("orders", 0, 1, "backing_off", 1, last_progress=now, restarts=2, error=ERROR),
    )
    pipeline = PipelineStatus(
        "orders", "running", "orders.yaml", "Big ones", graph=GRAPH, tables=("users",), tasks=tasks, restarts=2,
        error=ERROR,
    )  # fmt: skip
    node.now = replace(node.now, pipelines=(pipeline,), workers=(WorkerStatus(0, "running", 42, 1, 0, now - 1),))
    node.metrics.update("worker-0", worker().snapshot())
    return node


async def test_version(serve: Serve):
    body = await (await serve()).get("/api/v1/version")
    assert body == {"name": "streamd", "version": __version__, "python": platform.python_version(), "api": "v1"}


async def test_health_with_reasons(serve: Serve, orders: Node):
    client = await serve()
    assert await client.get("/health/live") == {"ok": True, "reasons": [], "more": 0}
    status, _, body = await client.ask("/health/ready")
    assert status == 503
    (reason,) = body["reasons"]
    assert reason["code"] == "task_backing_off"
    assert reason["pipeline"] == "orders"
    assert "Kafka at kafka:9092" in reason["message"]
    stalled = replace(orders.now.pipelines[0].tasks[0], last_progress=orders.now.monotonic - 1000)
    orders.now = replace(orders.now, pipelines=(replace(orders.now.pipelines[0], tasks=(stalled,)),))
    status, _, body = await client.ask("/health/live")
    assert status == 503
    assert body["reasons"][0]["code"] == "task_stalled"


@pytest.mark.parametrize(
    ("accept", "content_type", "parser"),
    [
        ("*/*", "text/plain", parse),
        ("text/plain;version=0.0.4", "text/plain", parse),
        (
            "application/openmetrics-text;version=1.0.0;q=0.8,*/*;q=0.1",
            "application/openmetrics-text",
            parse_openmetrics,
        ),
    ],
)
async def test_metrics_in_the_form_that_is_asked_for(serve: Serve, orders: Node, accept, content_type, parser):  # type: ignore[no-untyped-def]
    client = await serve()
    status, headers, body = await client.ask("/metrics", headers={"Accept": accept})
    assert status == 200
    assert headers["Content-Type"].startswith(content_type)
    families = {family.name.removesuffix("_total"): family for family in parser(body)}
    (sample,) = families["streamd_source_records"].samples
    assert (sample.name, sample.labels, sample.value) == (
        "streamd_source_records_total",
        {"pipeline": "orders", "source": "in"},
        100,
    )
    assert families["streamd_live"].samples[0].value == 1
    assert families["streamd_ready"].samples[0].value == 0


async def test_metrics_are_compressed_on_request(serve: Serve, orders: Node):
    client = await serve()
    _, headers, body = await client.ask("/metrics", headers={"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"
    assert "streamd_source_records_total" in body
    _, headers, _ = await client.ask("/metrics", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in headers


async def test_pipelines(serve: Serve, orders: Node):
    body = await (await serve()).get("/api/v1/pipelines")
    assert body["app"] == "app"
    assert body["started_at"] == 1_700_000_000_000
    (pipeline,) = body["pipelines"]
    assert pipeline["name"] == "orders"
    assert pipeline["state"] == "running"
    assert pipeline["tasks"] == {"total": 2, "running": 1, "backing_off": 1}
    assert pipeline["lag"] == 5
    assert pipeline["restarts"] == 2
    assert pipeline["error"] == {
        "error": "UnavailableError",
        "message": "Kafka at kafka:9092 cannot be reached",
        "occurred_at": 1_700_000_001_000,
    }
    assert pipeline["totals"] == {
        "records_in": 100,
        "records_out": 37,
        "records_filtered": 60,
        "records_failed": 3,
        "records_skipped": 0,
        "dead_letters": 3,
        "bytes_in": 5000,
        "bytes_out": 0,
    }
    assert pipeline["dead_letters"] == [
        {"component": "big", "phase": "transform", "error": "MissingFieldError", "records": 3}
    ]
    assert set(pipeline["rates"].values()) == {0.0}
    assert pipeline["latency_seconds"] == {"p50": None, "p99": None}


async def test_rates_are_live(serve: Serve, orders: Node):
    metrics = worker()
    orders.metrics.update("worker-0", metrics.snapshot())
    client = await serve()
    pipeline: dict[str, dict[str, float]] = {}
    async with asyncio.timeout(20):
        while not pipeline.get("rates", {}).get("records_in"):
            metrics.counter(catalog.SOURCE_RECORDS, pipeline="orders", source="in").add(10)
            metrics.histogram(catalog.LATENCY, pipeline="orders").observe(0.025, 10)
            orders.metrics.update("worker-0", metrics.snapshot())
            (pipeline,) = (await client.get("/api/v1/pipelines"))["pipelines"]
    assert pipeline["rates"]["records_out"] == 0
    assert 0.02 <= pipeline["latency_seconds"]["p50"] <= 0.03


async def test_one_pipeline(serve: Serve, orders: Node):
    body = await (await serve()).get("/api/v1/pipelines/orders")
    assert body["file"] == "orders.yaml"
    graph = {node["id"]: node for node in body["graph"]}
    assert graph["in"]["totals"] == {"records": 100, "bytes": 5000, "records_failed": 0}
    assert graph["big"]["totals"] == {
        "records_in": 100,
        "records_out": 37,
        "records_filtered": 60,
        "records_failed": 3,
    }
    assert graph["big"]["inputs"] == ["in"]
    assert graph["out"]["totals"]["records"] == 37
    assert graph["dlq"]["kind"] == "dead_letter"
    assert graph["dlq"]["totals"]["records"] == 3
    first, second = body["task_list"]
    assert first["seconds_since_progress"] == 2.0
    assert first["positions"] == {"in": 17}
    assert second["error"]["error"] == "UnavailableError"
    assert body["errors"] == {
        "failed": {"MissingFieldError": 3},
        "dead_letters": {"MissingFieldError": 3},
        "skipped": {},
    }
    assert body["tables"] == [
        {"id": "users", "loaded": True, "rows": 9, "lag": 1, "records": 12, "seconds_since_update": None}
    ]
    assert body["checkpoints"] == {"total": 4, "failed": 0, "last_at": 1_700_000_002_500}


async def test_positions_of_any_kind_can_be_shown(serve: Serve, orders: Node):
    odd = replace(orders.now.pipelines[0].tasks[0], positions={"in": {"file": object(), 3: [b"\xff", None]}})
    orders.now = replace(orders.now, pipelines=(replace(orders.now.pipelines[0], tasks=(odd,)),))
    body = await (await serve()).get("/api/v1/pipelines/orders")
    assert set(body["task_list"][0]["positions"]["in"]) == {"file", "3"}


async def test_a_pipeline_that_is_not_there(serve: Serve, orders: Node):
    status, _, body = await (await serve()).ask("/api/v1/pipelines/order%2Fs")
    assert status == 404
    assert body["error"]["code"] == "no_such_pipeline"
    assert "'order/s'" in body["error"]["message"]
    assert body["error"]["message"].endswith("it has: orders")


async def test_workers(serve: Serve, orders: Node):
    (body,) = (await (await serve()).get("/api/v1/workers"))["workers"]
    assert body == {
        "worker": 0,
        "state": "running",
        "pid": 42,
        "tasks": 1,
        "restarts": 0,
        "started_at": None,
        "seconds_since_report": 1.0,
        "cpu_seconds": 1.5,
        "resident_bytes": 50_000_000,
        "event_loop_lag_seconds": 0.0,
    }


async def test_the_dashboard_is_one_page_that_its_own_policy_lets_run(serve: Serve):
    client = await serve(token="a-long-random-token")
    status, headers, page = await client.ask("/")
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    policy = headers["Content-Security-Policy"]
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"""(?:src|href)=["'](?!data:)|https?://|@import|\bstyle=|innerHTML""", page)

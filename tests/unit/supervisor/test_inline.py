"""All tasks of a plan in the test's own loop, over the embedded log."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.observability import catalog
from streamd.observability.merge import MergedMetrics
from streamd.observability.metrics import MetricSet
from streamd.plan.graph import build_plan
from streamd.runtime.host import pipeline_context
from streamd.supervisor.inline import run_inline
from streamd.supervisor.options import Options
from streamd.transport.embedded.log import EmbeddedLog, log_path
from streamd.transport.embedded.transaction import EmbeddedTransaction

HALVES = """
name: halves
source: {log: {topic: in}}
stages:
  - filter: n % 2 == 0
  - set: {half: n / (2 + SHIFT)}
sink: {log: {topic: out}}
"""


@pytest.fixture
async def app(tmp_path):
    """(plan of a text, context, log) of an app whose topic `in` has the numbers 0…999 in two partitions."""
    service = ServiceConfig.model_validate({"state_dir": tmp_path})
    file = tmp_path / "halves.yaml"

    def load(text):
        config = load_pipeline_text(text, file, Registry.default(), {}, service)
        return build_plan(config), pipeline_context(config, service)

    plan, context = load(HALVES.replace("SHIFT", "0"))
    path = log_path(context.state_dir, context.app)
    log = EmbeddedLog.acquire(path)
    await log.create_topic("in", 2)
    feed = EmbeddedTransaction(path, "feed")
    await feed.open()
    feed.begin()
    for n in range(1000):
        feed.append("in", n % 2, None, orjson.dumps({"n": n}), 0, ())
    await feed.flush()
    await feed.put_positions({}, {})
    await feed.commit()
    await feed.close()
    try:
        yield load, plan, context, log
    finally:
        await log.release()


async def test_until_idle_reads_everything(app):
    _, plan, context, log = app
    metrics = MetricSet()
    result = await run_inline(plan, context, metrics, until_idle=True, options=Options(idle_confirmation=0.05))
    assert result.fault is None
    assert sum(stream.end for stream in await log.streams("out")) == 500
    merged = MergedMetrics()
    merged.update("here", metrics.snapshot())
    assert merged.totals(catalog.SOURCE_RECORDS) == 1000


async def test_stop_drains(app):
    """Everything read is committed: a second run goes on after it."""
    _, plan, context, log = app
    stop = asyncio.Event()

    def on_progress(reports):
        if sum(report.records_in for report in reports) == 1000:
            stop.set()

    result = await run_inline(plan, context, MetricSet(), stop=stop, on_progress=on_progress)
    assert result.fault is None
    await run_inline(plan, context, MetricSet(), until_idle=True, options=Options(idle_confirmation=0.05))
    assert sum(stream.end for stream in await log.streams("out")) == 500


async def test_a_failing_record_is_the_result(app):
    load, _, _, _ = app
    plan, context = load(HALVES.replace("(2 + SHIFT)", "(n - 500)"))
    result = await run_inline(plan, context, MetricSet(), until_idle=True)
    assert result.fault is not None
    assert "division by zero" in result.fault.message


async def test_a_cancel_ends_it(app):
    _, plan, context, _ = app
    began = asyncio.Event()
    run = asyncio.create_task(run_inline(plan, context, MetricSet(), on_progress=lambda reports: began.set()))
    await began.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run

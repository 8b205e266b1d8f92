"""What a task that fails leaves on a real broker: no open transaction that others would have to wait for."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from services.kafka import produce
from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.observability.metrics import MetricSet
from streamd.plan.graph import build_plan
from streamd.runtime.control import Fault
from streamd.supervisor.inline import run_inline
from streamd.transport.kafka.client import LATEST, KafkaClient
from streamd.transport.kafka.leases import closed
from streamd.transport.kafka.protocol import READ_COMMITTED, READ_UNCOMMITTED

pytestmark = pytest.mark.kafka

PIPELINE = """
name: p
kafka: {{bootstrap: "{servers}", options: {{batch.size: 1024}}}}
source: {{kafka: {{topic: {source}}}}}
stages:
- python: "turn_of_others:process"
- set: {{m: 10 / n}}
sink: {{kafka: {{topic: {out}}}}}
batch: {{max_records: 20}}
commit_interval: 5s
"""

# Lets what was put into batches before go out.
STAGE = """
import asyncio

async def process(batch):
    await asyncio.sleep(0.03)
    return batch
"""


async def run(text: str, folder: Path, app: str) -> Fault | None:
    config = load_pipeline_text(text, folder / "p.yaml", Registry.default(), {}, ServiceConfig.model_validate({}))
    context = PipelineContext(app, config.name, folder, folder, config.kafka)
    result = await run_inline(build_plan(config), context, MetricSet(), until_idle=True)
    await closed()
    return result.fault


async def test_a_record_that_stops_the_pipeline_leaves_no_open_transaction(
    kafka, make_topic, client: KafkaClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "turn_of_others.py").write_text(STAGE)
    monkeypatch.syspath_prepend(tmp_path)
    source, out = await make_topic(), await make_topic()
    await produce(kafka.bootstrap, source, [b'{"n": %d}' % n for n in (*range(1, 400), 0)])
    text = PIPELINE.format(servers=kafka.bootstrap, source=source, out=out)
    fault = await run(text, tmp_path, f"app-{uuid.uuid4().hex[:8]}")
    assert fault is not None
    assert "division by zero" in fault.message
    written = await client.find_offset(out, 0, LATEST, isolation=READ_UNCOMMITTED)
    assert written > 1, "the test is about something only if a part of the output was on its way"
    assert await client.find_offset(out, 0, LATEST, isolation=READ_COMMITTED) == written

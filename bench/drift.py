"""What `schema_drift` costs: µs of CPU a record, beside the same pipeline without it.

    python bench/drift.py

Batches of the sample orders, as JSON, go through the generated chain (a filter and a set); before it, through what the
engine does about `schema_drift`. All sides take turns, and the least time of each counts. A sample is a record of each
batch, so that its share depends on how large batches are.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.plan.graph import build_plan
from streamd.record import SourceRecord
from streamd.runtime.assembly import Assembly

PIPELINE = """\
name: p
source: {log: {topic: in}DRIFT}
stages:
  - filter: type != "refund" and amount > 50
  - set: {net: 'round(amount / 1.19, 2)'}
sink: {log: {topic: out}}
"""
SCHEMA = {
    "type": "object",
    "required": ["order_id", "type", "amount"],
    "properties": {
        "order_id": {"type": "string"},
        "type": {"type": "string"},
        "customer": {"type": "string"},
        "country": {"type": ["string", "null"]},
        "amount": {"type": "number"},
        "lines": {"type": "array", "items": {"type": "object", "properties": {
            "sku": {"type": "string"}, "name": {"type": "string"}, "quantity": {"type": "integer"},
            "price": {"type": "number"}}}},
        "channel": {"type": "string"},
        "ts": {"type": "integer"},
        "coupon": {"type": "string"},
    },
}  # fmt: skip
SIDES = {
    "none": "",
    "warn, one of each batch": ", schema_drift: warn",
    "warn, ten of each batch": ", schema_drift: {policy: warn, sample: 10}",
    "fail, every record": f", schema_drift: {{policy: fail, json_schema: {json.dumps(SCHEMA)}}}",
}
BATCHES = (2000, 500, 100, 20)
RECORDS, ROUNDS = 8000, 15


def records() -> list[SourceRecord]:
    path = Path(__file__).resolve().parents[1] / "config" / "samples" / "orders.ndjson"
    lines = path.read_bytes().splitlines()
    chosen = random.Random(1).choices(lines, k=RECORDS)
    return [SourceRecord(None, line, 1_767_603_600_000, at) for at, line in enumerate(chosen)]


class Side:
    """A pipeline put together, and what its task does with a batch up to the rows for the sink."""

    def __init__(self, drift: str) -> None:
        text = PIPELINE.replace("DRIFT", drift)
        config = load_pipeline_text(text, Path("p.yaml"), Registry.default(), {}, ServiceConfig())
        self._assembly = Assembly(build_plan(config), PipelineContext("bench", "p", Path(), Path()))

    async def open(self) -> None:
        await self._assembly.open()

    async def run(self, batches: Sequence[Sequence[SourceRecord]]) -> float:
        """µs of CPU time for all batches."""
        function = self._assembly.chains[0, "source"].function
        drift = self._assembly.drift.get("source")
        gc.collect()
        began = time.process_time_ns()
        for batch in batches:
            passed: Any = batch
            if drift is not None:
                passed, strays = await drift.passed(batch, _count, _learn)
                assert not strays
            function(passed, 0, [], [])
        return (time.process_time_ns() - began) / 1000


def _count(source: str, kind: str) -> None:
    pass


async def _learn() -> bool:
    return False


async def main() -> None:
    every = records()
    sides = {name: Side(drift) for name, drift in SIDES.items()}
    for side in sides.values():
        await side.open()
        await side.run([every])  # what is to be learnt is learnt
    print("| records in a batch | schema_drift | µs/record | x |\n|---:|---|---:|---:|")
    for size in BATCHES:
        batches = [every[at : at + size] for at in range(0, RECORDS, size)]
        taken: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(ROUNDS):
            for name, side in sides.items():
                taken[name].append(await side.run(batches) / RECORDS)
        least = {name: min(times) for name, times in taken.items()}
        for name, cost in least.items():
            print(f"| {size:,} | {name} | {cost:.3f} | {cost / least['none']:.2f} |", flush=True)


if __name__ == "__main__":
    asyncio.run(main())

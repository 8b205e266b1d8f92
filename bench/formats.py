#!/usr/bin/env python3
"""Formats through a pipeline's chain, beside the plain library: records a second, one process, one core.

`bench/formats.py [RECORDS]`. The chain is the generated function that a task runs: it decodes each record, keeps those
with an amount, adds a field, and encodes them. `in` decodes only, `out` encodes only. Beside it fastavro's own
schemaless_reader and schemaless_writer do the same records, without a check and without the rest of the chain.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import fastavro

from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.plan.graph import build_plan
from streamd.record import SourceRecord
from streamd.runtime.assembly import codecs_of, compile_chains

ITEM = {
    "type": "record",
    "name": "Item",
    "fields": [{"name": "sku", "type": "string"}, {"name": "count", "type": "int"}],
}
ORDER = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "user", "type": "string"},
        {"name": "amount", "type": "double"},
        {"name": "currency", "type": "string"},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "paid", "type": "boolean"},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "items", "type": {"type": "array", "items": ITEM}},
    ],
}
PIPELINE = """
name: bench
source: {{log: {{topic: in, format: {read}}}}}
sink: {{log: {{topic: out, format: {write}}}}}
"""
BATCH = 2000


def orders(count: int) -> list[dict[str, object]]:
    items = [{"sku": "A-1", "count": 2}, {"sku": "B-20", "count": 1}]
    return [
        {"id": n, "user": f"user-{n % 1000}", "amount": n * 1.25, "currency": "EUR", "ts": 1_700_000_000_000 + n,
         "paid": n % 3 > 0, "note": None if n % 2 else "by hand", "items": items}
        for n in range(count)
    ]  # fmt: skip


def chain(read: str, write: str, folder: Path) -> Callable[..., object]:
    """The generated function of a pipeline that only decodes and encodes."""
    file = folder / "bench.yaml"
    text = PIPELINE.format(read=read, write=write)
    config = load_pipeline_text(text, file, Registry.default(), {}, ServiceConfig.model_validate({}))
    [part] = build_plan(config).parts
    codecs = codecs_of((*part.sources, *part.sinks), folder)
    return compile_chains(part, {}, codecs)[0, config.sources[0].id].function


def through(function: Callable[..., object], values: list[bytes]) -> Callable[[], None]:
    records = [SourceRecord(None, value, 0, n) for n, value in enumerate(values)]
    batches = [records[at : at + BATCH] for at in range(0, len(records), BATCH)]

    def run() -> None:
        for batch in batches:
            failed: list[object] = []
            rows: list[object] = []
            function(batch, 0, failed, rows)
            if failed or len(rows) != len(batch):
                raise SystemExit(f"records failed: {failed[:1]}")

    return run


def best(run: Callable[[], object], count: int, rounds: int = 5) -> float:
    """Records a second, of the best round."""
    times = []
    for _ in range(rounds):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return count / min(times)


def written(schema: object, document: object) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, document)  # type: ignore[arg-type]
    return out.getvalue()


def main(count: int) -> None:
    documents = orders(count)
    schema = fastavro.parse_schema(ORDER)
    avro = [written(schema, document) for document in documents]
    lines = [json.dumps(document, separators=(",", ":")).encode() for document in documents]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "order.avsc").write_text(json.dumps(ORDER))
        form = "{avro: {schema_file: order.avsc}}"
        iso = "{avro: {schema_file: order.avsc, timestamps: iso}}"
        reads = best(lambda: [fastavro.schemaless_reader(io.BytesIO(value), schema, None) for value in avro], count)
        writes = best(lambda: [written(schema, document) for document in documents], count)
        both = 1 / (1 / reads + 1 / writes)
        there_and_back = best(through(chain(form, iso, folder), avro), count)
        outward = best(through(chain("json", form, folder), lines), count)
        inward = best(through(chain(form, "json", folder), avro), count)
    print(f"{'':34}{'records/s':>12}  of fastavro")
    for label, rate, beside in (
        ("fastavro schemaless_reader", reads, None),
        ("fastavro schemaless_writer", writes, None),
        ("fastavro, read and write", both, None),
        ("chain: avro in, avro out", there_and_back, both),
        ("chain: avro in, json out", inward, reads),
        ("chain: json in, avro out", outward, writes),
    ):
        share = "" if beside is None else f"{rate / beside:>10.0%}"
        print(f"{label:34}{rate:>12,.0f}  {share}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)

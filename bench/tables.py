"""What a lookup in a table costs, and what a table takes: `python bench/tables.py [--rows 1000000]`.

Chains as they run in a worker over records in memory: without a lookup, with one in a file's table (a plain dict of
dicts), and with one in the table of a source. Then the rows of the last, read from the embedded log.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.observability.metrics import MetricSet
from streamd.plan.graph import build_plan
from streamd.record import SourceRecord
from streamd.runtime.assembly import Assembly
from streamd.transport.embedded.log import EmbeddedLog, log_path
from streamd.transport.embedded.transaction import EmbeddedTransaction

RECORDS, AT_ONCE, ROUNDS = 200_000, 2000, 5
PIPELINE = """
name: bench
sources:
  in: {{log: {{topic: in}}}}
  {source}
stages: [{stage}]
sink: {{log: {{topic: out}}}}
"""
USERS = "users: {log: {topic: users}, table: {key: id}}"
STAGES = {
    "no lookup": ("", "set: {tier: '\"gold\"', country: '\"DE\"'}"),
    "file, two fields": ("", "enrich: {file: users.ndjson, key: user, match: id, fields: [tier, country]}"),
    "table, two fields": (USERS, "enrich: {table: users, key: user, fields: [tier, country]}"),
    "file, row as an object": ("", "enrich: {file: users.ndjson, key: user, match: id, as: u}"),
    "table, row as an object": (USERS, "enrich: {table: users, key: user, as: u}"),
}


def user(number: int) -> dict[str, object]:
    return {"id": f"user-{number}", "tier": "gold", "country": "DE", "name": f"Name of {number}", "since": 2000}


async def assembled(folder: Path, source: str, stage: str) -> Assembly:
    text = PIPELINE.format(source=source, stage=stage)
    config = load_pipeline_text(text, folder / "p.yaml", Registry.default(), {}, ServiceConfig.model_validate({}))
    assembly = Assembly(build_plan(config), PipelineContext("bench", "bench", folder, folder))
    await assembly.open()
    return assembly


def rss() -> float:
    """MB that this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


async def lookups(folder: Path, rows: int) -> None:
    count = min(rows, 100_000)
    (folder / "users.ndjson").write_text("".join(json.dumps(user(n)) + "\n" for n in range(count)))
    records = [
        SourceRecord(None, json.dumps({"user": f"user-{n * 7919 % count}", "amount": n, "at": "x" * 60}).encode(), 0, n)
        for n in range(RECORDS)
    ]
    print("| lookup | CPU µs/record |\n|---|---:|")
    for name, (source, stage) in STAGES.items():
        assembly = await assembled(folder, source, stage)
        if source:
            await assembly.tables.ready(["users"], MetricSet())
        [chain] = assembly.chains.values()
        best = float("inf")
        for _ in range(ROUNDS):
            began = time.process_time()
            for at in range(0, RECORDS, AT_ONCE):
                failed: list[object] = []
                chain.function(records[at : at + AT_ONCE], 0, failed, [])
                assert not failed
            best = min(best, time.process_time() - began)
        await assembly.close()
        print(f"| {name} | {best / RECORDS * 1e6:.2f} |")


async def fill(folder: Path, rows: int) -> None:
    log = EmbeddedLog.acquire(log_path(folder, "bench"))
    for topic in ("in", "users"):
        await log.create_topic(topic, 1)
    transaction = EmbeddedTransaction(log_path(folder, "bench"), "fill")
    await transaction.open()
    for at in range(0, rows, 10_000):
        transaction.begin()
        for n in range(at, min(rows, at + 10_000)):
            transaction.append("users", 0, b"user-%d" % n, json.dumps(user(n)).encode(), 0, ())
        await transaction.flush()
        await transaction.commit()
    await transaction.close()
    await log.release()


async def memory(folder: Path, rows: int, name: str) -> None:
    source, stage = STAGES[name]
    assembly = await assembled(folder, source, stage)
    before, began = rss(), time.process_time()
    await assembly.tables.ready(["users"], MetricSet())
    took = rss() - before
    print(f"| {rows:,}, {name} | {took:.0f} | {took * 1e6 / rows:.0f} | {time.process_time() - began:.1f} |")
    await assembly.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("only", choices=["lookups", "memory"], nargs="?")
    given = options.parse_args()
    fork = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        asyncio.run(fill(folder, given.rows if given.only != "lookups" else min(given.rows, 100_000)))
        if given.only != "memory":
            asyncio.run(lookups(folder, given.rows))
        if given.only != "lookups":
            print("\n| rows | MB | bytes a row | CPU seconds to read |\n|---|---:|---:|---:|", flush=True)
            for name in ("table, two fields", "table, row as an object"):
                # In a process of its own: what one has freed, the next would find.
                child = fork.Process(target=lambda name=name: asyncio.run(memory(folder, given.rows, name)))
                child.start()
                child.join()


if __name__ == "__main__":
    main()

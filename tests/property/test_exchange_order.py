"""Through an exchange on the embedded log: each record once, a key in one partition, in the order of each sender."""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.observability.metrics import MetricSet
from streamd.plan.graph import build_plan
from streamd.supervisor.inline import run_inline
from streamd.supervisor.options import Options
from streamd.transport.embedded.log import EmbeddedLog, log_path
from streamd.transport.embedded.transaction import EmbeddedTransaction

PIPELINE = """
name: p
source: {{log: {{topic: in, partitions: {before}}}}}
stages:
- key_by: {{by: k, partitions: {after}}}
- set: {{m: n + 1}}
sink: {{log: {{topic: out, partitions: {after}}}}}
batch: {{max_records: {batch}}}
"""
EXCHANGE = "streamd.app.p.key_by.exchange"
Rounds = list[list[tuple[int, Any]]]

keys = st.one_of(st.sampled_from("abcdefgh"), st.integers(0, 8), st.booleans(), st.floats(0, 3, width=16))


async def run(folder: Path, rounds: Rounds, before: int, after: int, batch: int) -> dict[int, list[dict[str, Any]]]:
    """What comes out, by partition. Each round is fed and run; a pair is (partition, key)."""
    text = PIPELINE.format(before=before, after=after, batch=batch)
    service = ServiceConfig.model_validate({})
    config = load_pipeline_text(text, folder / "p.yaml", Registry.default(), {}, service)
    log = EmbeddedLog.acquire(log_path(folder, "app"))
    try:
        await log.create_topic("in", before)
        feed = EmbeddedTransaction(log_path(folder, "app"), "feed")
        await feed.open()
        number = 0
        for pairs in rounds:
            feed.begin()
            for partition, key in pairs:
                document = orjson.dumps({"k": key, "n": number, "p": partition % before})
                feed.extend("in", partition % before, [(None, document, 1000 + number, [("h", b"%d" % number)])])
                number += 1
            await feed.commit()
            context = PipelineContext("app", "p", folder, folder)
            options = Options(idle_confirmation=0.05)
            plan = build_plan(config, "app")
            result = await run_inline(plan, context, MetricSet(), until_idle=True, options=options)
            assert result.fault is None
        await feed.close()
        out: dict[int, list[dict[str, Any]]] = {}
        for stream in await log.streams("out"):
            records = await log.fetch(stream.id, 0, 100_000, 1 << 26)
            out[stream.partition] = [orjson.loads(record.value or b"") for record in records]
            for record, document in zip(records, out[stream.partition], strict=True):
                assert (record.timestamp, record.headers) == (1000 + document["n"], (("h", b"%d" % document["n"]),))
        return out
    finally:
        await log.release()


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 3), keys), max_size=40), min_size=1, max_size=3),
    st.integers(1, 4), st.integers(1, 4), st.integers(1, 50),
)  # fmt: skip
@settings(max_examples=12)
def test_every_record_once_and_in_order(rounds: Rounds, before: int, after: int, batch: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = asyncio.run(run(Path(folder), rounds, before, after, batch))
    every = [document for documents in out.values() for document in documents]
    assert sorted(document["n"] for document in every) == list(range(sum(map(len, rounds))))
    assert all(document["m"] == document["n"] + 1 for document in every)
    homes: dict[bytes, set[int]] = defaultdict(set)
    for partition, documents in out.items():
        newest: dict[tuple[bytes, int], int] = {}
        for document in documents:
            key = orjson.dumps(document["k"])
            homes[key].add(partition)
            assert newest.get((key, document["p"]), -1) < document["n"]
            newest[key, document["p"]] = document["n"]
    assert all(len(home) == 1 for home in homes.values())


async def test_what_was_read_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamd.exchange.reader.PURGE_INTERVAL", 0.0)
    rounds: Rounds = [[(n, "ab"[n % 2]) for n in range(200)] for _ in range(3)]
    out = await run(tmp_path, rounds, 2, 1, 20)
    assert len(out[0]) == 600
    log = EmbeddedLog.acquire(log_path(tmp_path, "app"))
    try:
        [stream] = await log.streams(EXCHANGE)
        assert stream.end >= 600
        assert 0 < stream.start < stream.end
    finally:
        await log.release()

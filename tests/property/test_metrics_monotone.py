"""Merged counters never go back, and lose nothing that was reported, whatever happens to workers."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streamd.observability import catalog
from streamd.observability.merge import MergedMetrics
from streamd.observability.metrics import MetricSet

WORKERS = st.integers(0, 2)
PIPELINES = st.sampled_from(["orders", "users"])


class Workers(RuleBasedStateMachine):
    """Workers that count, report, drop pipelines, die unseen, die seen, and are replaced under the same name."""

    def __init__(self) -> None:
        super().__init__()
        self.merged = MergedMetrics()
        self.sets = [MetricSet() for _ in range(3)]
        self.unreported = [dict.fromkeys(("orders", "users"), 0) for _ in range(3)]
        self.reported = {"orders": 0, "users": 0}
        self.seen = {"orders": 0.0, "users": 0.0}

    @rule(worker=WORKERS, pipeline=PIPELINES, records=st.integers(0, 1000))
    def count(self, worker: int, pipeline: str, records: int) -> None:
        self.sets[worker].counter(catalog.SOURCE_RECORDS, pipeline=pipeline, source="s").add(records)
        self.sets[worker].histogram(catalog.LATENCY, pipeline=pipeline).observe(records / 100, records)
        self.sets[worker].gauge(catalog.WATERMARK, pipeline=pipeline, part=0, partition=worker).set(records)
        self.unreported[worker][pipeline] += records

    @rule(worker=WORKERS)
    def report(self, worker: int) -> None:
        self.merged.update(f"worker-{worker}", self.sets[worker].snapshot())
        for pipeline, records in self.unreported[worker].items():
            self.reported[pipeline] += records
            self.unreported[worker][pipeline] = 0

    @rule(worker=WORKERS, pipeline=PIPELINES)
    def drop_pipeline(self, worker: int, pipeline: str) -> None:
        self.report(worker)
        self.sets[worker].remove(pipeline=pipeline)

    @rule(worker=WORKERS, noticed=st.booleans())
    def die(self, worker: int, noticed: bool) -> None:
        self.sets[worker] = MetricSet()
        self.unreported[worker] = dict.fromkeys(("orders", "users"), 0)
        if noticed:
            self.merged.forget(f"worker-{worker}")
            gauges = self.merged.series(catalog.WATERMARK)
            assert not any(partition == str(worker) for _, _, partition in gauges)

    @invariant()
    def totals_are_what_was_reported(self) -> None:
        for pipeline, records in self.reported.items():
            total = self.merged.totals(catalog.SOURCE_RECORDS, pipeline=pipeline)
            assert total == records
            assert self.merged.totals(catalog.LATENCY, pipeline=pipeline) == records
            assert total >= self.seen[pipeline]
            self.seen[pipeline] = total


TestWorkers = Workers.TestCase

"""Rates and quantiles over the last seconds."""

from __future__ import annotations

import pytest

from streamd.observability import catalog
from streamd.observability.merge import MergedMetrics
from streamd.observability.metrics import MetricSet
from streamd.observability.rates import Rates, quantile


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds


class Node:
    """One worker's counters, sampled once a second."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.merged = MergedMetrics()
        self.metrics = MetricSet()
        self.rates = Rates(self.merged, (catalog.SOURCE_RECORDS, catalog.LATENCY), self.clock, window=10.0)

    def second(self, records: int, latency: float = 0.03) -> None:
        self.metrics.counter(catalog.SOURCE_RECORDS, pipeline="p", source="s").add(records)
        self.metrics.histogram(catalog.LATENCY, pipeline="p").observe(latency, records)
        self.merged.update("worker-0", self.metrics.snapshot())
        self.rates.sample()
        self.clock.seconds += 1.0

    def rate(self) -> dict[str, float]:
        return self.rates.by(catalog.SOURCE_RECORDS, "pipeline")


def test_no_rate_before_two_samples():
    node = Node()
    assert node.rate() == {}
    node.second(50)
    assert node.rate() == {}
    assert sum(node.rates.buckets(catalog.LATENCY, pipeline="p")) == 0


def test_a_rate_is_over_the_window_only():
    node = Node()
    node.second(1_000_000)
    for _ in range(10):
        node.second(20)
    assert node.rate() == {"p": 20.0}
    for _ in range(5):
        node.second(0)
    assert node.rate() == {"p": 10.0}
    for _ in range(5):
        node.second(0)
    assert node.rate() == {"p": 0.0}


def test_the_window_also_bounds_what_is_kept():
    node = Node()
    for _ in range(1000):
        node.second(1)
    assert len(node.rates._samples) == 11


def test_a_pipeline_that_appears_counts_from_zero():
    node = Node()
    node.rates.sample()
    node.clock.seconds += 2.0
    node.second(50)
    assert node.rates.by(catalog.SOURCE_RECORDS, "pipeline", pipeline="p") == {"p": 25.0}
    assert node.rates.by(catalog.SOURCE_RECORDS, "pipeline", pipeline="other") == {}


def test_a_removed_pipeline_never_has_a_negative_rate():
    node = Node()
    node.second(50)
    node.merged.forget("worker-0", keep_counters=False)
    node.metrics = MetricSet()
    node.second(3)
    assert node.rate() == {"p": 0.0}


def test_histograms_count_over_the_window_only():
    node = Node()
    node.second(500, latency=10.0)
    for _ in range(10):
        node.second(20, latency=0.03)
    counts = node.rates.buckets(catalog.LATENCY, pipeline="p")
    assert sum(counts) == 200
    assert quantile(0.99, catalog.LATENCY.buckets, counts) == pytest.approx(0.03, rel=0.02)


@pytest.mark.parametrize(
    ("q", "counts", "expected"),
    [
        (0.5, [0, 0, 0], None),
        (0.5, [4, 0, 0], 0.5),
        (0.5, [0, 4, 0], 1.5),
        (1.0, [0, 4, 0], 2.0),
        (0.5, [1, 0, 9], 2.0),
        (0.25, [4, 4, 0], 0.5),
    ],
)
def test_quantiles_are_linear_within_a_bucket(q: float, counts: list[int], expected: float | None):
    assert quantile(q, (1.0, 2.0), counts) == expected

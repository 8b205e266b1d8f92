"""What happened over the last seconds: rates from counters, and quantiles from histograms, sampled once a second."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from streamd.clock import Clock
from streamd.observability.catalog import Metric
from streamd.observability.merge import Labels, MergedMetrics


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    counters: Mapping[str, dict[Labels, float]]
    histograms: Mapping[str, dict[Labels, list[int]]]


class Rates:
    """Samples of some counters and histograms over a window of seconds.

    `sample` is to be called about once a second by whoever owns this.
    """

    def __init__(self, metrics: MergedMetrics, watched: tuple[Metric, ...], clock: Clock, window: float = 10.0) -> None:
        self._metrics = metrics
        self._counters = tuple(metric for metric in watched if metric.kind == "counter")
        self._histograms = tuple(metric for metric in watched if metric.kind == "histogram")
        self._clock = clock
        self._window = window
        self._samples: deque[_Sample] = deque()

    def sample(self) -> None:
        """Note the figures as they are now; forget samples older than the window, but one that covers it."""
        now = self._clock.monotonic()
        counters = {metric.name: self._metrics.series(metric) for metric in self._counters}
        histograms = {metric.name: self._metrics.buckets(metric) for metric in self._histograms}
        self._samples.append(_Sample(now, counters, histograms))
        while len(self._samples) > 1 and self._samples[1].at <= now - self._window:
            self._samples.popleft()

    def by(self, counter: Metric, label: str, /, **labels: str) -> dict[str, float]:
        """Per second over the window (or since the first sample), for each value of `label`. {} before two samples."""
        if len(self._samples) < 2:
            return {}
        first, last = self._samples[0], self._samples[-1]
        seconds = max(last.at - first.at, 1e-9)
        place = counter.labels.index(label)
        before = first.counters[counter.name]
        rates: dict[str, float] = {}
        for values, value in last.counters[counter.name].items():
            if _has(counter, values, labels):
                gained = max(value - before.get(values, 0.0), 0.0) / seconds
                rates[values[place]] = rates.get(values[place], 0.0) + gained
        return rates

    def buckets(self, histogram: Metric, /, **labels: str) -> list[int]:
        """What a histogram counted over the window, over all series that have these labels, +Inf last."""
        sums = [0] * (len(histogram.buckets) + 1)
        if self._samples:
            before = self._samples[0].histograms[histogram.name]
            for values, counts in self._samples[-1].histograms[histogram.name].items():
                if _has(histogram, values, labels):
                    old = before.get(values) or [0] * len(counts)
                    sums = [total + max(now - then, 0) for total, now, then in zip(sums, counts, old, strict=True)]
        return sums


def _has(metric: Metric, values: Labels, labels: Mapping[str, str]) -> bool:
    return all(values[metric.labels.index(name)] == value for name, value in labels.items())


def quantile(q: float, bounds: tuple[float, ...], counts: list[int]) -> float | None:
    """The value below which a share `q` of a histogram's values lie, linear within a bucket; None when it is empty.

    Values above the last bound count as that bound, so the result is at most that.
    """
    total = sum(counts)
    if total == 0:
        return None
    rank = q * total
    below = 0
    for index, count in enumerate(counts[:-1]):
        if count and below + count >= rank:
            low = bounds[index - 1] if index else 0.0
            return low + (bounds[index] - low) * max(rank - below, 0.0) / count
        below += count
    return bounds[-1]

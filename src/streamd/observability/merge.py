"""The metrics of all processes of a node as one: what `/metrics` shows and the HTTP API's figures are made of.

Counters and histograms are sums over processes, living and dead, so they never go back when a worker is replaced.
Gauges are those of living processes only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as PrometheusFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from streamd.observability.catalog import CATALOG, Metric
from streamd.observability.metrics import FamilySnapshot, Snapshot

Labels = tuple[str, ...]


@dataclass(slots=True)
class _Value:
    """One merged series: a counter's or gauge's value, or a histogram's sum and counts."""

    value: float
    counts: list[int] = field(default_factory=list)

    def add(self, value: float, counts: list[int] | None) -> None:
        self.value += value
        if counts is not None:
            self.counts = [a + b for a, b in zip(self.counts, counts, strict=True)] if self.counts else counts


class MergedMetrics:
    """Takes snapshots, gives sums. Belongs to one event loop; `render` may run in a thread."""

    def __init__(self) -> None:
        self._latest: dict[str, tuple[str, dict[str, FamilySnapshot]]] = {}
        # What processes that are gone had counted, and what series had counted that a process dropped.
        self._retired: dict[str, dict[Labels, _Value]] = {}

    def update(self, source: str, snapshot: Snapshot) -> None:
        """Take the newest snapshot of the process known as `source`; a new process may take over a dead one's name."""
        families = {family.name: family for family in snapshot.families if family.name in CATALOG}
        before = self._latest.get(source)
        if before is not None:
            instance, old = before
            for name, family in old.items():
                new = families.get(name) if instance == snapshot.instance else None
                if new is None:
                    self._retire(family, ())
                elif new.labels != family.labels:
                    self._retire(family, new.labels)
        self._latest[source] = (snapshot.instance, families)

    def forget(self, source: str, keep_counters: bool = True) -> None:
        """The process is gone. Its gauges vanish; what it counted stays, unless `keep_counters` is false."""
        _, families = self._latest.pop(source, ("", {}))
        if keep_counters:
            for family in families.values():
                self._retire(family, ())

    def remove(self, **labels: object) -> None:
        """Forget what processes had counted under all these labels: for a pipeline that is no longer configured."""
        for name, series in self._retired.items():
            match = _matcher(CATALOG[name], labels)
            if match is not None:
                for values in [values for values in series if _matches(values, match)]:
                    del series[values]

    def series(self, metric: Metric, /, **labels: object) -> dict[Labels, float]:
        """Label values → value, of the series that have all these labels. For a histogram the value is its count."""
        match = _matcher(metric, labels)
        if match is None:
            raise ValueError(f"metric {metric.name} has the labels {metric.labels}, not all of {sorted(labels)}")
        histogram = metric.kind == "histogram"
        return {
            values: float(sum(merged.counts)) if histogram else merged.value
            for values, merged in self._merged(metric).items()
            if _matches(values, match)
        }

    def totals(self, metric: Metric, /, **labels: object) -> float:
        """The sum over all series that have these labels, 0 when there is none. For a histogram: how many values."""
        return sum(self.series(metric, **labels).values())

    def by(self, metric: Metric, label: str, /, **labels: object) -> dict[str, float]:
        """The totals for each value of one label."""
        place = metric.labels.index(label)
        totals: dict[str, float] = {}
        for values, value in self.series(metric, **labels).items():
            totals[values[place]] = totals.get(values[place], 0.0) + value
        return totals

    def buckets(self, metric: Metric, /) -> dict[Labels, list[int]]:
        """Label values → counts of a histogram, one for each bucket, not cumulative, +Inf last."""
        return {labels: merged.counts for labels, merged in self._merged(metric).items()}

    def collect(self) -> list[PrometheusFamily]:
        """All families that have a series, as prometheus_client takes them: copies, safe to render in a thread."""
        return [_family(metric, merged) for metric in CATALOG.values() if (merged := self._merged(metric))]

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The whole page, and its content type: OpenMetrics where `accept` asks for it, else Prometheus text."""
        return render(self.collect(), accept)

    def _retire(self, family: FamilySnapshot, remaining: Iterable[Labels]) -> None:
        """Keep what the series counted that are no longer among `remaining`."""
        if CATALOG[family.name].kind == "gauge":
            return
        retired = self._retired.setdefault(family.name, {})
        kept = set(remaining)
        for labels, value, counts in _rows(family):
            if labels not in kept:
                retired.setdefault(labels, _Value(0.0)).add(value, counts)

    def _merged(self, metric: Metric) -> dict[Labels, _Value]:
        merged: dict[Labels, _Value] = {
            labels: _Value(old.value, old.counts) for labels, old in self._retired.get(metric.name, {}).items()
        }
        for _, families in self._latest.values():
            family = families.get(metric.name)
            if family is None:
                continue
            for labels, value, counts in _rows(family):
                known = merged.get(labels)
                if known is None:
                    merged[labels] = _Value(value, counts or [])
                elif metric.kind != "gauge" or metric.merge == "sum":
                    known.add(value, counts)
                else:
                    known.value = max(known.value, value) if metric.merge == "max" else min(known.value, value)
        return merged


def render(families: list[PrometheusFamily], accept: str = "") -> tuple[bytes, str]:
    """Write families out; returns the page and its content type. Pure: 10,000 series take some 100 ms."""
    encoder, content_type = choose_encoder(accept)
    return encoder(_Given(families)), content_type


class _Given(Collector):
    """A collector of just these families."""

    def __init__(self, families: list[PrometheusFamily]) -> None:
        self._families = families

    def collect(self) -> Iterator[PrometheusFamily]:
        return iter(self._families)


def _rows(family: FamilySnapshot) -> Iterator[tuple[Labels, float, list[int] | None]]:
    counts: Iterable[list[int] | None] = family.counts or [None] * len(family.values)
    return zip(family.labels, family.values, counts, strict=True)


def _matcher(metric: Metric, labels: Mapping[str, object]) -> list[tuple[int, str]] | None:
    """Where in the label values what has to stand; None when the metric has no such label."""
    if not labels.keys() <= set(metric.labels):
        return None
    return [(metric.labels.index(name), str(value)) for name, value in labels.items()]


def _matches(values: Labels, match: list[tuple[int, str]]) -> bool:
    return all(values[place] == value for place, value in match)


def _family(metric: Metric, merged: dict[Labels, _Value]) -> PrometheusFamily:
    if metric.kind == "counter":
        counter = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, value in merged.items():
            counter.add_metric(labels, value.value)
        return counter
    if metric.kind == "gauge":
        gauge = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, value in merged.items():
            gauge.add_metric(labels, value.value)
        return gauge
    histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    bounds = [*(repr(float(bound)) for bound in metric.buckets), "+Inf"]
    for labels, value in merged.items():
        below = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip(bounds, value.counts, strict=True):
            below += count
            buckets.append((bound, below))
        histogram.add_metric(labels, buckets, value.value)
    return histogram

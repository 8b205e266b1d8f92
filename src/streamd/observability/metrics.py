"""The metrics of one process: cheap to count with, cheap to send.

Hold on to the objects and count whole batches:

    read = metrics.counter(catalog.SOURCE_RECORDS, pipeline="orders", source="kafka")   # once
    read.add(len(batch))                                                                # per batch

Nothing here locks: one MetricSet belongs to one event loop.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import msgspec

from streamd.observability.catalog import CATALOG, Metric


class Counter:
    """A number that only rises. `value += n` is as good as `add(n)`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, amount: float = 1) -> None:
        """Count `amount` ≥ 0 more."""
        self.value += amount


class Gauge:
    """A number as it is now."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        self.value = value


class Histogram:
    """How often values fell below each bound. `counts[i]` counts values ≤ `bounds[i]`, and the last one the rest."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Count `value` as seen `count` times."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.sum += value * count

    def observe_many(self, values: Iterable[float]) -> None:
        """Count many values at once; the cost is one sort, next to nothing for values that come nearly in order."""
        ordered = sorted(values)
        below = 0
        for index, bound in enumerate(self.bounds):
            up_to = bisect_right(ordered, bound, below)
            self.counts[index] += up_to - below
            below = up_to
        self.counts[-1] += len(ordered) - below
        self.sum += sum(ordered)


class FamilySnapshot(msgspec.Struct, array_like=True, gc=False):
    """All series of one metric, as columns. `labels[i]` belongs to `values[i]`, in the order of the catalog's labels.

    For a histogram `values` are the sums, and `counts[i]` one count for each bucket, not cumulative, +Inf last.
    """

    name: str
    labels: list[tuple[str, ...]]
    values: list[float]
    counts: list[list[int]] = []


class Snapshot(msgspec.Struct, array_like=True):
    """Everything that one process counted. `instance` is another one for each process and each MetricSet."""

    instance: str
    families: list[FamilySnapshot]


Series = TypeVar("Series")


class _Family(Generic[Series]):
    """The series of one metric, by label values.

    `leaving`: removed counters and histograms, until a snapshot without them was made. Whoever merges snapshots then
    sees that they ended; made anew before that, they count on, because the snapshots show no gap.
    """

    __slots__ = ("leaving", "make", "metric", "series")

    def __init__(self, metric: Metric, make: Callable[[], Series]) -> None:
        self.metric = metric
        self.make = make
        self.series: dict[tuple[str, ...], Series] = {}
        self.leaving: dict[tuple[str, ...], Series] = {}

    def get(self, labels: dict[str, object]) -> Series:
        if labels.keys() != set(self.metric.labels):
            raise ValueError(
                f"metric {self.metric.name} got the labels {sorted(labels)}; it has {sorted(self.metric.labels)}"
            )
        values = tuple([str(labels[name]) for name in self.metric.labels])
        series = self.series.get(values)
        if series is None:
            series = self.series[values] = self.leaving.pop(values, None) or self.make()
        return series

    def remove(self, labels: dict[str, str]) -> None:
        if not labels.keys() <= set(self.metric.labels):
            return
        places = [(self.metric.labels.index(name), value) for name, value in labels.items()]
        for values in [key for key in self.series if all(key[place] == value for place, value in places)]:
            series = self.series.pop(values)
            if self.metric.kind != "gauge":
                self.leaving[values] = series


class MetricSet:
    """All metrics of one process."""

    def __init__(self) -> None:
        self._instance = f"{os.getpid()}-{os.urandom(6).hex()}"
        self._counters: dict[str, _Family[Counter]] = {}
        self._gauges: dict[str, _Family[Gauge]] = {}
        self._histograms: dict[str, _Family[Histogram]] = {}
        self._hooks: list[Callable[[], None]] = []

    def counter(self, metric: Metric, /, **labels: object) -> Counter:
        """The counter with these labels; the same object for the same labels. Raises ValueError for wrong labels."""
        family = self._counters.get(metric.name)
        if family is None:
            family = self._counters[metric.name] = _Family(_checked(metric, "counter"), Counter)
        return family.get(labels)

    def gauge(self, metric: Metric, /, **labels: object) -> Gauge:
        """The gauge with these labels. The series exists from this call until `remove`: call when there is a value."""
        family = self._gauges.get(metric.name)
        if family is None:
            family = self._gauges[metric.name] = _Family(_checked(metric, "gauge"), Gauge)
        return family.get(labels)

    def histogram(self, metric: Metric, /, **labels: object) -> Histogram:
        """The histogram with these labels, with the catalog's buckets."""
        family = self._histograms.get(metric.name)
        if family is None:
            family = _Family(_checked(metric, "histogram"), lambda: Histogram(metric.buckets))
            self._histograms[metric.name] = family
        return family.get(labels)

    def remove(self, **labels: object) -> None:
        """Forget every series that has all these labels: what belongs to a task or a pipeline that left.

        `remove(pipeline=…, part=…, partition=…)` leaves what is counted for the whole pipeline. Objects handed out
        before are no longer exported.
        """
        wanted = {name: str(value) for name, value in labels.items()}
        for families in (self._counters, self._gauges, self._histograms):
            for family in families.values():
                family.remove(wanted)

    def remove_gauges(self, **labels: object) -> None:
        """As `remove`, of what is now; what was counted stays."""
        for family in self._gauges.values():
            family.remove({name: str(value) for name, value in labels.items()})

    def before_snapshot(self, hook: Callable[[], None]) -> Callable[[], None]:
        """Call `hook` before each snapshot, to set gauges that depend on the moment (an age, a lag).

        Returns a function that takes the hook out again, and does nothing when called twice.
        """
        self._hooks.append(hook)

        def forget() -> None:
            if hook in self._hooks:
                self._hooks.remove(hook)

        return forget

    def snapshot(self) -> Snapshot:
        """Everything as it is now. Takes well under a millisecond for 1,000 series.

        Every snapshot must reach its reader, or none after it: a series removed and made anew would else be miscounted.
        """
        for hook in tuple(self._hooks):
            hook()
        families = [
            FamilySnapshot(name, list(family.series), [series.value for series in family.series.values()])
            for group in (self._counters, self._gauges)
            for name, family in group.items()
            if family.series
        ]
        for name, family in self._histograms.items():
            every = family.series.values()
            if family.series:
                families.append(
                    FamilySnapshot(name, list(family.series), [h.sum for h in every], [h.counts.copy() for h in every])
                )
        for counters in self._counters.values():
            counters.leaving.clear()
        for histograms in self._histograms.values():
            histograms.leaving.clear()
        return Snapshot(self._instance, families)


def _checked(metric: Metric, kind: str) -> Metric:
    if CATALOG.get(metric.name) is not metric:
        raise ValueError(f"metric {metric.name} is not in the catalog (streamd.observability.catalog)")
    if metric.kind != kind:
        raise ValueError(f"metric {metric.name} is a {metric.kind}, not a {kind}")
    return metric

"""Rates per second over the last seconds, from counters that are sampled once a second."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from streamd.clock import Clock
from streamd.observability.catalog import Metric
from streamd.observability.merge import Labels, MergedMetrics


class Rates:
    """Samples of some counters over a window. `sample` is to be called about once a second by whoever owns this."""

    def __init__(
        self, metrics: MergedMetrics, counters: tuple[Metric, ...], clock: Clock, window: float = 10.0
    ) -> None:
        self._metrics = metrics
        self._counters = counters
        self._clock = clock
        self._window = window
        self._samples: deque[tuple[float, Mapping[str, dict[Labels, float]]]] = deque()

    def sample(self) -> None:
        """Note the counters as they are now; forget samples older than the window, but one that covers it."""
        now = self._clock.monotonic()
        self._samples.append((now, {counter.name: self._metrics.series(counter) for counter in self._counters}))
        while len(self._samples) > 1 and self._samples[1][0] <= now - self._window:
            self._samples.popleft()

    def by(self, counter: Metric, label: str, /, **labels: str) -> dict[str, float]:
        """Per second over the window (or since the first sample), for each value of `label`. {} before two samples."""
        if len(self._samples) < 2:
            return {}
        (start, first), (end, last) = self._samples[0], self._samples[-1]
        place = counter.labels.index(label)
        match = [(counter.labels.index(name), value) for name, value in labels.items()]
        before = first[counter.name]
        rates: dict[str, float] = {}
        for values, value in last[counter.name].items():
            if all(values[index] == wanted for index, wanted in match):
                gained = max(value - before.get(values, 0.0), 0.0) / max(end - start, 1e-9)
                rates[values[place]] = rates.get(values[place], 0.0) + gained
        return rates


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

"""Whether a series of samples stays flat: its slope, from all pairs of samples, against a bound for each hour.

The slope is Theil and Sen's, the median of the slopes of all pairs: a few samples that lie far off (a partition that
visits for a minute) do not move it. Pure.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

MOST_SAMPLES = 300  # that pairs are made of; a longer series is thinned by medians of its pieces


@dataclass(frozen=True, slots=True)
class Bound:
    """How much a series may rise in an hour: `share` of its median, or `floor` in its own unit, whichever is more."""

    share: float
    floor: float

    def of(self, level: float) -> float:
        """The rise allowed in an hour for a series with this median."""
        return max(self.share * abs(level), self.floor)


@dataclass(slots=True)
class Series:
    """Samples of one thing of one process: `times` in seconds, rising, and `values`."""

    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, time: float, value: float) -> None:
        self.times.append(time)
        self.values.append(value)

    def __len__(self) -> int:
        return len(self.times)

    @property
    def seconds(self) -> float:
        """From the first sample to the last."""
        return self.times[-1] - self.times[0] if self.times else 0.0

    def after(self, time: float) -> Series:
        """What was sampled then and later."""
        kept = [(t, v) for t, v in zip(self.times, self.values, strict=True) if t >= time]
        return Series([t for t, _ in kept], [v for _, v in kept])


@dataclass(frozen=True, slots=True)
class Trend:
    """`start` and `end`: medians of the first and last tenth; `slope` and `allowed`: rise in an hour."""

    samples: int
    seconds: float
    start: float
    end: float
    highest: float
    slope: float
    allowed: float

    @property
    def flat(self) -> bool:
        """Falling is flat as well: what was used once and given back is no leak."""
        return self.slope <= self.allowed


def slope(series: Series) -> float:
    """The rise in an hour; 0 for fewer than two samples."""
    times, values = _thinned(series)
    pairs = combinations(range(len(times)), 2)
    rises = [(values[b] - values[a]) / (times[b] - times[a]) for a, b in pairs if times[b] > times[a]]
    return statistics.median(rises) * 3600.0 if rises else 0.0


def trend(series: Series, bound: Bound) -> Trend:
    """Judge a series without its warm-up. Raises ValueError when it is empty."""
    if not series.values:
        raise ValueError("A series without samples has no trend: take more, or leave out less.")
    tenth = max(1, len(series) // 10)
    return Trend(
        samples=len(series),
        seconds=series.seconds,
        start=statistics.median(series.values[:tenth]),
        end=statistics.median(series.values[-tenth:]),
        highest=max(series.values),
        slope=slope(series),
        allowed=bound.of(statistics.median(series.values)),
    )


def _thinned(series: Series) -> tuple[Sequence[float], Sequence[float]]:
    if len(series) <= MOST_SAMPLES:
        return series.times, series.values
    piece = math.ceil(len(series) / MOST_SAMPLES)
    starts = range(0, len(series), piece)
    return (
        [statistics.fmean(series.times[at : at + piece]) for at in starts],
        [statistics.median(series.values[at : at + piece]) for at in starts],
    )

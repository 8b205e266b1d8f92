"""Which topics of our own are held back by open transactions, and for how long: a look every few seconds.

Two requests to each leader for all topics together. A partition in steady use always has an open transaction; only one
whose last stable offset stands still is in trouble.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import NamedTuple

from streamd.transport.kafka.inspection import Inspection, Place
from streamd.transport.kafka.settings import KafkaSettings


class Unstable(NamedTuple):
    """Of one topic: records held back in all its partitions; seconds that the oldest of these has been."""

    records: int
    seconds: float


class StabilityWatch:
    """Looks at one cluster, over connections of its own."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._inspection: Inspection | None = None
        # {partition: (last stable offset, monotonic seconds when it was first seen there)}, of those held back.
        self._since: dict[Place, tuple[int, float]] = {}

    async def look(self, names: Collection[str]) -> dict[str, Unstable]:
        """Each of the topics that exists. Raises UnavailableError, AccessDeniedError, FatalError."""
        if self._inspection is None:
            inspection = Inspection(self._settings)
            try:
                await inspection.open()
            except BaseException:
                await inspection.close()
                raise
            self._inspection = inspection
        topics, _ = await self._inspection.topics(names)
        ends = await self._inspection.ends({name: topic for name, topic in topics.items() if not topic.denied})
        return self._found(ends, time.monotonic())

    def _found(self, ends: dict[Place, tuple[int, int]], now: float) -> dict[str, Unstable]:
        before, self._since = self._since, {}
        found: dict[str, Unstable] = {}
        for place, (stable, high) in ends.items():
            known = found.get(place[0], Unstable(0, 0.0))
            if stable < high:
                seen = before.get(place)
                since = self._since[place] = seen if seen is not None and seen[0] == stable else (stable, now)
                known = Unstable(known.records + high - stable, max(known.seconds, now - since[1]))
            found[place[0]] = known
        return found

    async def close(self) -> None:
        """Disconnect; never raises."""
        inspection, self._inspection = self._inspection, None
        if inspection is not None:
            await inspection.close()

"""What a task shows of itself as gauges, whenever metrics are collected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from streamd.component.sink import Writer
from streamd.component.source import Reader
from streamd.observability import catalog
from streamd.observability.metrics import MetricSet
from streamd.plan.graph import PartPlan
from streamd.record import BEGINNING, END
from streamd.state.store import TableStore


class Gauges:
    """Of one task. `place`: the labels that say which. `readers` and `writers` may come and go."""

    def __init__(
        self, metrics: MetricSet, place: Mapping[str, Any], part: PartPlan, readers: Mapping[tuple[str, int], Reader],
        writers: Mapping[str, Writer], stores: Mapping[str, TableStore],
    ) -> None:  # fmt: skip
        self._metrics, self._place = metrics, place
        self._readers, self._writers, self._stores = readers, writers, stores
        self._files = {source.id for source in part.sources if source.name == "file"}

    def show(self, age: float, stage_of: Callable[[str], Any], watermark: int) -> None:
        """`age`: of the open transaction, in s. `stage_of`: gives a stage by its id. `watermark`: in ms."""
        self._set(catalog.TRANSACTION_AGE, age)
        for (source, _), reader in self._readers.items():
            lag = reader.lag()
            if lag is not None:
                # How many records are in the rest of a file, nobody knows.
                metric = catalog.SOURCE_LAG_BYTES if source in self._files else catalog.SOURCE_LAG_RECORDS
                self._set(metric, lag, source=source)
            unstable = getattr(reader, "unstable", None)
            if unstable is not None:
                records, seconds = unstable
                self._set(catalog.SOURCE_UNSTABLE_RECORDS, records, source=source)
                self._set(catalog.SOURCE_UNSTABLE_SECONDS, seconds, source=source)
        for stage, store in self._stores.items():
            self._set(catalog.STATE_KEYS, len(store), stage=stage)
            for rule, score in getattr(stage_of(stage), "latest", {}).items():
                self._set(catalog.QUALITY_SCORE, score, stage=stage.removesuffix(".scores"), rule=rule)
        if BEGINNING < watermark < END:
            self._set(catalog.WATERMARK, watermark / 1000)
        for sink, writer in self._writers.items():
            self._set(catalog.SINK_BACKLOG, writer.backlog, sink=sink)

    def _set(self, metric: catalog.Metric, value: float, **labels: Any) -> None:
        self._metrics.gauge(metric, **labels, **self._place).set(value)

"""What a task counts: the numbers that a fused function returns, spread over the components of its chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamd.clock import Clock
from streamd.codecs import Codec
from streamd.codecs.beside import key_of
from streamd.observability import catalog
from streamd.observability.metrics import Counter, Histogram, MetricSet
from streamd.plan.chain import Chain
from streamd.plan.graph import PartPlan
from streamd.record import RawRecord, Row
from streamd.runtime.failure import Failure

# Batches between two commits whose latency is remembered one by one; more are as good as these.
LATENCY_SAMPLES = 256


class Counting:
    """The counters of one task; all are looked up once.

    What belongs to a record counts when a checkpoint has made it durable: a record that is read again after a failure
    counts once, as it is written once. Only the record that stops the pipeline counts at once.
    """

    def __init__(
        self,
        pipeline: str,
        part: PartPlan,
        chains: Mapping[tuple[int, str], Chain],
        codecs: Mapping[str, Codec],
        metrics: MetricSet,
        clock: Clock,
    ) -> None:
        self._codecs = codecs
        self._pipeline, self._part, self._metrics, self._clock = pipeline, part, metrics, clock
        counter, histogram = metrics.counter, metrics.histogram
        self._sources = {
            s.id: (
                counter(catalog.SOURCE_RECORDS, pipeline=pipeline, source=s.id),
                counter(catalog.SOURCE_BYTES, pipeline=pipeline, source=s.id),
                histogram(catalog.SOURCE_BATCH, pipeline=pipeline, source=s.id),
            )
            for s in part.sources
        }
        self._sinks = {
            s.id: (
                counter(catalog.SINK_RECORDS, pipeline=pipeline, sink=s.id),
                counter(catalog.SINK_BYTES, pipeline=pipeline, sink=s.id),
                histogram(catalog.SINK_BATCH, pipeline=pipeline, sink=s.id),
            )
            for s in part.all_sinks
        }
        # {stage: (in, out, filtered)}
        self._stages: dict[str, tuple[Counter, Counter, Counter]] = {
            s.id: (
                counter(catalog.STAGE_INPUT, pipeline=pipeline, stage=s.id),
                counter(catalog.STAGE_OUTPUT, pipeline=pipeline, stage=s.id),
                counter(catalog.STAGE_FILTERED, pipeline=pipeline, stage=s.id),
            )
            for s in part.stages
        }
        self._dropped = {s.id: counter(catalog.STAGE_FILTERED, pipeline=pipeline, stage=s.id) for s in part.sources}
        self._latency = histogram(catalog.LATENCY, pipeline=pipeline)
        self._checkpoint_records = histogram(catalog.CHECKPOINT_RECORDS, pipeline=pipeline)
        self._durations: dict[str, tuple[Histogram, Histogram]] = {}
        # (timestamp of a batch's middle record, records), since the last commit
        self._pending: list[tuple[int, int]] = []
        self._uncommitted = 0
        self._rules: dict[str, Mapping[str, str]] = {}
        # {counter: what the next commit adds to it}
        self._due: dict[Counter, float] = {}

    def _add(self, counter: Counter, amount: float = 1) -> None:
        self._due[counter] = self._due.get(counter, 0) + amount

    def read(self, source: str, records: Sequence[RawRecord]) -> None:
        count, size, batch = self._sources[source]
        self._add(count, len(records))
        self._add(size, sum([len(v) for r in records if (v := r.value).__class__ is bytes]))
        batch.observe(len(records))
        self._uncommitted += len(records)
        if len(self._pending) < LATENCY_SAMPLES:
            self._pending.append((records[len(records) // 2].timestamp, len(records)))

    def committed(self) -> None:
        now = self._clock.now_ms()
        for timestamp, records in self._pending:
            self._latency.observe(max(0, now - timestamp) / 1000, records)
        self._checkpoint_records.observe(self._uncommitted)
        for counter, amount in self._due.items():
            counter.add(amount)
        self._due.clear()
        self._pending.clear()
        self._uncommitted = 0

    def chain(
        self, chain: Chain, records: int, counts: Sequence[int], failures: Sequence[Failure], seconds: float
    ) -> int:
        """Count a batch that went through a chain. Returns how many records did not fit the fast function."""
        by = dict(zip(chain.counters, counts, strict=True))
        failed: dict[str, int] = {}
        for failure in failures:
            failed[failure.component.id] = failed.get(failure.component.id, 0) + 1
            self.failed(failure)
        misfits = by.get((chain.entry, "misfits"), 0)
        self._checks(by)
        names = self._flow(chain, records, by, failed)
        if names and seconds:
            self._duration("+".join(names), records, seconds)
        return misfits

    def _flow(
        self, chain: Chain, records: int, by: Mapping[tuple[str, str], int], failed: Mapping[str, int]
    ) -> list[str]:
        """Follow the records from the entry: what a stage lets through is what its readers get."""
        entry_filtered = by.get((chain.entry, "filtered"), 0)
        if entry_filtered:
            self._add(self._dropped[chain.entry], entry_filtered)
        arriving = {chain.entry: records - entry_filtered - failed.get(chain.entry, 0)}
        names = []
        for stage in self._part.stages:
            if not stage.spec.fused:
                continue
            given = sum(arriving.get(read, 0) for read in stage.inputs)
            if not any(read in arriving for read in stage.inputs):
                continue
            names.append(stage.id)
            filtered = by.get((stage.id, "filtered"), 0)
            passed = by.get((stage.id, "elements"), given - filtered - failed.get(stage.id, 0))
            arriving[stage.id] = passed
            for (owner, what), count in by.items():
                if owner == stage.id and what.startswith("output:"):
                    arriving[f"{stage.id}.{what[7:]}"] = count
            counters = self._stages[stage.id]
            self._add(counters[0], given)
            self._add(counters[1], passed)
            self._add(counters[2], filtered)
            if rolled_back := by.get((stage.id, "rolled_back"), 0):
                self._add(
                    self._metrics.counter(catalog.STAGE_ROLLED_BACK, pipeline=self._pipeline, stage=stage.id),
                    rolled_back,
                )
        return names

    def _checks(self, by: Mapping[tuple[str, str], int]) -> None:
        """Count what rules of `validate` found in a batch."""
        for (owner, what), checked in by.items():
            if what == "checked" and checked:
                prefix = "broken:"
                broken = {w[len(prefix) :]: n for (o, w), n in by.items() if o == owner and w.startswith(prefix)}
                self.checked(owner, checked, broken)

    def checked(self, stage: str, records: int, broken: Mapping[str, int]) -> None:
        """Count records that a stage has checked. `broken`: {rule: records that break it}; none for one not in it."""
        for rule, severity in self._severities(stage).items():
            failed = broken.get(rule, 0)
            for result, count in (("passed", records - failed), ("failed", failed)):
                metric = self._metrics.counter(
                    catalog.QUALITY_CHECKS, pipeline=self._pipeline, stage=stage, rule=rule, severity=severity,
                    result=result,
                )  # fmt: skip
                self._add(metric, count)

    def _severities(self, stage: str) -> Mapping[str, str]:
        """{rule: severity} of a stage that has some."""
        if stage not in self._rules:
            settings: Any = next(c.settings for c in self._part.stages if c.id == stage)
            self._rules[stage] = {check.name: check.severity for check in settings.checks}
        return self._rules[stage]

    def stage(self, name: str, given: int, passed: int, filtered: int, seconds: float) -> None:
        """Count a batch that went through a batch or keyed stage. `filtered`: records that it left out on purpose."""
        counters = self._stages[name]
        self._add(counters[0], given)
        self._add(counters[1], passed)
        self._add(counters[2], max(0, filtered))
        self._duration(name, given, seconds)

    def held_back(self, stage: str, seconds: float) -> None:
        """Count time for which a rate limit let records wait."""
        self._metrics.counter(catalog.RATE_LIMIT_WAIT, pipeline=self._pipeline, stage=stage).add(seconds)

    def _duration(self, name: str, records: int, seconds: float) -> None:
        pair = self._durations.get(name)
        if pair is None:
            pair = self._durations[name] = (
                self._metrics.histogram(catalog.STAGE_DURATION, pipeline=self._pipeline, stage=name),
                self._metrics.histogram(catalog.STAGE_BATCH, pipeline=self._pipeline, stage=name),
            )
        pair[0].observe(seconds)
        pair[1].observe(records)

    def written(self, sink: str, rows: Sequence[Any]) -> None:
        count, size, batch = self._sinks[sink]
        self._add(count, len(rows))
        self._add(size, sum([len(v) for row in rows if (v := row[1]).__class__ is bytes]))
        batch.observe(len(rows))
        codecs = (self._codecs.get(sink), self._codecs.get(key_of(sink)))
        left_out = sum([codec.left_out() for codec in codecs if codec is not None])
        if left_out:
            self._add(self._metrics.counter(catalog.LEFT_OUT_FIELDS, pipeline=self._pipeline, sink=sink), left_out)

    def drifted(self, source: str, kind: str) -> None:
        """Count a change of what a source gives: at once, since no commit belongs to it."""
        self._metrics.counter(catalog.SCHEMA_CHANGES, pipeline=self._pipeline, source=source, kind=kind).add()

    # Failures.

    def failed(self, failure: Failure) -> None:
        self._add(self._failures(failure))

    def late(self, failure: Failure) -> None:
        self._add(self._metrics.counter(catalog.LATE_RECORDS, pipeline=self._pipeline, stage=failure.component.id))

    def stopped_by(self, failure: Failure) -> None:
        """Count the record that stops the pipeline: no commit will."""
        self._failures(failure).add()

    def _failures(self, failure: Failure) -> Counter:
        return self._by_phase(catalog.FAILED_RECORDS, failure)

    def _by_phase(self, metric: catalog.Metric, failure: Failure) -> Counter:
        return self._metrics.counter(
            metric, pipeline=self._pipeline, component=failure.component.id, phase=failure.phase, error=failure.error
        )

    def _of(self, metric: catalog.Metric, failure: Failure) -> Counter:
        return self._metrics.counter(
            metric, pipeline=self._pipeline, component=failure.component.id, error=failure.error
        )

    def skipped(self, failure: Failure) -> None:
        self._add(self._of(catalog.SKIPPED_RECORDS, failure))

    def retried(self, failure: Failure) -> None:
        self._of(catalog.RETRIES, failure).add()

    def dead_letter(self, failure: Failure, sink: str, row: Row) -> None:
        self._add(self._by_phase(catalog.DEAD_LETTERS, failure))
        self.written(sink, [row])

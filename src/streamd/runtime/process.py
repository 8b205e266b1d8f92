"""A batch through the chains of a part: fused functions, batch stages, writers, and what becomes of records that
fail.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from streamd.clock import Clock
from streamd.component.context import TaskContext
from streamd.component.sink import Writer
from streamd.component.stage import BatchStage
from streamd.component.state import Store
from streamd.config.pipeline import ComponentConfig, ErrorPolicy
from streamd.errors import FatalError, TransientError
from streamd.observability.metrics import MetricSet
from streamd.plan.chain import Chain
from streamd.plan.graph import PartPlan
from streamd.record import BEGINNING, END, Position, RawRecord, Record, TaskId
from streamd.runtime.assembly import Assembly
from streamd.runtime.counting import Counting
from streamd.runtime.drift import SourceDrift
from streamd.runtime.failed_records import FailedRecords
from streamd.runtime.failure import (
    Failure,
    RecordFailedError,
    Threshold,
    failure_of,
    load_error,
    policy_for,
)  # fmt: skip
from streamd.runtime.keyed import KeyedStages
from streamd.runtime.originals import Originals
from streamd.runtime.retries import WAIT_IN_PLACE, RetriedRecord, Retries, RetryLaterError

# The typed function is worth its while only if most records fit it; after a batch with more misfits than this share,
# the function that parses whole documents takes so many batches before the typed one is tried again.
MISFIT_SHARE = 0.2
PLAIN_BATCHES = 50


class Process:
    """What one task does with a batch. Nothing here waits but batch stages and retries."""

    def __init__(
        self, task: TaskId, part: PartPlan, assembly: Assembly, context: TaskContext, writers: Mapping[str, Writer],
        stores: Mapping[str, Store], metrics: MetricSet, clock: Clock,
    ) -> None:  # fmt: skip
        self._task, self._part, self._assembly, self._context = task, part, assembly, context
        self._writers, self._stores, self._clock = writers, stores, clock
        self._config = assembly.plan.config
        self._components: dict[str, ComponentConfig] = {c.id: c for c in part.components}
        self._stages: dict[str, BatchStage] = {}
        self._count = Counting(task.pipeline, part, assembly.chains, assembly.codecs, metrics, clock)
        limit = self._config.error_threshold
        self._threshold = Threshold(limit) if limit else None
        # {entry: batches that the plain function still takes}
        self._plain_left: dict[str, int] = {}
        # Whether what was read can not be read again; and for which actions a failed record is looked at by itself.
        self._once = not all(source.spec.replayable for source in part.sources)
        self._alone = ("retry", "fail") if self._once else ("retry",)
        self._failed = FailedRecords(task, part, assembly, writers, self._count, clock, once=self._once)
        self.keyed = KeyedStages(part, self._config, self._count, self._failed, self._chain)
        self._retries = assembly.retries.setdefault(task, Retries())
        # Monotonic seconds: when the batch at hand was begun, and until when nothing is done on purpose.
        self._began = 0.0
        self._waits_until = 0.0

    async def open(self) -> None:
        """Open the task's own stages; their stores are restored after that."""
        for stage in self._part.stages:
            if not stage.spec.fused:
                instance = self._assembly.new_stage(stage)
                await instance.prepare()
                (self.keyed.stages if stage.spec.keyed else self._stages)[stage.id] = instance
                await instance.open(replace(self._context, store=self._stores.get(stage.id)))

    def restored(self) -> None:
        """The stages' stores are as at the last checkpoint."""
        for stage in self.keyed.stages.values():
            stage.restored()

    def stage(self, name: str) -> Any:
        """One of the task's own stages; None when it has no such."""
        return self._stages.get(name) or self.keyed.stages.get(name)

    async def close(self) -> None:
        for stage in self._stages.values():
            await stage.close()
        for keyed in self.keyed.stages.values():
            await keyed.close()

    async def batch(self, source: str, records: Sequence[RawRecord], times: list[int]) -> None:
        """Everything that is to be done with a batch that was read.

        `times`: as the source's chain takes them; they are as after the batch when this returns.
        """
        self._began = self._clock.monotonic()
        try:
            drift = self._assembly.drift.get(source)
            failed = await (self._chain if drift is None else partial(self._sound, drift))(source, records, times)
        except RecordFailedError as error:
            if error.complete_before:
                self._count.read(source, [record for record in records if record.offset <= error.offset])
            raise
        self._count.read(source, records)
        self._retries.passed(records)
        if self._threshold is not None:
            self._threshold.add(self._clock.monotonic(), len(records), failed)

    def max_records(self, position: Position) -> int:
        """How many records to read at once: as set, fewer where a stage wants them even or a record is tried again."""
        wanted: list[int] = [n for stage in self._stages.values() if (n := getattr(stage, "max_batch", None))]
        before = self._retries.before(position)
        return min([self._config.max_batch_records, *wanted, *([] if before is None else [before])])

    def retries_among(self, records: Sequence[RawRecord]) -> bool:
        """Whether one of these has made an attempt end: what comes before it is to be committed first."""
        return self._retries.among(records)

    @property
    def ready_at(self) -> float:
        """Monotonic seconds before which a stage wants no further batch."""
        return max((getattr(stage, "ready_at", 0.0) for stage in self._stages.values()), default=0.0)

    @property
    def waits_until(self) -> float:
        """Monotonic seconds until which it holds still on purpose, for a rate or before a record is tried again."""
        return max(self._waits_until, self.ready_at)

    def held_back(self, seconds: float) -> None:
        """Count time for which records waited until `ready_at`, for the stage that said so."""
        until = self.ready_at
        for name, stage in self._stages.items():
            if getattr(stage, "ready_at", 0.0) == until:
                self._count.held_back(name, seconds)
                return

    async def finish(self) -> None:
        """The input is over: batch stages give what they hold back."""
        for stage in self._part.stages:
            finish = getattr(self._stages.get(stage.id), "finish", None)
            if finish is not None:
                await self._chain(stage.id, await finish())

    def committed(self) -> None:
        """A checkpoint has made durable what was processed."""
        self._count.committed()
        self._retries.committed()

    async def _sound(self, drift: SourceDrift, source: str, records: Sequence[RawRecord], times: list[int]) -> int:
        """As `_chain`, for the records that the source's `schema_drift` lets pass; what becomes of the others."""
        learn = partial(self._assembly.learnt, self._part)
        passed, strays = await drift.passed(records, self._count.drifted, learn)
        failed = await self._chain(source, passed, times)
        for record, error in strays:
            failure = failure_of(record, error, self._components[source], None, entry=source)
            try:
                self._failed.for_good(failure, policy_for(failure, self._config))
            except RecordFailedError as stopped:
                stopped.complete_before = self._once
                raise
        return failed + len(strays)

    # A chain.

    async def _chain(self, entry: str, records: Sequence[RawRecord], times: list[int] | None = None) -> int:
        """Run the chain under an entry over a batch, and what follows. Returns how many records failed."""
        chain = self._assembly.chains[self._part.index, entry] if records else None
        failed = 0
        if times is None:
            times = [BEGINNING, self.keyed.watermark_of(entry), END]
        while chain is not None and records:
            outs: list[list[Any]] = [[] for _ in chain.targets]
            began, before = time.perf_counter(), times[:]
            counts, failures = self._run(chain, records, outs, times, plain=self._plain_left.get(entry, 0) > 0)
            if failures and await self._assembly.learnt(self._part):
                times[:] = before
                continue
            alone = next((f for f in failures if policy_for(f, self._config).action in self._alone), None)
            if alone is not None:
                # Nothing has left the chain yet. What comes before the record goes on, then it alone, then the rest:
                # so a record that is tried again is not overtaken, and one that stops the pipeline takes none along.
                at = next(i for i, record in enumerate(records) if record is alone.record)
                times[:] = before
                failed += await self._chain(entry, records[:at], times)
                try:
                    failed += await self._retry(chain, alone, times)
                except RecordFailedError as error:
                    error.complete_before = self._once
                    raise
                records = records[at + 1 :]
                continue
            misfits = self._count.chain(chain, len(records), counts, failures, time.perf_counter() - began)
            self._choose_function(entry, misfits / len(records))
            for failure in failures:
                self._failed.dispose(failure, policy_for(failure, self._config))
            return failed + len(failures) + await self._pass_on(chain, records, outs)
        return failed

    def _run(
        self, chain: Chain, records: Sequence[RawRecord], outs: list[list[Any]], times: list[int], *, plain: bool
    ) -> tuple[tuple[int, ...], list[Failure]]:
        errors: list[tuple[RawRecord, BaseException]] = []
        function = chain.plain if plain else chain.function
        counts = function(records, self._task.partition, errors, *([times] if chain.timed else ()), *outs)
        failures = [failure_of(r, error, self._components[chain.owner_of(error)], chain) for r, error in errors]
        errors.clear()  # tracebacks hold the function's frame, and that holds the list
        return counts, failures

    def _choose_function(self, entry: str, misfit_share: float) -> None:
        if misfit_share > MISFIT_SHARE:
            self._plain_left[entry] = PLAIN_BATCHES
        elif self._plain_left.get(entry, 0):
            self._plain_left[entry] -= 1

    async def _pass_on(self, chain: Chain, records: Sequence[RawRecord], outs: Sequence[list[Any]]) -> int:
        failed = 0
        # Sinks first: which record a refused row is of is found by the chain, and tables may change at an await.
        for target, out in sorted(zip(chain.targets, outs, strict=True), key=lambda pair: pair[0] not in self._writers):
            if not out:
                continue
            if target in self._writers:
                failed += self._write(chain, target, records, out)
            elif target in self.keyed.stages:
                failed += await self.keyed.process(chain.entry, target, out)
            else:
                passed, lost, stopped = await self._stage(target, out)
                failed += lost + await self._chain(target, passed)
                if stopped is not None:
                    raise stopped
        return failed

    def _write(self, chain: Chain, sink: str, records: Sequence[RawRecord], rows: list[Any]) -> int:
        self._count.written(sink, rows)
        refused = self._writers[sink].write(rows)
        if not refused:
            return 0
        origins = self._origins(chain, sink, records, {index for index, _ in refused})
        for index, error in refused:
            failure = failure_of(origins[index], load_error(error), self._components[sink], chain)
            self._failed.for_good(failure, self._failed.policy(failure.component))
        return len(refused)

    def _origins(
        self, chain: Chain, sink: str, records: Sequence[RawRecord], rows: Collection[int]
    ) -> dict[int, RawRecord]:
        """{row: the record that it came from}: found by running the chain, which is pure, record by record. Rare."""
        at = chain.targets.index(sink)
        found: dict[int, RawRecord] = {}
        last, seen = max(rows), 0
        for record in records:
            outs: list[list[Any]] = [[] for _ in chain.targets]
            self._run(chain, (record,), outs, [BEGINNING, BEGINNING, END], plain=True)
            after = seen + len(outs[at])
            found |= {row: record for row in range(seen, after) if row in rows}
            if after > last:
                return found
            seen = after
        raise FatalError(f"Sink {sink!r} refused row {last} of a batch that had {seen} rows.")

    # Batch stages.

    async def _stage(self, name: str, batch: list[Record]) -> tuple[list[Record], int, RecordFailedError | None]:
        """A batch through a stage of user code; when it fails, record by record, so that only the guilty one fails.

        Returns what goes on, how many failed, and the error to raise when that has gone on.
        """
        stage, began = self._stages[name], time.perf_counter()
        originals = Originals(batch) if getattr(stage, "changes_records", False) else None
        stopped: RecordFailedError | None = None
        try:
            passed, failed = await stage.process(list(batch)), 0
        except TransientError:
            raise
        except Exception:
            passed, failed = [], 0
            for index, record in enumerate(batch):
                try:
                    some = await self._one(name, record, None if originals is None else partial(originals.again, index))
                except RecordFailedError as error:
                    if not self._once:
                        raise
                    error.complete_before, stopped = True, error
                    break
                if some is None:
                    failed += 1
                else:
                    passed.extend(some)
        self._count.stage(name, len(batch), len(passed), len(batch) - len(passed) - failed, time.perf_counter() - began)
        return passed, failed, stopped

    async def _one(self, name: str, record: Record, again: Callable[[], Record] | None) -> list[Record] | None:
        """One record through a stage; None when it failed for good and was disposed of. `again` gives it as it came."""
        component = self._components[name]
        policy = self._failed.policy(component)
        known: RetriedRecord | None = None
        began, attempt = 0.0, 0
        while True:
            try:
                return await self._stages[name].process([record if again is None else again()])
            except TransientError:
                raise
            except Exception as error:
                failure = failure_of(record if again is None else again(), error, component, None, entry=name)
            if known is None:
                known = self._known(failure)
                began, attempt = self._retries.since(known, self._clock.monotonic())
            if policy.action != "retry" or self._used_up(policy, began, attempt):
                self._failed.for_good(failure, policy, attempt)
                return None
            await self._back_off(policy, attempt, failure, known, began)
            attempt += 1

    # Records that are tried again.

    async def _retry(self, chain: Chain, failure: Failure, times: list[int]) -> int:
        """Try one record of a fused chain again until it passes or its time is used up. Returns 1 when it failed."""
        policy, known = policy_for(failure, self._config), self._known(failure)
        if policy.action != "retry":
            self._failed.dispose(failure, policy)
        began, attempt = self._retries.since(known, self._clock.monotonic())
        while not self._used_up(policy, began, attempt):
            await self._back_off(policy, attempt, failure, known, began)
            attempt += 1
            outs: list[list[Any]] = [[] for _ in chain.targets]
            counts, failures = self._run(chain, [failure.record], outs, times, plain=True)
            if not failures:
                self._count.chain(chain, 1, counts, (), 0.0)
                return await self._pass_on(chain, [failure.record], outs)
            failure = failures[0]
        self._failed.for_good(failure, policy, attempt)
        return 1

    def _used_up(self, policy: ErrorPolicy, began: float, attempt: int) -> bool:
        over = self._clock.monotonic() - began >= policy.deadline
        return over or (policy.attempts is not None and attempt >= policy.attempts)

    def _known(self, failure: Failure) -> RetriedRecord:
        return RetriedRecord(failure.component.id, self._failed.topic(failure), failure.record.offset)

    async def _back_off(
        self, policy: ErrorPolicy, attempt: int, failure: Failure, known: RetriedRecord, began: float
    ) -> None:
        """Wait until the next try. Raises RetryLaterError when that is too long to keep a transaction open."""
        self._count.retried(failure)
        delay = min(policy.max_backoff, policy.backoff * 2 ** min(attempt - 1, 30))
        now = self._clock.monotonic()
        if now + delay - self._began > WAIT_IN_PLACE:
            self._retries.keep(known, began, attempt + 1)
            raise RetryLaterError(
                f"{failure.component.kind} {failure.component.id!r} failed on the record at offset "
                f"{failure.record.offset} of {known.topic}, partition {self._task.partition}: {failure.error}: "
                f"{failure.message}; it is tried again",
                delay,
            )
        self._waits_until = now + delay
        await asyncio.sleep(delay)

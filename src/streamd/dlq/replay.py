"""Dead letters through their pipeline again: the pipeline's own chains and sinks, with the letters as their source.

Each partition of the letters is a task (runtime/task.py) with the checkpoints of any other. Its transaction is the
letters' (marks.py): it holds the outputs, and the marks of the letters that they came of. One that is opened reads the
marks first, and so passes over what is done; killed at any point, a replay goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from streamd.component.context import PipelineContext
from streamd.component.transaction import Changelog, Transaction
from streamd.config.pipeline import ComponentConfig
from streamd.config.service import ServiceConfig
from streamd.dlq.back import BackSink
from streamd.dlq.letter import ReplayedRecord, replayed
from streamd.dlq.marks import STORE, MarkingEmbeddedTransaction, MarkingTransaction, Marks, task_of
from streamd.dlq.places import Kept, Place
from streamd.dlq.prepare import Group, Prepared, Selection
from streamd.errors import FatalError, FencedError, TransientError
from streamd.observability import catalog
from streamd.observability.merge import MergedMetrics
from streamd.observability.metrics import MetricSet
from streamd.record import RawRecord, TaskId
from streamd.runtime.assembly import Assembly
from streamd.runtime.host import clients_closed
from streamd.runtime.retries import RetryLaterError
from streamd.runtime.task import Task
from streamd.transport.embedded.log import log_path

log = structlog.get_logger(__name__)

_PATIENCE: Final = 8  # attempts in a row that fail for what may pass
_FIRST_WAIT: Final = 0.2  # seconds, doubled each time


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of the letters: `letters` have a mark; of them `again` are dead letters anew, `skipped` left out.

    `gone`: retention has deleted them before they were read.
    """

    letters: int
    again: int
    skipped: int
    gone: int = 0


async def replay(prepared: Prepared, selection: Selection, kept: Kept, service: ServiceConfig) -> Replayed:
    """Take all letters of a prepared replay through, one group after another. Raises FatalError, UnavailableError."""
    metrics = MetricSet()
    marks: dict[int, Marks] = {}
    try:
        for way, group in prepared.groups.items():
            letters = _Letters(prepared, selection, kept, way)
            await _Run(group, letters, prepared.place, service, metrics).run()
            marks = letters.marks
        gone = await _gone(prepared, kept, marks)
    finally:
        await clients_closed()
    merged = MergedMetrics()
    merged.update("replay", metrics.snapshot())

    def total(metric: catalog.Metric) -> int:
        return int(merged.totals(metric))

    return Replayed(total(catalog.SOURCE_RECORDS), total(catalog.DEAD_LETTERS), total(catalog.SKIPPED_RECORDS), gone)


async def _gone(prepared: Prepared, kept: Kept, marks: Mapping[int, Marks]) -> int:
    """How many letters that were to go are not there any more, and have no mark. `marks`: of the last group."""
    found, span = 0, await kept.span()
    for partition, offsets in prepared.offsets.items():
        first, _ = span[partition]
        early = [offset for offset in offsets if offset < first]
        taken = {*marks[partition].done, *marks[partition].given} if early else set()
        found += sum(offset not in taken for offset in early)
    return found


class _Letters:
    """The source of one group: those of its letters that have no mark. `marks`: of the attempts under way."""

    def __init__(self, prepared: Prepared, selection: Selection, kept: Kept, way: Any) -> None:
        self.prepared, self._selection, self._kept, self._way = prepared, selection, kept, way
        self.marks: dict[int, Marks] = {}

    async def prepare(self) -> None:
        """They are there."""

    async def partitions(self) -> int:
        """As many as the letters' topic has."""
        return self.prepared.partitions

    async def open(self, partition: int, position: Any, task: Any = None) -> _LetterReader:
        """A reader of what has no mark. Whatever was committed, it begins at the beginning."""
        marks = self.marks[partition]
        return _LetterReader(self._records(partition, marks), marks)

    async def _records(self, partition: int, marks: Marks) -> AsyncIterator[list[tuple[int, ReplayedRecord]]]:
        first, end = self.prepared.span[partition]
        async for batch in self._kept.records(partition, first, end):
            found = []
            letters = await self._kept.letters(batch, partition, read=self._selection.reads)
            for record, letter in zip(batch, letters, strict=True):
                done = marks.done.get(record.offset)
                if letter is not None and self._selection.way(letter, done) == self._way:
                    found.append((record.offset, replayed(letter)))
            yield found

    async def close(self) -> None:
        """Nothing is held."""


class _LetterReader:
    """A `Reader` (component/source.py); the position is how many letters it has given."""

    def __init__(self, batches: AsyncIterator[list[tuple[int, ReplayedRecord]]], marks: Marks) -> None:
        self._batches, self._marks = batches, marks
        self._ahead: list[tuple[int, ReplayedRecord]] = []
        self.ended = False

    async def read(self, max_records: int, timeout: float) -> Sequence[RawRecord]:
        """See `Reader.read`."""
        while not self._ahead and not self.ended:
            found = await anext(self._batches, None)
            if found is None:
                self.ended = True
            else:
                self._ahead = found
        taken, self._ahead = self._ahead[:max_records], self._ahead[max_records:]
        self._marks.given += [offset for offset, _ in taken]
        return [record for _, record in taken]

    def position(self) -> int:
        """See `Reader.position`."""
        return len(self._marks.given)

    def lag(self) -> int | None:
        """Nobody knows how many of the records behind are letters that are meant."""
        return None

    async def close(self) -> None:
        """What reads them ends by itself."""
        close = getattr(self._batches, "aclose", None)
        if close is not None:
            await close()


class _LetterAssembly(Assembly):
    """An assembly whose source gives letters, and whose transactions mark them."""

    def __init__(self, group: Group, letters: _Letters, place: Place, context: PipelineContext) -> None:
        super().__init__(group.plan, context, {group.source: letters.prepared.partitions})
        self._source, self._letters, self._place = group.source, letters, place

    def new_end(self, component: ComponentConfig) -> Any:
        """As `Assembly.new_end`, but for the two ends that are a replay's own; tables are read as ever."""
        if component.id == self._source:
            return self._letters
        if component.name == "topic":
            settings: Any = component.settings
            return BackSink(settings, self.context)
        return super().new_end(component)

    def transaction(self, task: TaskId, membership: Any) -> Transaction:
        """As `Assembly.transaction`."""
        first, _ = self._letters.prepared.span[task.partition]
        marks = self._letters.marks[task.partition] = Marks(Changelog(STORE, self._letters.prepared.partitions), first)
        return marking(self._place, task, self.context, self.plan.config.commit_interval, marks)


def marking(
    place: Place, task: TaskId, context: PipelineContext, commit_interval: float, marks: Marks
) -> MarkingTransaction | MarkingEmbeddedTransaction:
    """The transaction of a partition of letters, for one attempt."""
    if place.kind == "log":
        made = MarkingEmbeddedTransaction(log_path(context.state_dir, context.app), task, context.clock)
        made.marks = marks
        return made
    from streamd.transport.kafka.opening import transaction

    inner = transaction(task, (), context, None, "exactly_once", commit_interval)
    return MarkingTransaction(inner, marks, context.clock.now_ms)


class _Run:
    """One group, all its partitions side by side."""

    def __init__(
        self, group: Group, letters: _Letters, place: Place, service: ServiceConfig, metrics: MetricSet
    ) -> None:
        config = group.plan.config
        base = config.file.parent if config.file is not None else place.base
        context = PipelineContext(
            service.app, config.name, place.state_dir, base, config.kafka, service.create_topics,
            config.schema_registry,
        )  # fmt: skip
        self._assembly = _LetterAssembly(group, letters, place, context)
        self._place, self._app, self._metrics = place, service.app, metrics
        self._tasks = letters.prepared.partitions
        self._partitions = [p for p, (first, end) in sorted(letters.prepared.span.items()) if first < end]

    async def run(self) -> None:
        assembly = self._assembly
        try:
            await assembly.open()
            for sink in assembly.sinks.values():
                await sink.prepare()
            async with asyncio.TaskGroup() as tasks:
                for partition in self._partitions:
                    tasks.create_task(self._partition(task_of(self._app, self._place.name, partition)))
        except* Exception as errors:
            raise _first(errors) from None
        finally:
            await assembly.close()

    async def _partition(self, task: TaskId) -> None:
        """One partition to its end, over as many attempts as that needs."""
        failures = 0
        while True:
            attempt = Task(task, self._assembly, self._tasks, self._metrics)
            try:
                await attempt.run()
                return
            except FencedError:
                raise FatalError(
                    f"somebody else has begun to replay or to purge the dead letters of {self._place}; what is "
                    "committed here is done, the rest is theirs"
                ) from None
            except RetryLaterError as error:
                await asyncio.sleep(error.retry_after or _FIRST_WAIT)
            except TransientError as error:
                failures += 1
                if failures == _PATIENCE:
                    raise
                log.warning("A replay's task failed and is tried again", task=str(task), error=str(error))
                await asyncio.sleep(error.retry_after or _FIRST_WAIT * 2 ** (failures - 1))


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

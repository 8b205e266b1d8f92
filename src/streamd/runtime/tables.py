"""Sources with `table:`: read whole into memory once in a process, then followed, for all tasks of the pipeline here.

A table is no part of any task: its partitions are in no group, and nothing of it is committed. A task waits, before it
opens, until all is read that was there when it asked. From then on rows change as their records come, in the turns of
the loop between two runs of a chain: a batch in a chain sees one state of the table.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from streamd.codecs import Codec
from streamd.component.context import PipelineContext
from streamd.component.table import LookupTable
from streamd.config.pipeline import ComponentConfig, PipelineConfig
from streamd.errors import FatalError, PositionLostError, UnavailableError
from streamd.observability import catalog
from streamd.observability.metrics import MetricSet
from streamd.record import RawRecord
from streamd.runtime.backoff import Failures, RestartPolicy, fault_of, next_delay
from streamd.runtime.failure import Failure, policy_of
from streamd.runtime.table_rows import TableRows

log = structlog.get_logger(__name__)

READ_AT_ONCE = 2000
READ_WAIT = 1.0  # seconds
LOOK_AGAIN = 0.1  # seconds; a reader may come to the end without a record, past control records
PATIENCE = 30.0  # seconds without a record or an answer after which a task is told that it waits in vain
PROGRESS_INTERVAL = 10.0  # seconds between two lines of the log while much is read
# Seconds after which new partitions, or files of a pattern, are looked for.
LOOK_INTERVAL = 60.0


class Tables:
    """All tables of one pipeline in this process. One is read from when a task first asks for it, until `close`."""

    def __init__(
        self, config: PipelineConfig, context: PipelineContext, make: Callable[[ComponentConfig], Any]
    ) -> None:
        """`make`: gives an instance of a source."""
        self._config, self._context, self._make = config, context, make
        self._tables = {one.id: LookupTable(one.id, columns_of(config, one.id)) for one in config.tables}
        self._followed: dict[str, FollowedTable] = {}
        self._forget: Callable[[], None] | None = None
        self._metrics: MetricSet | None = None

    def table(self, name: str) -> LookupTable:
        """The table of a source, filled or not."""
        return self._tables[name]

    def compile(self, codecs: Mapping[str, Codec]) -> None:
        """Write the code that makes rows of records. `codecs`: of the sources, by id; prepared before anything is read.

        Raises ConfigError for a key that cannot be.
        """
        for source in self._config.tables:
            self._followed[source.id] = FollowedTable(
                self._tables[source.id], source, self._config, self._context, self._make, codecs
            )

    async def ready(self, names: Iterable[str], metrics: MetricSet) -> None:
        """Return when everything is in these tables that is committed in their sources now.

        Raises UnavailableError when that does not come, FatalError when it will not.
        """
        if self._forget is None and self._tables:
            self._metrics, self._forget = metrics, metrics.before_snapshot(self._gauges)
        await asyncio.gather(*(self._followed[name].ready(metrics) for name in names))

    def check(self, names: Iterable[str]) -> None:
        """Raises what `ready` does for a table that is not followed any more."""
        for name in names:
            self._followed[name].check()

    async def close(self) -> None:
        """Stop reading, and give up the rows."""
        for followed in self._followed.values():
            await followed.close()
        if self._forget is not None and self._metrics is not None:
            self._forget()
            self._forget = None
            for name in self._tables:
                self._metrics.remove_gauges(pipeline=self._config.name, table=name)

    def _gauges(self) -> None:
        assert self._metrics is not None
        for followed in self._followed.values():
            followed.measure(self._metrics)


def columns_of(config: PipelineConfig, table: str) -> tuple[str, ...] | None:
    """The fields that stages take of a table's rows, None when one takes all."""
    uses = [tables[table] for stage in config.stages if table in (tables := stage.spec.tables(stage.settings))]
    if None in uses:
        return None
    return tuple(dict.fromkeys(field for fields in uses for field in fields or ()))


class FollowedTable:
    """One table and who reads it.

    What fails is tried again with back-off, from the beginning: what was deleted meanwhile may be gone without a trace.
    The rows there stay until the new ones are complete, and then change places with them in one go; `check` raises
    until then.
    """

    def __init__(
        self, table: LookupTable, source: ComponentConfig, config: PipelineConfig, context: PipelineContext,
        make: Callable[[ComponentConfig], Any], codecs: Mapping[str, Codec],
    ) -> None:  # fmt: skip
        self.table, self._source, self._config = table, source, config
        self._rows = TableRows(source, table.columns, codecs)
        self._make, self._clock = make, context.clock
        policy = policy_of(source, config)
        self._skips = (policy.then if policy.action == "retry" else policy.action) != "fail"
        self._labels = {"pipeline": config.name, "table": source.id}
        self._metrics: MetricSet | None = None
        self._runner: asyncio.Task[None] | None = None
        # What is being filled: the table's own rows, or those that take their place.
        self._filled = table.rows
        self._instance: Any = None
        self._readers: dict[int, Any] = {}
        # Partitions that were read from at least once.
        self._asked: set[int] = set()
        # Of this reading: where each partition has to be read to until all is there; None: to its present end.
        self._ends: dict[int, int | None] = {}
        self._loaded = False
        self._problem: Exception | None = None
        self._moved = asyncio.Event()
        self._records = 0
        self._updated = self._noted = self._began = 0.0

    async def ready(self, metrics: MetricSet) -> None:
        """See `Tables.ready`."""
        self._metrics = metrics
        if self._runner is None or (self._runner.done() and self._problem is not None):
            self._problem = None
            self._runner = asyncio.get_running_loop().create_task(self._run(), name=f"table {self._source.id}")
        ends: dict[int, int | None] | None = None
        came, came_at = self._place, self._clock.monotonic()
        while True:
            if self._runner.done():
                self.check()
            self._see_whether_loaded()
            if self._loaded and self._problem is None:
                ends = ends or await self._present_ends()
                if all(self._is_at(partition, end) for partition, end in ends.items()):
                    return
            if self._place != came:
                came, came_at = self._place, self._clock.monotonic()
            elif self._clock.monotonic() - came_at > PATIENCE:
                self.check()
                raise UnavailableError(f"the table {self._source.id!r} did not come any further for {PATIENCE:g} s")
            await self._something_moves()

    @property
    def _place(self) -> tuple[int, list[Any]]:
        """How far it is; something else whenever it comes further."""
        return self._records, [reader.position() for reader in self._readers.values()]

    def check(self) -> None:
        """Raise what keeps it from being followed."""
        problem = self._problem
        if problem is None:
            return
        fault = fault_of(problem)
        message = f"{self._source.place}: the table {self._source.id!r} is not followed: {fault.message}"
        raise UnavailableError(message) if fault.kind == "transient" else FatalError(message)

    async def close(self) -> None:
        """Stop reading, and give up the rows."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.cancel()
            await asyncio.wait((runner,))
        self._loaded = False
        self.table.rows.clear()

    def measure(self, metrics: MetricSet) -> None:
        """Set what is a state now."""
        if self._runner is None:
            return
        labels = self._labels
        metrics.gauge(catalog.TABLE_ROWS, **labels).set(len(self.table.rows))
        metrics.gauge(catalog.TABLE_LOADED, **labels).set(int(self._loaded and self._problem is None))
        lags = [reader.lag() for reader in self._readers.values()]
        if lags and None not in lags:
            metrics.gauge(catalog.TABLE_LAG, **labels).set(sum(lags))
        if self._updated:
            metrics.gauge(catalog.TABLE_AGE, **labels).set(self._clock.monotonic() - self._updated)

    async def _something_moves(self) -> None:
        self._moved.clear()
        try:
            async with asyncio.timeout(LOOK_AGAIN):
                await self._moved.wait()
        except TimeoutError:
            pass

    # Reading.

    async def _run(self) -> None:
        """Read and follow, again and again. Ends with a bounded source, or with what will not pass."""
        policy, failures = RestartPolicy(), Failures()
        while True:
            try:
                await self._read_and_follow()
                return
            except Exception as error:
                fault = fault_of(error)
                again = fault.kind == "transient" or isinstance(error, PositionLostError)
                self._problem = UnavailableError(fault.message) if again else error
                if fault.kind == "unexpected":
                    log.exception("A table cannot be read", **self._labels)
            finally:
                await self._release()
                self._moved.set()
            if not again:
                return
            failures = Failures().and_one("transient") if self._loaded_since(policy) else failures.and_one("transient")
            delay = next_delay(policy, failures, random.random())
            log.warning(
                "A table will be read again from its beginning",
                **self._labels, error=fault.error, message=fault.message, delay_seconds=round(delay, 3),
            )  # fmt: skip
            await asyncio.sleep(delay)

    def _loaded_since(self, policy: RestartPolicy) -> bool:
        return self._loaded and self._clock.monotonic() - self._began > policy.calm

    async def _read_and_follow(self) -> None:
        self._began = self._noted = self._clock.monotonic()
        self._records = 0
        self._filled = {} if self._loaded else self.table.rows
        self._filled.clear()
        self._asked.clear()
        self._ends = {}
        self._instance = self._make(self._source)
        while True:
            for partition in range(len(self._readers), await self._instance.partitions()):
                self._readers[partition] = await self._instance.open(partition, None)
            self._ends = await self._present_ends()
            if await self._until_over_or_look():
                return

    async def _until_over_or_look(self) -> bool:
        """Read all partitions; True when all have ended, False when it is time to look for new ones."""
        reading = {asyncio.create_task(self._read(partition, reader)) for partition, reader in self._readers.items()}
        try:
            done, left = await asyncio.wait(reading, timeout=LOOK_INTERVAL, return_when=asyncio.FIRST_EXCEPTION)
            for one in done:
                one.result()
            return not left
        finally:
            for one in reading:
                one.cancel()
            await asyncio.gather(*reading, return_exceptions=True)

    async def _read(self, partition: int, reader: Any) -> None:
        while not reader.ended:
            records = await reader.read(READ_AT_ONCE, READ_WAIT)
            if records:
                await self._take(partition, records)
            self._asked.add(partition)
            self._see_whether_loaded()
            self._moved.set()
        self._asked.add(partition)
        self._see_whether_loaded()

    async def _take(self, partition: int, records: Sequence[RawRecord]) -> None:
        """Records into rows, in one go. Raises FatalError for one that makes no row, where that is not forgiven."""
        changes, failures = await self._rows.made_of(partition, records)
        if failures:
            self._refuse(partition, failures)
        # Nothing is awaited from here on.
        rows = self._filled
        for key, value in changes:
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value
        self._records += len(records)
        self._updated = now = self._clock.monotonic()
        assert self._metrics is not None
        self._metrics.counter(catalog.TABLE_RECORDS, **self._labels).add(len(records))
        if not self._loaded and now - self._noted > PROGRESS_INTERVAL:
            self._noted = now
            log.info("Reading a table", **self._labels, records=self._records, rows=len(self._filled))

    def _see_whether_loaded(self) -> None:
        if (self._loaded and self._problem is None) or not self._ends:
            return
        if not all(self._is_at(partition, end) for partition, end in self._ends.items()):
            return
        if self._filled is not self.table.rows:
            fresh = self._filled
            self.table.rows.clear()
            self.table.rows.update(fresh)
            self._filled = self.table.rows
        self._loaded, self._problem = True, None
        self._moved.set()
        seconds = self._clock.monotonic() - self._began
        log.info(
            "A table is read",
            **self._labels,
            records=self._records,
            rows=len(self.table.rows),
            seconds=round(seconds, 3),
        )

    async def _present_ends(self) -> dict[int, int | None]:
        """{partition: the position behind what can be read now, None where its reader alone can tell}."""
        instance, ends = self._instance, dict.fromkeys(self._readers)
        if (end := getattr(instance, "end", None)) is not None:
            for partition in tuple(self._readers):
                if instance is not self._instance:
                    raise UnavailableError(f"the table {self._source.id!r} is read anew")
                ends[partition] = await end(partition)
        return ends

    def _is_at(self, partition: int, end: int | None) -> bool:
        reader = self._readers.get(partition)
        if reader is None:
            return False
        if end is not None:
            return bool(reader.position() >= end)
        return bool(reader.ended or (partition in self._asked and reader.lag() == 0))

    async def _release(self) -> None:
        readers, self._readers = self._readers, {}
        for reader in readers.values():
            await reader.close()
        instance, self._instance = self._instance, None
        if instance is not None:
            await instance.close()

    def _refuse(self, partition: int, failures: Sequence[Failure]) -> None:
        """Count and tell of records that make no row."""
        assert self._metrics is not None
        first, component = failures[0], self._source.id
        where = getattr(self._source.settings, "topic", None) or component
        for failure in failures:
            labels = {"pipeline": self._config.name, "component": component, "error": failure.error}
            self._metrics.counter(catalog.FAILED_RECORDS, **labels, phase=failure.phase).add()
            if self._skips:
                self._metrics.counter(catalog.SKIPPED_RECORDS, **labels).add()
        if not self._skips:
            raise FatalError(
                f"The record at offset {first.record.offset} of {where}, partition {partition}, makes no row: "
                f"{first.error}: {first.message}. `on_error: skip` beside the source leaves such records out, and what "
                "their keys had before stays."
            )
        log.warning(
            "Records that make no row of a table were left out",
            **self._labels, topic=where, partition=partition, records=len(failures),
            first_offset=first.record.offset, error=first.error, message=first.message,
        )  # fmt: skip

"""A verification from beginning to end: undisturbed twice, disturbed once, compared; nothing of it is left behind."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamd.component.registry import Registry
from streamd.config.pipeline import PipelineConfig
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError, UnavailableError
from streamd.plan.graph import PipelinePlan
from streamd.transport.embedded.log import log_path
from streamd.verify import outputs
from streamd.verify.compare import Comparison, Row
from streamd.verify.daemon import Spec
from streamd.verify.decoding import Decoding
from streamd.verify.differences import Origins, details, fields_of, own_differences
from streamd.verify.disturb import Disturbance, Disturber, StuckError, Tickets
from streamd.verify.documents import DEAD_LETTER_TIMES, Canonical
from streamd.verify.feed import Feed, FileFeed, LogFeed, SourceFeed
from streamd.verify.leftovers import Claim, Folder, delete_leftovers
from streamd.verify.nodes import GIVEN_UP_WITHIN, Node, NodeFailedError, end, run_until_committed, run_until_idle
from streamd.verify.outputs import OutputRecord
from streamd.verify.prepare import Wishes, check, inputs_of, records_of, rows_of, uses_kafka
from streamd.verify.progress import EmbeddedProbe, Probe, Probes
from streamd.verify.records import Records
from streamd.verify.report import OutputReport, Report
from streamd.verify.schedule import points, schedule
from streamd.verify.schema_registry import schemas_of
from streamd.verify.scratch import Input, Output, Scratch, imports_of
from streamd.verify.shapes import unsteady

# Two undisturbed runs of the beginning of the input, the disturbed run of all of it, and an undisturbed one: in one
# life, as a stage that forgets with its process must not forget there.
A, B, KILLS, WHOLE = RUNS = ("a", "b", "kills", "whole")

RECORDS_PER_KILL = 400
LEAST_RECORDS = 2000
FIRST_LOOK = 1000  # records of the two undisturbed runs that are compared before anything is killed
IDLE_WITHIN = 600.0  # seconds for an undisturbed run
_DAY_MS = 86_400_000


class OwnDifferencesError(ConfigError):
    """Two undisturbed runs differ: there is nothing to compare a disturbed one with."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the user asked for. `config_file`: of the service, None for none; `env`: for `${…}` in the files."""

    config_file: Path | None
    env: Mapping[str, str]
    wishes: Wishes = field(default_factory=Wishes)
    kills: int = 50
    seconds: float = 120.0
    records: int | None = None
    ignored_fields: tuple[str, ...] = ()


OnProgress = Callable[[str], None]
"""Told in a few words what is going on."""
OnLeft = Callable[[Sequence[str]], None]
"""Told in lines what could not be deleted, and how to find it. The report says it as well."""


async def verify(
    config: PipelineConfig,
    plan: PipelinePlan,
    service: ServiceConfig,
    asked: Plan,
    on_progress: OnProgress,
    on_left: OnLeft,
) -> Report:
    """Verify a pipeline. Raises ConfigError for one that cannot be, and StreamdError when the undisturbed run fails.

    UnavailableError when Kafka cannot be reached, at the beginning or (GoneError) any more.
    """
    notes = check(config)
    embedded = asked.wishes.embedded or not uses_kafka(config)
    kafka = None if embedded else config.kafka
    left: list[str] = []

    def keep(lines: Sequence[str]) -> None:
        left.extend(lines)
        on_left(lines)

    folder = Folder.new()
    try:
        prefix = folder.claim.prefix
        inputs = await inputs_of(config, service, asked.wishes, prefix, embedded=embedded)
        on_progress("looking for what killed verifications have left")
        notes += [f"Deleted what a killed verification had left: {name}." for name in await delete_leftovers(kafka)]
        streams = tuple(one for one in inputs if one.original.table is None)
        tables = tuple(one for one in inputs if one.original.table is not None)
        async with schemas_of(config, prefix) as (schemas, registry):
            scratch = Scratch(
                prefix, folder.path, embedded, config, plan, streams, tables, notes, registry, schemas
            )  # fmt: skip
            groups = tuple(f"streamd.{scratch.app(run)}.{config.name}" for run in RUNS)
            if kafka is not None:
                folder.write(Claim(prefix, kafka.address, groups))
            return await _Verification(scratch, service, asked, groups, on_progress, keep).run()
    except UnavailableError as error:
        hint = "" if embedded or left else "; --embedded verifies the pipeline without Kafka"
        raise UnavailableError(f"{error}{hint}") from error
    finally:
        if left:
            folder.keep_claim()
        else:
            folder.remove()


class _Verification:
    def __init__(
        self,
        scratch: Scratch,
        service: ServiceConfig,
        asked: Plan,
        groups: Sequence[str],
        on_progress: OnProgress,
        on_left: OnLeft,
    ) -> None:
        self._scratch, self._service, self._asked, self._groups = scratch, service, asked, groups
        self._on_progress, self._on_left = on_progress, on_left
        self._kafka: Any = None if scratch.embedded else scratch.config.kafka
        self._base_ms = int(time.time() * 1000) - _DAY_MS
        self._records: list[Records] = []
        self._shared: dict[int, SourceFeed] = {}
        self._feeds: dict[str, Feed] = {}
        config = scratch.config
        reads_kafka = all(any(s.name == "kafka" for s in part.sources) for part in scratch.plan.parts)
        self._node_count = 2 if not scratch.embedded and reads_kafka else 1
        self._workers = _workers(service, self._node_count)
        self._stateful = any(stage.spec.stateful for stage in scratch.plan.config.stages)
        self._report = Report(
            config.name, str(config.file), self._transport(), self._node_count, self._workers, asked.wishes.seed,
            planned_kills=asked.kills, ignored_fields=asked.ignored_fields, notes=scratch.notes,
        )  # fmt: skip

    def _transport(self) -> str:
        if self._scratch.embedded:
            return "the embedded log"
        return f"Kafka at {self._kafka.address}"

    async def run(self) -> Report:
        began = time.monotonic()
        async with AsyncExitStack() as stack:
            if self._kafka is not None:
                await stack.enter_async_context(self._on_kafka())
            await self._make_input(stack)
            total = self._total()
            await self._compare_undisturbed(max(1, min(total // 10, FIRST_LOOK)))
            self._report.records = total
            self._report.failure = await self._disturb(total)
            if self._report.failure and self._kafka is not None:
                from streamd.verify.kafka_scratch import refuse_gone

                await refuse_gone(self._kafka)
            if not self._report.failure:
                self._on_progress(f"undisturbed, {total:,} records")
                await self._undisturbed(WHOLE, total)
                self._on_progress("comparing")
                await self._judge()
        self._report.seconds = time.monotonic() - began
        return self._report

    @asynccontextmanager
    async def _on_kafka(self) -> AsyncIterator[None]:
        """The scratch topics, for the time of the block."""
        from streamd.verify.kafka_scratch import scratch_topics, where_left

        left: list[str] = []
        try:
            async with scratch_topics(self._scratch, RUNS, self._groups, self._on_progress, left):
                yield
        finally:
            told = where_left(self._kafka, self._scratch.prefix, left)
            self._report.notes += told
            if told:
                self._on_left(told)

    async def _make_input(self, stack: AsyncExitStack) -> None:
        """Find out what is read, and make the feeds that all runs share."""
        scratch = self._scratch
        for source in scratch.inputs:
            made, origin = await records_of(source, scratch, self._service, self._asked.wishes, self._base_ms)
            self._records.append(made)
            self._report.inputs[source.id] = origin
        step = len(scratch.inputs)
        for index, source in enumerate(scratch.inputs):
            arguments = (source, self._records[index], self._base_ms, index, step)
            if source.kind == "file":
                self._shared[index] = FileFeed(*arguments, scratch.input_files(source))
            elif source.kind == "kafka":
                from streamd.verify import kafka

                self._shared[index] = kafka.KafkaFeed(*arguments, self._kafka)
        for feed in self._shared.values():
            await feed.open()
            stack.push_async_callback(feed.close)
        for run in RUNS:
            own = {
                index: LogFeed(
                    source, self._records[index], self._base_ms, index, step, self._state_dir(run), scratch.app(run)
                )
                for index, source in enumerate(scratch.inputs)
                if index not in self._shared
            }
            for log_feed in own.values():
                await log_feed.open()
                stack.push_async_callback(log_feed.close)
            every: dict[int, SourceFeed] = {**self._shared, **own}
            self._feeds[run] = Feed(scratch, [every[index] for index in range(step)])
        for table in scratch.tables:
            await self._fill(table)
        self._report.partitions = sum(source.partitions for source in scratch.inputs)

    async def _fill(self, table: Input) -> None:
        """Write a table's rows, before anything runs: a lookup finds the same in every run, whatever is killed."""
        scratch = self._scratch
        rows, origin = await rows_of(table, scratch, self._service, self._asked.wishes)
        self._report.inputs[table.id] = origin
        arguments = (table, rows, self._base_ms, 0, 1)
        feeds: list[SourceFeed]
        if table.kind == "file":
            feeds = [FileFeed(*arguments, scratch.input_files(table))]
        elif table.kind == "kafka":
            from streamd.verify import kafka

            feeds = [kafka.KafkaFeed(*arguments, self._kafka)]
        else:
            feeds = [LogFeed(*arguments, self._state_dir(run), scratch.app(run)) for run in RUNS]
        for feed in feeds:
            await feed.open()
            try:
                await feed.up_to(rows.count)
            finally:
                await feed.close()

    def _total(self) -> int:
        """How many records: as asked for, else some hundreds for each kill, and no more than a rate limit lets pass."""
        asked = self._asked
        total = asked.records or max(LEAST_RECORDS, asked.kills * RECORDS_PER_KILL)
        rates = [s.settings.records / s.settings.per for s in self._scratch.config.stages if s.name == "rate_limit"]  # type: ignore[attr-defined]
        if rates and asked.records is None:
            total = min(total, max(100, int(min(rates) * asked.seconds / 4)))
        return total

    def _state_dir(self, run: str) -> Path:
        return self._scratch.folder / run / "state"

    def _nodes(self, run: str, count: int, environment: Mapping[str, str] | None = None) -> list[Node]:
        scratch, asked = self._scratch, self._asked
        folder = scratch.folder / run
        folder.mkdir(parents=True, exist_ok=True)
        _, text = scratch.loaded(run, Registry.default(), asked.env, self._service)
        (folder / "pipeline.yaml").write_text(text)
        (folder / "pipeline.yaml").chmod(0o600)
        assert scratch.config.file is not None
        spec = Spec(
            text=str(folder / "pipeline.yaml"),
            file=str(scratch.config.file.absolute()),
            config=str(asked.config_file.absolute()) if asked.config_file is not None else "",
            app=scratch.app(run),
            state_dir=str(self._state_dir(run)),
            workers=self._workers,
            port=0,
            until_idle=False,
            ended="",
            imports=imports_of(scratch.config),
            schema_registry=scratch.registry_url(run),
        )
        kept = {name: value for name, value in asked.env.items() if not name.startswith("STREAMD_FAULT")}
        env = {**kept, **(environment or {})}
        return [Node(f"node-{n}", folder / f"node-{n}", spec, env) for n in range(1, count + 1)]

    async def _undisturbed(self, run: str, count: int) -> None:
        """Run what is missing of the first `count` records without any harm."""
        await self._feeds[run].up_to(count)
        try:
            await self._to_the_end(run)
        except NodeFailedError as error:
            raise ConfigError(
                f"the pipeline fails without any kill: {error}\n(input: {'; '.join(self._report.inputs.values())}; "
                "--input FILE or --sample N take records of yours)"
            ) from None
        except TimeoutError:
            raise ConfigError(
                f"{count:,} records take the undisturbed run longer than {IDLE_WITHIN:g} s: fewer with --records"
            ) from None

    async def _to_the_end(self, run: str) -> None:
        """Run a node until all input that is there is committed. Raises NodeFailedError, TimeoutError."""
        node = self._nodes(run, 1)[0]
        probe, visible = self._probe(run)
        try:
            if len(visible) < len(self._scratch.inputs):
                await run_until_idle(node, IDLE_WITHIN)
            else:
                await run_until_committed(node, probe, self._feeds[run].ends(), IDLE_WITHIN)
        finally:
            await probe.close()

    async def _compare_undisturbed(self, count: int) -> None:
        """Raises OwnDifferencesError when two undisturbed runs of the same input differ."""
        self._on_progress("undisturbed, twice")
        for run in (A, B):
            await self._undisturbed(run, count)
        comparison, canonicals = await self._compared(A, B)
        try:
            verdicts = [comparison.verdict(index) for index in range(len(canonicals))]
            if not any(verdict.differences for verdict in verdicts):
                return
            fields = await fields_of(comparison, self._scratch.outputs(A), canonicals, self._fetch(A, B))
        finally:
            comparison.close()
        different = [verdict.output for verdict in verdicts if verdict.differences]
        raise OwnDifferencesError(own_differences(fields, different, unsteady(self._scratch.config)))

    async def _compared(self, one: str, other: str) -> tuple[Comparison, list[Canonical]]:
        scratch = self._scratch
        found = scratch.outputs(one)
        lanes = self._feeds[one].lanes()
        comparison = Comparison(scratch.folder / f"compare-{other}.db", found, self._base_ms, lanes)
        decodings = [self._decoding(output) for output in found]
        canonicals = [
            self._canonical(output, parsed=decoding.parsed) for output, decoding in zip(found, decodings, strict=True)
        ]
        for name, run in (("a", one), ("b", other)):
            for index, output in enumerate(scratch.outputs(run)):
                records = decodings[index].of(outputs.read(scratch, run, output, self._kafka))
                await comparison.load(name, index, records, canonicals[index])
        await asyncio.to_thread(comparison.prepare)
        return comparison, canonicals

    def _decoding(self, output: Output) -> Decoding:
        config = self._scratch.config
        assert output.sink is not None
        folder = config.file.parent if config.file is not None else Path.cwd()
        return Decoding(output.sink, folder, self._scratch.schema_registry)

    def _canonical(self, output: Output, *, parsed: bool) -> Canonical:
        ignored = (*self._asked.ignored_fields, *(DEAD_LETTER_TIMES if output.dead_letter else ()))
        return Canonical(ignored, parse=parsed or output.format == "json")

    def _fetch(self, one: str, other: str) -> Callable[[str, int, Row], Any]:
        async def fetch(run: str, index: int, row: Row) -> OutputRecord | None:
            name = one if run == "a" else other
            output = self._scratch.outputs(name)[index]
            found = outputs.read(self._scratch, name, output, self._kafka, {row.place: row.number})
            async for record in self._decoding(output).of(found):
                return record
            return None

        return fetch

    async def _disturb(self, total: int) -> str:
        """The disturbed run, and why it did not come to its end, "" if it did."""
        asked = self._asked
        known = points(kafka=not self._scratch.embedded, nodes=self._node_count, stateful=self._stateful)
        tickets = Tickets(self._scratch.folder / KILLS / "faults", known)
        nodes = self._nodes(KILLS, self._node_count, tickets.environment(asked.wishes.seed))
        probe, visible = self._probe(KILLS)
        disturber = Disturber(
            nodes, self._feeds[KILLS], probe, tickets, visible=visible, records=total, seed=asked.wishes.seed,
            on_progress=self._show_disturbance,
        )  # fmt: skip
        self._on_progress("starting")
        failure = ""
        try:
            for node in nodes:
                node.start()
            await disturber.run(schedule(asked.kills, asked.wishes.seed, known), asked.seconds)
            self._on_progress("ending in order")
            await end(nodes)
            if len(visible) < len(self._scratch.inputs):
                await self._to_the_end(KILLS)
        except (StuckError, NodeFailedError, TimeoutError) as error:
            failure = str(error) or "it took too long"
        finally:
            await end(nodes, GIVEN_UP_WITHIN)
            await probe.close()
        self._take(disturber.done, known=bool(visible))
        return failure

    def _show_disturbance(self, done: Disturbance) -> None:
        stall = f", longest stall {done.longest_stall:.1f} s" if done.longest_stall else ""
        self._on_progress(f"kill {done.total} of {self._asked.kills}, {self._feeds[KILLS].fed:,} records{stall}")

    def _probe(self, run: str) -> tuple[Probes, frozenset[str]]:
        """Who looks at what a run has committed, and the ids of the sources that can be seen."""
        scratch = self._scratch
        app = scratch.app(run)
        probes: list[Probe] = [EmbeddedProbe(log_path(self._state_dir(run) / app, app))]
        if scratch.embedded:
            return Probes(probes), frozenset(source.id for source in scratch.inputs)
        from streamd.verify import kafka

        topics = {source.topic: source.id for source in scratch.inputs if source.kind == "kafka"}
        if topics:
            probes.append(kafka.KafkaProbe(self._kafka, f"streamd.{app}.{scratch.config.name}", topics))
        held = {source.id for part in scratch.plan.parts if part.transport == "embedded" for source in part.sources}
        return Probes(probes), frozenset({*topics.values(), *held})

    def _take(self, done: Disturbance, *, known: bool) -> None:
        report = self._report
        report.kills, report.not_reached = dict(done.kills), dict(done.not_reached)
        report.rebalances, report.disturbed_seconds = done.rebalances, done.seconds
        report.longest_stall = done.longest_stall if known else None
        report.out_of_time = done.out_of_time

    async def _judge(self) -> None:
        comparison, canonicals = await self._compared(WHOLE, KILLS)
        try:
            origins = Origins(self._scratch.inputs, self._feeds[WHOLE].lanes())
            for index, output in enumerate(self._scratch.outputs(WHOLE)):
                verdict = await asyncio.to_thread(comparison.verdict, index)
                found: Sequence[str] = ()
                if verdict.differences:
                    found = await details(
                        comparison, index, output, verdict, canonicals[index], self._fetch(WHOLE, KILLS), origins
                    )
                self._report.outputs.append(OutputReport(verdict, output.promise, tuple(found)))
        finally:
            comparison.close()


def _workers(service: ServiceConfig, nodes: int) -> int:
    if service.workers != "auto":
        return service.workers
    return max(1, len(os.sched_getaffinity(0)) // nodes)

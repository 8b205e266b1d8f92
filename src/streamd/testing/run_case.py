"""Runs one case: its steps in order, and what each `expect` found."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from streamd.config.file_text import FileText
from streamd.config.pipeline import PipelineConfig
from streamd.config.yaml_nodes import Node
from streamd.errors import StreamdError
from streamd.observability import catalog
from streamd.record import Row
from streamd.testing.case_file import (
    AdvanceStep,
    Case,
    Counted,
    EndStep,
    Expected,
    ExpectStep,
    IdleStep,
    InputStep,
    StopStep,
    ViewWanted,
)
from streamd.testing.compare import Pair, align, same
from streamd.testing.engine import Engine
from streamd.testing.keys_and_headers import codecs_of_one, registered
from streamd.testing.memory import World
from streamd.testing.records import compared, dead_letter_shown, shown, source_record
from streamd.testing.virtual_time import HandClock, VirtualLoop, under_hand

# A task looks whether its inputs are quiet about twice a second.
IDLE_MARGIN_MS = 1000
# How messages say where a record was read.
_WHERE = re.compile(r"at offset (\d+) of (\S+), partition (\d+)")

COUNTERS = {"skipped": catalog.SKIPPED_RECORDS, "late": catalog.LATE_RECORDS}


@dataclass(slots=True)
class Look:
    """One output at one `expect`: the records that came since the last look, and how they fit what was expected."""

    expected: Expected
    output: str
    got: list[dict[str, Any]]
    pairs: list[Pair] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all is as expected."""
        expected = self.expected
        right = all(pair.same or (expected.contains and pair.wanted is None) for pair in self.pairs)
        return right and expected.count in (None, len(self.got)) and not expected.to_record


@dataclass(slots=True)
class Problem:
    """Something that is not as expected: where, in a sentence, and the look, or (expected, got), that shows it."""

    at: Node
    message: str
    look: Look | None = None
    help: str = ""
    values: tuple[Any, Any] | None = None


@dataclass(slots=True)
class Result:
    """How a case went. `everything`: what an `expect` that says nothing would have to say. `broken`: the pipeline has
    stopped, or did not come to rest, and nobody expected it.
    """

    case: Case
    problems: list[Problem] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    counts: list[tuple[Counted, int]] = field(default_factory=list)
    views: list[tuple[ViewWanted, dict[str, Any]]] = field(default_factory=list)
    everything: list[tuple[ExpectStep, list[Look], dict[str, dict[str, int]]]] = field(default_factory=list)
    unexpected: BaseException | None = None
    seconds: float = 0.0
    broken: bool = False

    @property
    def ok(self) -> bool:
        """Whether it passed."""
        return not self.problems


def run_case(
    case: Case, source: FileText, config: PipelineConfig, partitions: Mapping[str, int], state_dir: Path, *, crash: bool
) -> Result:
    """Run a case on a pipeline loaded for it. `source`: the test file's. `partitions`: {source id: how many}.

    With `crash` the tasks are killed before the first commit of each step, and after each step.
    """
    began = time.perf_counter()
    loop = VirtualLoop()
    result = Result(case)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        clock = HandClock(loop, case.clock_ms)
        with under_hand(clock, case.name):
            runner.run(_Run(case, source, config, partitions, state_dir, clock, result, crash=crash).run())
    result.seconds = time.perf_counter() - began
    return result


class _Run:
    def __init__(
        self, case: Case, source: FileText, config: PipelineConfig, partitions: Mapping[str, int], state_dir: Path,
        clock: HandClock, result: Result, *, crash: bool,
    ) -> None:  # fmt: skip
        self._case, self._source, self._clock, self._result, self._crash = case, source, clock, result, crash
        self._world = World()
        for name, count in partitions.items():
            for partition in range(count):
                self._world.stream(name, partition)
        self._engine = Engine(config, self._world, clock, state_dir)
        for name in self._engine.tables:
            for partition in range(partitions[name]):
                self._world.stream(name, partition).internal = True
        self._dead_letters = [sink.id for sink in config.dead_letters]
        # {sink: how many of its rows were looked at}; the same of counters, by (what, component).
        self._seen: dict[str, int] = {}
        self._counted: dict[tuple[str, str], int] = {}
        self._mentioned: dict[str, Node] = {}
        # {(source, partition, offset): the record in the test file}
        self._given: dict[tuple[str, int, int], Node] = {}
        self._failure_expected = False

    async def run(self) -> None:
        async with self._engine:
            try:
                await self._engine.start()
                for number, step in enumerate(self._case.steps):
                    if self._engine.failure is None:
                        await self._step(step)
                    elif not _expects_error(self._case.steps[number:]):
                        break
                    elif isinstance(step, ExpectStep):
                        await self._expect(step)
            except StreamdError as error:
                self._result.broken = True
                self._problem(self._case.at, str(error))
                return
            self._at_the_end()

    async def _step(self, step: Any) -> None:
        if isinstance(step, ExpectStep):
            await self._expect(step)
            return
        if self._crash and not isinstance(step, StopStep):
            self._world.strike = True
        match step:
            case InputStep():
                await self._input(step)
            case AdvanceStep():
                await self._advance(step)
            case IdleStep():
                await self._idle(step)
            case EndStep():
                self._end(step)
            case StopStep(how="before_commit"):
                self._world.strike = True
                return
            case StopStep(how="crash"):
                await self._engine.crash()
            case StopStep():
                await self._engine.restart()
        await self._engine.settle()
        if self._crash:
            self._world.strike = False
            # Who starts anew has not been quiet yet, and an input that is over would be over once more.
            passed = isinstance(step, IdleStep) or (isinstance(step, AdvanceStep) and step.clock is not None)
            if not passed and not self._world.over:
                await self._engine.crash()

    # What comes in.

    async def _input(self, step: InputStep) -> None:
        """What comes, in the order of the test; a table has taken its records before any that follow come."""
        taken = True
        for source, _, given in step.records:
            if not taken and source not in self._engine.tables:
                await self._engine.settle()
            taken = source not in self._engine.tables
            codecs = self._engine.codecs
            given = await registered(given, source, codecs, self._world.schema_registry)
            record = source_record(given, self._engine.sources[source], codecs, self._clock.now_ms())
            self._world.stream(source, given.partition).append(record)
            self._given[source, given.partition, record.offset] = given.node

    def _end(self, step: EndStep) -> None:
        named = {name for name, _ in step.sources} or set(self._engine.sources)
        for (source, _), stream in self._world.streams.items():
            if source in named:
                stream.ended = True
                stream.wake()

    async def _advance(self, step: AdvanceStep) -> None:
        if step.clock is not None:
            now = self._clock.now_ms()
            by = step.clock.by if step.clock.to is None else step.clock.to - now
            if by < 0:
                self._problem(step.at, f"the wall clock is {-by} ms beyond that already", help_="it never goes back")
                return
            await self._pass_time(by)
        if step.event is None:
            return
        watermark = self._engine.watermark
        to = step.event.to
        if to is None:
            if watermark is None:
                help_ = "give `advance` an absolute time, or input with times before it"
                self._problem(step.at, "there is no event time yet that could go on", help_=help_)
                return
            to = watermark + step.event.by
        if watermark is not None and to < watermark:
            message = f"the watermark is {watermark - to} ms beyond that already"
            self._problem(step.at, message, help_="event time never goes back")
            return
        await self._engine.move_time(to)

    async def _idle(self, step: IdleStep) -> None:
        ms = step.ms
        if ms is None:
            times = [getattr(source.settings, "event_time", None) for source in self._engine.sources.values()]
            waits = [time.idle for time in times if time is not None and time.idle is not None]
            if not waits:
                help_ = "set `event_time: {idle: …}` there, or say how long: `idle: 1m`"
                self._problem(step.at, "no source of the pipeline has an `idle`", help_=help_)
                return
            ms = round(max(waits) * 1000) + IDLE_MARGIN_MS
        await self._pass_time(ms)

    async def _pass_time(self, ms: int) -> None:
        # Who is killed while time passes would miss a part of it.
        self._world.strike = False
        await self._engine.settle()
        await self._clock.go_on(ms)

    # What comes out.

    async def _expect(self, step: ExpectStep) -> None:
        if step.everything:
            await self._everything(step)
            return
        for expected in step.outputs:
            await self._look(expected)
        for counted in step.counts:
            self._count(counted)
        if step.error is not None:
            self._error(step, *step.error)
        for view in step.views:
            self._view(view)

    async def _look(self, expected: Expected) -> None:
        look = await self._looked_at(expected)
        self._mentioned[look.output] = expected.at
        self._result.looks.append(look)
        if expected.node is not None:

            def equal(wanted: int, got: int) -> bool:
                return same(*compared(expected, expected.wanted[wanted], look.got[got]))

            ordered = not (expected.unordered or expected.contains)
            look.pairs = align(len(expected.wanted), len(look.got), equal, ordered=ordered)
        if not look.ok:
            self._problem(expected.at, _what_is_wrong(look), look=look)

    async def _looked_at(self, expected: Expected) -> Look:
        if expected.kind == "dead_letters":
            found = [(row, sink) for sink in self._dead_letters for row in self._fresh(sink)]
            return Look(
                expected, "dead_letters", [dead_letter_shown(row, self._engine.sinks[sink]) for row, sink in found]
            )
        sink, codecs = self._engine.sinks[expected.output], self._engine.codecs
        rows = self._fresh(sink.id)
        got = [shown(row, sink, codecs) for row in rows]
        # Written before a crash: these have not seen their schemas.
        if any([await codec.learn() for codec in codecs_of_one(sink.id, codecs)]):
            got = [shown(row, sink, codecs) for row in rows]
        return Look(expected, sink.id, got)

    def _fresh(self, sink: str) -> list[Row]:
        """What has come to a sink since the last look."""
        rows = self._world.outputs.get(sink, [])
        seen = self._seen.get(sink, 0)
        self._seen[sink] = len(rows)
        return rows[seen:]

    def _count(self, counted: Counted) -> None:
        fresh = self._fresh_counts(counted.what)
        got = fresh.get(counted.stage, 0) if counted.stage else sum(fresh.values())
        self._result.counts.append((counted, got))
        if got != counted.count:
            of = f" of `{counted.stage}`" if counted.stage else ""
            self._problem(counted.at, f"`{counted.what}`{of}: {counted.count} expected, {got} counted")

    def _fresh_counts(self, what: str) -> dict[str, int]:
        """{component: how many since the last look}, those with any."""
        fresh = {}
        for component, number in self._engine.counted(COUNTERS[what]).items():
            before = self._counted.get((what, component), 0)
            self._counted[what, component] = number
            if number > before:
                fresh[component] = number - before
        return fresh

    def _view(self, wanted: ViewWanted) -> None:
        held = self._engine.view(wanted.stage)
        if held is None:
            message = f"stage `{wanted.stage}` keeps no view that could be looked at"
            self._problem(wanted.at, message, help_="after `end` its task is over" if self._world.over else "")
            return
        got = {key: held.get(key) for key in wanted.values or held}
        self._result.views.append((wanted, got))
        if not wanted.values:
            self._problem(wanted.at, f"view of `{wanted.stage}`: nothing is written down yet")
        for key, value in wanted.values.items():
            if not same(value, got[key]):
                message = f"view of `{wanted.stage}`: `{key}` differs"
                self._result.problems.append(Problem(wanted.at, message, values=(value, got[key])))

    def _error(self, step: ExpectStep, wanted: str, at: Node) -> None:
        failure = self._engine.failure
        self._failure_expected = True
        if failure is None:
            self._problem(at, f"the pipeline works; it was expected to stop with: {wanted}")
        elif wanted not in failure.message:
            self._problem(at, f"the pipeline stopped with another message: {failure.message}")

    async def _everything(self, step: ExpectStep) -> None:
        looks = []
        outputs = [sink for sink in self._engine.sinks if sink not in self._dead_letters]
        for output in [*outputs, *(("dead_letters",) if self._dead_letters else ())]:
            kind: Any = "dead_letters" if output == "dead_letters" else "sink"
            look = await self._looked_at(Expected(output, step.at, None, kind=kind, to_record=True))
            self._mentioned[output] = step.at
            looks.append(look)
        counts = {what: fresh for what in COUNTERS if (fresh := self._fresh_counts(what))}
        self._result.everything.append((step, looks, counts))
        self._problem(step.at, "`expect` says nothing yet", help_="streamd test --update writes down what comes")

    def _at_the_end(self) -> None:
        """What nobody expected."""
        failure = self._engine.failure
        if failure is not None and not self._failure_expected:
            self._result.broken, self._result.unexpected = True, self._engine.unexpected
            what = "stopped" if self._engine.started else "does not start"
            hint = self._hint(failure.message)
            stopped = Problem(self._case.at, f"the pipeline {what}: {failure.message}", help=hint)
            self._result.problems.insert(0, stopped)
        if failure is not None:
            return
        for output, at in self._mentioned.items():
            if output == "dead_letters":
                continue
            left = len(self._world.outputs.get(output, [])) - self._seen.get(output, 0)
            if left:
                self._problem(at, f"{_records(left)} more came to `{output}` after the last `expect` of it")
        letters = Look(
            Expected("dead_letters", self._case.at, None, kind="dead_letters"), "dead_letters",
            [dead_letter_shown(r, self._engine.sinks[sink]) for sink in self._dead_letters for r in self._fresh(sink)],
        )  # fmt: skip
        if letters.got:
            letters.pairs = [Pair(None, number) for number in range(len(letters.got))]
            message = f"{_records(len(letters.got))} went to the dead letters, and no `expect` says so"
            self._problem(self._case.at, message, look=letters)
        for what in COUNTERS:
            for component, number in self._fresh_counts(what).items():
                were = "were skipped" if what == "skipped" else "came too late"
                message = f"{_records(number)} {were} at `{component}`, and no `expect` says so"
                self._problem(self._case.at, message, help_=f"`{what}: {number}` under `expect` says so")

    def _hint(self, message: str) -> str:
        """Which record of the test a pipeline has stopped at, and what may help."""
        hints = []
        if (found := _WHERE.search(message)) is not None:
            offset, name, partition = int(found[1]), found[2], int(found[3])
            for source in self._engine.sources.values():
                node = self._given.get((source.id, partition, offset))
                if node is not None and name in (source.id, getattr(source.settings, "topic", "")):
                    hints.append(f"that is the record at {self._source.place(node.start)}")
        if "max_future" in message:
            now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC).isoformat().replace("+00:00", "Z")
            hints.append(f"the wall clock of this case stands at {now}; `clock:` sets another time")
        return "; ".join(hints)

    def _problem(self, at: Node, message: str, *, look: Look | None = None, help_: str = "") -> None:
        self._result.problems.append(Problem(at, message, look, help_))


def _expects_error(steps: Sequence[Any]) -> bool:
    return any(isinstance(step, ExpectStep) and step.error is not None for step in steps)


def _records(number: int) -> str:
    return f"{number} record{'' if number == 1 else 's'}"


def _what_is_wrong(look: Look) -> str:
    expected = look.expected
    name = "dead letters" if look.output == "dead_letters" else f"sink `{look.output}`"
    if expected.to_record:
        return f"{name}: nothing is written down yet, {_records(len(look.got))} came"
    if expected.node is None:
        return f"{name}: {_records(expected.count or 0)} expected, {len(look.got)} came"
    differ = sum(1 for pair in look.pairs if not pair.same and pair.wanted is not None and pair.got is not None)
    missing = sum(1 for pair in look.pairs if pair.got is None)
    extra = sum(1 for pair in look.pairs if pair.wanted is None)
    if expected.contains:
        missing, differ, extra = missing + differ, 0, 0
    parts = [
        f"{differ} of {len(expected.wanted)} {'differs' if differ == 1 else 'differ'}" if differ else "",
        f"{missing} did not come" if missing else "",
        f"{extra} too many" if extra else "",
    ]
    if expected.count not in (None, len(look.got)):
        parts.append(f"{_records(expected.count or 0)} expected, {len(look.got)} came")
    return f"{name}: {', '.join(part for part in parts if part)}"

"""The keyed stages of a task: rows into them, and what they give as the watermark and the wall clock go on."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from streamd.component.stage import Judging, KeyedStage, Refusing
from streamd.config.pipeline import ComponentConfig, PipelineConfig
from streamd.errors import LateRecordError
from streamd.plan.graph import PartPlan, producer
from streamd.record import BEGINNING, RawRecord
from streamd.runtime.counting import Counting
from streamd.runtime.failed_records import FailedRecords
from streamd.runtime.failure import failure_of, policy_for


class KeyedStages:
    """The keyed stages of one task, by id, and their watermarks. `pass_on`: a batch down the chain under a stage.

    They follow the watermark each behind all that it reads from. A stage's watermark is the least of what it reads
    from: the task's own for sources, and what they returned last for other keyed stages.
    """

    def __init__(
        self, part: PartPlan, config: PipelineConfig, count: Counting, failed: FailedRecords,
        pass_on: Callable[[str, list[Any]], Awaitable[Any]],
    ) -> None:  # fmt: skip
        self.stages: dict[str, KeyedStage] = {}
        self._config, self._count, self._failed, self._pass_on = config, count, failed, pass_on
        self._source_watermark = BEGINNING
        self._given: dict[str, int] = {}
        self._taken: dict[str, int] = {}
        self._components: Mapping[str, ComponentConfig] = {c.id: c for c in (*part.sources, *part.stages)}
        # {stage or sink: the sources and keyed stages whose records reach it without passing another keyed one}
        self._origins = {stage.id: self._origins_of(stage) for stage in (*part.stages, *part.sinks)}
        self._order = self._in_order([stage.id for stage in part.stages if stage.spec.keyed])

    def _origins_of(self, stage: ComponentConfig) -> frozenset[str]:
        found: set[str] = set()
        waiting = [*stage.inputs]
        seen: set[str] = set()
        while waiting:
            name = producer(waiting.pop(), self._components)
            if name in seen:
                continue
            seen.add(name)
            component = self._components[name]
            if component.kind == "source" or component.spec.keyed:
                found.add(name)
            else:
                waiting.extend(component.inputs)
        return frozenset(found)

    def _in_order(self, stages: Sequence[str]) -> tuple[str, ...]:
        order: list[str] = []

        def visit(name: str) -> None:
            for origin in sorted(self._origins[name]):
                if origin in self._origins and origin not in order:
                    visit(origin)
            if name not in order:
                order.append(name)

        for name in stages:
            visit(name)
        return tuple(order)

    def watermark_of(self, entry: str) -> int:
        """The watermark for what comes out of a stage now: rows are judged by what was given before them."""
        if entry in self.stages:
            return self._given.get(entry, BEGINNING)
        return self._incoming(entry)

    @property
    def due(self) -> int | None:
        """When `tick` is to be called, wall clock in ms; None: not at all."""
        return min((due for stage in self.stages.values() if (due := stage.due) is not None), default=None)

    async def process(self, entry: str, name: str, rows: list[Any]) -> int:
        """A batch of rows through a stage, and what it gives down its chain. Returns how many failed.

        `entry`: of the chain that the rows come out of.
        """
        stage = self.stages[name]
        out: list[Any] = []
        refused: list[tuple[RawRecord, Exception]] = []
        began = time.perf_counter()
        stage.process(rows, out, refused)
        if isinstance(stage, Judging):
            self._count.checked(name, *stage.take_judged())
        failed = self._refused(name, entry, refused)
        left_out = len(rows) - len(out) - len(refused) if self._components[name].spec.sifts else 0
        self._count.stage(name, len(rows), len(out), left_out, time.perf_counter() - began)
        await self._results(name, out)
        return failed

    async def advance(self, watermark: int) -> bool:
        """Have the stages follow the task's watermark. Whether any gave something."""
        gave = False
        self._source_watermark = watermark
        for name in self._order:
            incoming = self._incoming(name)
            if incoming <= self._taken.get(name, BEGINNING):
                continue
            stage = self.stages[name]
            out: list[Any] = []
            began = time.perf_counter()
            self._taken[name] = incoming
            given = stage.advance(incoming, out)
            if isinstance(stage, Refusing) and stage.refused:
                self._refused(name, name, stage.refused)
                stage.refused.clear()
            gave = await self._give(name, out, began) or gave
            # Only now: rows that other stages give meanwhile are judged by what was given before.
            self._given[name] = max(given, self._given.get(name, BEGINNING))
        return gave

    async def tick(self, now_ms: int) -> bool:
        """Tell the stages that wait for it what the wall clock says. Whether any gave something."""
        gave = False
        for name in self._order:
            stage = self.stages[name]
            if (due := stage.due) is not None and now_ms >= due:
                out: list[Any] = []
                began = time.perf_counter()
                stage.tick(now_ms, out)
                gave = await self._give(name, out, began) or gave
        return gave

    async def _give(self, name: str, out: list[Any], began: float) -> bool:
        if not out:
            return False
        self._count.stage(name, 0, len(out), 0, time.perf_counter() - began)
        await self._results(name, out)
        return True

    async def _results(self, name: str, out: list[Any]) -> None:
        """Down the chain in batches: windows close with as many results as there are keys, and the bytes of all of
        them at once would be fresh memory each time, which costs more than to make them.
        """
        size = self._config.max_batch_records
        for start in range(0, len(out), size):
            await self._pass_on(name, out[start : start + size])

    def _refused(self, name: str, entry: str, refused: list[tuple[RawRecord, Exception]]) -> int:
        """What becomes of rows that a stage refused, or that came too late. Returns how many failed."""
        component, late = self._components[name], 0
        policy = self._failed.policy(component)
        for record, error in refused:
            failure = failure_of(record, error, component, None, entry=entry)
            if isinstance(error, LateRecordError):
                late += 1
                self._failed.late(failure, policy, getattr(component.settings, "late", "drop"))
                continue
            # Tried again it would fail again: nothing that it depends on can change.
            self._failed.for_good(failure, policy_for(failure, self._config))
        return len(refused) - late

    def _incoming(self, name: str) -> int:
        return min(
            (
                self._given.get(origin, BEGINNING) if origin in self.stages else self._source_watermark
                for origin in self._origins[name]
            ),
            default=BEGINNING,
        )

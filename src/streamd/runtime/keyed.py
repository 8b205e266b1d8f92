"""The keyed stages of a task: in which order they follow the watermark, and what each has given so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamd.component.stage import KeyedStage
from streamd.config.pipeline import ComponentConfig
from streamd.plan.graph import PartPlan, producer
from streamd.record import BEGINNING


class KeyedStages:
    """The keyed stages of one task, by id, and their watermarks.

    `order`: each behind all that it reads from. A stage's watermark is the least of what it reads from: the task's own
    for sources, and what they returned last for other keyed stages.
    """

    def __init__(self, part: PartPlan) -> None:
        self.stages: dict[str, KeyedStage] = {}
        self._source_watermark = BEGINNING
        self._given: dict[str, int] = {}
        self._taken: dict[str, int] = {}
        self._components: Mapping[str, ComponentConfig] = {c.id: c for c in (*part.sources, *part.stages)}
        # {stage or sink: the sources and keyed stages whose records reach it without passing another keyed one}
        self._origins = {stage.id: self._origins_of(stage) for stage in (*part.stages, *part.sinks)}
        self.order = self._in_order([stage.id for stage in part.stages if stage.spec.keyed])

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

    def source_moved(self, watermark: int) -> None:
        """The task's own watermark is this now."""
        self._source_watermark = watermark

    def advance(self, name: str, out: list[Any]) -> int | None:
        """Have a stage follow the watermark. What it returns is what `given` is to be told; None: nothing has moved."""
        incoming = self._incoming(name)
        if incoming <= self._taken.get(name, BEGINNING):
            return None
        self._taken[name] = incoming
        return self.stages[name].advance(incoming, out)

    def given(self, name: str, watermark: int) -> None:
        """All that a stage gave up to this watermark has gone on."""
        self._given[name] = max(watermark, self._given.get(name, BEGINNING))

    def _incoming(self, name: str) -> int:
        return min(
            (
                self._given.get(origin, BEGINNING) if origin in self.stages else self._source_watermark
                for origin in self._origins[name]
            ),
            default=BEGINNING,
        )

"""Views of the pipelines that run here: the workers that run their tasks are asked, and the answers put together.

A node knows its own tasks only. Which partition a key is in depends on who wrote the input, so all of its tasks are
asked; and what other nodes run is named, for whoever asks to ask them.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from streamd.component.spec import ComponentSpec
from streamd.record import TaskId
from streamd.runtime.control import Look, Order, Seen
from streamd.supervisor.pipelines import ManagedPipeline
from streamd.supervisor.reconcile import Placement

WITHIN: Final = 5.0
"""Seconds for all tasks to answer: each may first have to commit."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants to see of a view: a key, or the first `limit` that begin with `prefix`, behind `after`."""

    key: str | None = None
    prefix: str = ""
    after: str | None = None
    limit: int = 100


@dataclass(slots=True)
class Looked:
    """What the tasks of this node have answered. Partitions by number.

    `entries`: (partition, key, value), the last two as JSON, in no order; `checkpoints`: those that they are of.
    `waiting`: partitions whose task does not answer now; `elsewhere`: those that other nodes run. `too_large`: how many
    keys a table has that is not searched; `failed`: why a task could not say.
    """

    entries: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    more: bool = False
    checkpoints: dict[int, int] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)
    elsewhere: list[int] = field(default_factory=list)
    too_large: int = 0
    failed: str = ""


class Views:
    """Asks the tasks. `pipelines` by name; `send`: gives an order to a worker, False when that takes none now."""

    def __init__(
        self,
        pipelines: Mapping[str, ManagedPipeline],
        placed: Mapping[TaskId, Placement],
        send: Callable[[int, Order], bool],
    ) -> None:
        self._pipelines, self._placed, self._send = pipelines, placed, send
        self._numbers = itertools.count(1)
        self._open: dict[int, asyncio.Future[Seen]] = {}

    def seen(self, answer: Seen) -> None:
        """A task has answered; one that nobody waits for any more is dropped."""
        waiting = self._open.pop(answer.number, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def of(self, name: str) -> list[str] | None:
        """The stages of a pipeline that keep a view; None when it does not run here."""
        pipeline = self._pipelines.get(name)
        if pipeline is None:
            return None
        return [stage.id for part in pipeline.plan.parts for stage in part.stages if keeps_view(stage.spec)]

    async def look(self, name: str, stage: str, asked: Asked) -> Looked:
        """What the view of a stage, one of `of`, holds here, within 5 s."""
        pipeline = self._pipelines[name]
        part = next(part for part in pipeline.plan.parts if stage in {one.id for one in part.stages})
        found = Looked()
        tasks = sorted(task for task in pipeline.owned if task.part == part.index)
        ours = {task.partition for task in tasks}
        found.elsewhere = [number for number in range(pipeline.tasks_of(part)) if number not in ours]
        answers = [self._ask(task, stage, asked) for task in tasks]
        try:
            if answers:
                await asyncio.wait(answers, timeout=WITHIN)
            for task, answer in zip(tasks, answers, strict=True):
                self._take(found, task, answer.result() if answer.done() else Seen(0, "not_ready"))
        finally:
            for answer in answers:
                answer.cancel()
            self._open = {number: one for number, one in self._open.items() if not one.done()}
        return found

    def _ask(self, task: TaskId, stage: str, asked: Asked) -> asyncio.Future[Seen]:
        number = next(self._numbers)
        future: asyncio.Future[Seen] = asyncio.get_running_loop().create_future()
        placement = self._placed.get(task)
        order = Look(number, task, stage, asked.key, asked.prefix, asked.after, asked.limit)
        if placement is not None and not placement.revoked and self._send(placement.worker, order):
            self._open[number] = future
        else:
            future.set_result(Seen(number, "not_ready"))
        return future

    def _take(self, found: Looked, task: TaskId, seen: Seen) -> None:
        match seen.outcome:
            case "ok":
                found.entries += [(task.partition, key, value) for key, value in seen.entries]
                found.more = found.more or seen.more
                found.checkpoints[task.partition] = seen.checkpoint
            case "too_large":
                found.too_large = max(found.too_large, seen.keys)
            case "failed":
                found.failed = seen.message
            case _:
                found.waiting.append(task.partition)


def keeps_view(spec: ComponentSpec) -> bool:
    """Whether a stage has a view (component/stage.py `Viewed`)."""
    return hasattr(spec.factory, "shown")

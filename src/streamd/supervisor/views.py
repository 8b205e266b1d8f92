"""Views of the pipelines that run here: the workers that run their tasks are asked, and the answers put together.

A node knows its own tasks only. Which partition a key is in depends on who wrote the input, so all of its tasks are
asked; and what other nodes run is named, for the HTTP server to ask them (`api/peers.py`).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from streamd.component.spec import ComponentSpec
from streamd.record import TaskId
from streamd.runtime.control import Look, Order, Seen
from streamd.state.entries import key_text
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
    """What tasks have answered, those of this node until others are added. Partitions by number.

    `entries`: (partition, key, value), the last two as JSON, in no order; `upto`: the key's text up to which they are
    all there, None for all. `checkpoints`: those that partitions are of; `peers`: which of them others answered for.
    `waiting`: partitions whose task does not answer now; `elsewhere`: those that other nodes run. `reasons`: sentences
    on why something does not answer. `too_large`: how many keys a table has that is not searched; `failed`: why a task
    could not say.
    """

    entries: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    upto: str | None = None
    checkpoints: dict[int, int] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)
    elsewhere: list[int] = field(default_factory=list)
    peers: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    too_large: int = 0
    failed: str = ""

    @property
    def incomplete(self) -> bool:
        """Whether something that should answer does not."""
        return bool(self.waiting or self.reasons)

    def first(self, limit: int, size: int | None = None) -> tuple[list[tuple[str, int, bytes, bytes]], str | None]:
        """([(key's text, partition, key, value)] in order, what to ask for the entries behind, None at the end).

        At most `limit`, and no more once they have `size` bytes.
        """
        known = sorted((key_text(orjson.loads(key)), partition, key, value) for partition, key, value in self.entries)
        if self.upto is not None:
            known = [entry for entry in known if entry[0] <= self.upto]
        shown = known[:limit]
        if size is not None:
            sizes = itertools.accumulate(len(key) + len(value) for _, _, key, value in shown)
            shown = shown[: 1 + sum(so_far <= size for so_far in sizes)]
        return shown, shown[-1][0] if len(shown) < len(known) else self.upto

    def add(self, other: Looked) -> None:
        """Take what another node has answered, of the partitions that are `elsewhere`.

        Of two that answer for one, the later checkpoint is right; and one that is about to move has none.
        """
        for partition in other.waiting:
            if partition in self.elsewhere and partition not in self.waiting:
                self.waiting.append(partition)
        for partition, checkpoint in other.checkpoints.items():
            if partition not in self.elsewhere or self.checkpoints.get(partition, -1) >= checkpoint:
                continue
            self.entries = [entry for entry in self.entries if entry[0] != partition]
            self.entries += [entry for entry in other.entries if entry[0] == partition]
            self.checkpoints[partition] = checkpoint
        self._only_upto(other.upto)
        self.reasons += other.reasons
        self.too_large = max(self.too_large, other.too_large)
        self.failed = self.failed or other.failed

    def settle(self, everybody: bool) -> None:
        """All have answered that could be asked. `everybody`: there is no node besides them.

        What nobody answered for moves just now, unless a node could not be asked.
        """
        self.peers = sorted(self.checkpoints.keys() & set(self.elsewhere))
        missing = [number for number in self.elsewhere if number not in self.checkpoints and number not in self.waiting]
        self.elsewhere = []
        if everybody or self.reasons:
            self.waiting += missing
        else:
            self.elsewhere = missing
        self.waiting.sort()

    def _only_upto(self, text: str | None) -> None:
        if text is not None:
            self.upto = text if self.upto is None else min(self.upto, text)


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

    def nodes(self, name: str) -> Mapping[str, int]:
        """{where the nodes of a pipeline's group are: how many}, "" for those that do not say; empty when not known."""
        return self._pipelines[name].nodes

    async def look(self, name: str, stage: str, asked: Asked, within: float = WITHIN) -> Looked:
        """What the view of a stage, one of `of`, holds here, within so many seconds."""
        pipeline = self._pipelines[name]
        if not pipeline.joined:
            return Looked(reasons=["the node has not joined the pipeline's group yet"])
        part = next(part for part in pipeline.plan.parts if stage in {one.id for one in part.stages})
        found = Looked()
        tasks = sorted(task for task in pipeline.owned if task.part == part.index)
        ours = {task.partition for task in tasks}
        found.elsewhere = [number for number in range(pipeline.tasks_of(part)) if number not in ours]
        answers = [self._ask(task, stage, asked) for task in tasks]
        try:
            if answers:
                await asyncio.wait(answers, timeout=within)
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
                if seen.more:
                    found._only_upto(key_text(orjson.loads(seen.entries[-1][0])))
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

"""What tasks have committed of their state, over all transports of a pipeline: sizes, contents, and its end."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from streamd.component.stored import Forgotten, StoredState, StoreId
from streamd.config.service import ServiceConfig
from streamd.errors import FatalError
from streamd.plan.graph import PipelinePlan
from streamd.state.entries import Entry, Wanted, entry_of
from streamd.state.task_stores import META_KEY
from streamd.transport.embedded.lock import hold, holder, let_go, lock_path
from streamd.transport.embedded.log import log_path
from streamd.transport.embedded.stored import EmbeddedStored

_LOCK_PATIENCE: Final = 1.0  # seconds


@dataclass(slots=True)
class TableSize:
    """What a table holds. `bytes`: of keys and values as the changelog has them; `times`: those of a table of times."""

    keys: int = 0
    bytes: int = 0
    times: set[int] = field(default_factory=set)


@dataclass(slots=True)
class StoreSize:
    """What a store holds.

    `tables` by name. `checkpoint`: the number of the last one, None when there was none. `changed_ms`: when a key
    changed last, None where nothing says it. `where`: its changelog. `known`: whether the pipeline has the stage.
    """

    store: StoreId
    where: str
    known: bool
    tables: dict[str, TableSize] = field(default_factory=dict)
    checkpoint: int | None = None
    changed_ms: int | None = None


class Survey:
    """All state of one pipeline, for the time of `surveyed`."""

    def __init__(self, plan: PipelinePlan, kafka: Any, embedded: EmbeddedStored, lock: Path) -> None:
        self._sides: list[StoredState] = [side for side in (kafka, embedded) if side is not None]
        self._kafka, self._embedded, self._lock = kafka, embedded, lock
        self._plan = plan
        self._stages = {stage.id for part in plan.parts for stage in part.stages if stage.spec.stateful}

    async def sizes(self) -> AsyncIterator[StoreSize]:
        """How much there is in each store. Reads all of it, one store after the other, keeping its keys in memory."""
        for side in self._sides:
            for store in await side.stores():
                size = await self._size(side, store)
                if size.tables or size.checkpoint is not None:
                    yield size

    async def entries(self, stage: str, wanted: Wanted) -> AsyncIterator[tuple[StoreId, Entry, Any]]:
        """(store, key, value) of all keys of a stage that are asked for, each as it is now, in the order of keys.

        What is asked for of one store is kept in memory. Raises NotFoundError for a stage without state.
        """
        for side in self._sides:
            for store in await side.stores():
                if store.stage == stage:
                    found = await self._found(side, store, wanted)
                    for key in sorted(found):
                        yield store, entry_of(key), _value(store, found[key])

    async def stages(self) -> list[str]:
        """All stages that keep state, or have left some."""
        left = {store.stage for side in self._sides for store in await side.stores()}
        return sorted(self._stages | left)

    async def _found(self, side: StoredState, store: StoreId, wanted: Wanted) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        async for changes in side.changes(store):
            for key, value, _ in changes:
                if key == META_KEY or entry_of(key) not in wanted:
                    continue
                if value is None:
                    found.pop(key, None)
                else:
                    found[key] = value
        return found

    async def _size(self, side: StoredState, store: StoreId) -> StoreSize:
        size = StoreSize(store, side.where(store.stage), store.stage in self._stages)
        bytes_of: dict[bytes, int] = {}
        async for changes in side.changes(store):
            for key, value, written_ms in changes:
                if key == META_KEY:
                    self._take_meta(size, value)
                    continue
                if written_ms is not None:
                    size.changed_ms = max(written_ms, size.changed_ms or 0)
                if value is None:
                    bytes_of.pop(key, None)
                else:
                    bytes_of[key] = len(key) + len(value)
        for key, count in bytes_of.items():
            entry = entry_of(key)
            table = size.tables.setdefault(entry.table, TableSize())
            table.keys += 1
            table.bytes += count
            if entry.time is not None:
                table.times.add(entry.time)
        return size

    def _take_meta(self, size: StoreSize, value: bytes | None) -> None:
        meta = orjson.loads(value) if value else {}
        size.checkpoint = meta.get("checkpoint")
        size.changed_ms = meta.get("changed", size.changed_ms)

    # Forgetting.

    @asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        """For the time of the block the pipeline does not run on the embedded log. Raises FatalError while it runs."""
        try:
            if self._lock.parent.exists():
                await hold(self._lock, self._plan.name, _LOCK_PATIENCE)
        except FatalError as error:
            if type(error) is not FatalError:
                raise
            raise FatalError(self._running(str(holder(self._lock)))) from None
        try:
            if self._kafka is not None and (who := await self._kafka.running()) is not None:
                raise FatalError(self._running(who))
            yield
        finally:
            let_go(self._lock)

    def _running(self, who: str) -> str:
        return f"Pipeline {self._plan.name} runs: {who}. Nothing was deleted; stop it first."

    async def forgotten(self, stage: str | None) -> list[Forgotten]:
        """What `forget` deletes."""
        found: list[Forgotten] = []
        for side in (self._kafka, self._embedded):
            if side is not None:
                found += await side.changelogs(stage)
                found += await side.positions() if stage is None else []
        return found

    async def forget(self, stage: str | None) -> None:
        """Delete all state and positions of the pipeline; of one stage what it remembers, while positions stay."""
        for side in (self._kafka, self._embedded):
            if side is not None:
                await side.forget(stage)


@asynccontextmanager
async def surveyed(plan: PipelinePlan, service: ServiceConfig, *, named: bool = True) -> AsyncIterator[Survey]:
    """The state of a pipeline, wherever it is. Raises UnavailableError, AccessDeniedError.

    `named`: whether the app's positions are in the group that the pipeline names; a replay's are not.
    """
    app, folder = service.app, service.state_dir / service.app
    embedded = EmbeddedStored(log_path(folder, app), app, plan.name)
    async with AsyncExitStack() as stack:
        kafka = None
        if any(component.spec.transport == "kafka" for part in plan.parts for component in part.components):
            # By name: without Kafka nobody pays for importing a client of it.
            stored = importlib.import_module("streamd.transport.kafka.stored")
            opened = stored.opened(plan.config.kafka, app, plan.name, dict(_parts(plan)), *_group(plan, app, named))
            kafka = await stack.enter_async_context(opened)
        yield Survey(plan, kafka, embedded, lock_path(folder, plan.name))


def _parts(plan: PipelinePlan) -> Iterator[tuple[str, int]]:
    for part in plan.parts:
        for stage in part.stages:
            yield stage.id, part.index


def _group(plan: PipelinePlan, app: str, named: bool) -> tuple[str | None, list[str]]:
    """(the group that a pipeline is a member of, the topics that it reads by it)."""
    of_parts = (source for part in plan.parts for source in part.sources)
    sources: list[Any] = [source.settings for source in of_parts if source.spec.transport == "kafka"]
    if not sources:
        return None, []
    group_name = importlib.import_module("streamd.transport.kafka.membership").group_name
    groups = [group for source in sources if (group := getattr(source, "group", None)) is not None]
    return groups[0] if groups and named else group_name(app, plan.name), [source.topic for source in sources]


def _value(store: StoreId, value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise FatalError(
            f"The changelog of stage {store.stage!r}, task {store.task}, holds a record that no store has written "
            f"({error.msg.split(':')[0]} at byte {error.pos})."
        ) from None

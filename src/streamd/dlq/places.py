"""Where dead letters are kept: the dead-letter sinks of a pipeline, or a topic or file that somebody names."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from streamd.config.pipeline import ComponentConfig, PipelineConfig
from streamd.config.service import ServiceConfig
from streamd.dlq.letter import Letter, letter_of
from streamd.dlq.marks import Done
from streamd.dlq.reading import Documents
from streamd.errors import ConfigError
from streamd.record import RawRecord

Kind = Literal["kafka", "log", "file"]
Span = Mapping[int, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Place:
    """A topic or a file of dead letters. `sink`: the sink that writes it, None for one that was named by itself.

    `name`: of the topic, or the path as the sink has it. `base`: the folder at which a path begins. `config`: the
    pipeline whose sources say how the letters' values are read.
    """

    kind: Kind
    name: str
    app: str
    state_dir: Path
    kafka: Any = None
    sink: ComponentConfig | None = None
    pipeline: str | None = None
    base: Path = Path()
    config: PipelineConfig | None = None

    def __str__(self) -> str:
        return {"kafka": f"topic {self.name}", "log": f"log {self.name}", "file": f"file {self.name}"}[self.kind]

    @property
    def transport(self) -> str | None:
        """Whose transactions it can be part of."""
        return {"kafka": "kafka", "log": "embedded", "file": None}[self.kind]

    def opened(self) -> AbstractAsyncContextManager[Kept]:
        """What is there, for the time of a block. Raises NotFoundError, UnavailableError, AccessDeniedError."""
        # By name: who has no Kafka does not pay for importing a client of it.
        module = importlib.import_module(f"streamd.dlq.{self.kind}")
        found: AbstractAsyncContextManager[Kept] = module.opened(self)
        return found


class Kept(Protocol):
    """The records of a place. Nothing here changes any but `delete`."""

    async def span(self) -> Span:
        """{partition: (first offset, offset behind the last)}, of what is committed now."""

    def records(self, partition: int, first: int, end: int) -> AsyncIterator[Sequence[RawRecord]]:
        """The records of [first, end), in order, batch after batch; without those that retention deletes meanwhile."""

    async def letters(self, records: Sequence[RawRecord], partition: int, *, read: bool) -> list[Letter | None]:
        """The letter that each record is; None for one that is none. `read`: with what its source reads of it.

        Raises UnavailableError, AccessDeniedError when that takes a schema registry which does not answer.
        """

    async def marks(self) -> Mapping[int, Mapping[int, Done]]:
        """{partition: {offset: how it was done with}}."""

    async def delete(self, partition: int, before: int) -> bool:
        """Delete what lies before an offset; False where nothing is ever deleted. Raises AccessDeniedError."""


class TopicKept:
    """What `Kept` of all topics has."""

    def __init__(self, place: Place) -> None:
        self._documents = Documents(place.config) if place.config is not None else None

    async def letters(self, records: Sequence[RawRecord], partition: int, *, read: bool) -> list[Letter | None]:
        """See `Kept.letters`."""
        found = [letter_of(record, partition) for record in records]
        return await self._documents.read(found) if read and self._documents is not None else found

    async def close(self) -> None:
        """Let go of what reading took."""
        if self._documents is not None:
            await self._documents.close()


def places_of(config: PipelineConfig, service: ServiceConfig, sink: str | None = None) -> list[Place]:
    """The dead-letter sinks of a pipeline that can be read. Raises ConfigError when there is none."""
    sinks = [one for one in config.dead_letters if sink in (None, one.id)]
    found = [_place(one, config, service) for one in sinks if one.name in ("kafka", "log", "file")]
    if found:
        return found
    have = ", ".join(f"{one.id} ({one.name})" for one in config.dead_letters) or "none"
    named = f" named {sink}" if sink is not None else ""
    raise ConfigError(
        f"{config.place}: pipeline {config.name} has no dead-letter sink{named} that can be read; it has: {have}. "
        "Sinks kafka, log and file can: `on_error: {dead_letter: {log: {topic: broken-orders}}}`"
    )


def _place(sink: ComponentConfig, config: PipelineConfig, service: ServiceConfig) -> Place:
    settings: Any = sink.settings
    kind: Any = sink.name
    base = config.file.parent if config.file is not None else Path.cwd()
    name = settings.topic if kind != "file" else settings.path
    folder = service.state_dir / service.app
    return Place(kind, name, service.app, folder, config.kafka, sink, config.name, base.absolute(), config)


def named_place(kind: Kind, name: str, service: ServiceConfig) -> Place:
    """A topic or file without a pipeline. Raises ConfigError when no cluster is known."""
    if kind == "kafka" and service.kafka is None:
        raise ConfigError("--topic: no Kafka cluster is named: add `kafka: {bootstrap: HOST:PORT}` to streamd.yaml")
    return Place(kind, name, service.app, service.state_dir / service.app, service.kafka, base=Path.cwd())

"""A pipeline file after loading: checked values, each component with its place in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from streamd.component.model import Model
from streamd.component.spec import ComponentSpec, Kind
from streamd.component.table import TableSettings
from streamd.quality.schema_drift import SchemaDrift

Delivery = Literal["exactly_once", "at_least_once"]
ErrorAction = Literal["fail", "skip", "retry", "dead_letter"]
FinalAction = Literal["fail", "skip", "dead_letter"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is written. `line` and `column` start at 1; `file` as the user named it."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class ErrorPolicy:
    """What becomes of a record that fails. Times in seconds.

    `retry` tries again after `backoff`, doubled each time up to `max_backoff`, until `deadline` or `attempts` are used
    up; what then happens is `then`. `dead_letter` is the id of a sink in `PipelineConfig.dead_letters`; set when
    `action` or `then` says dead_letter. `include_details` lets error messages with record contents go there.
    """

    action: ErrorAction = "fail"
    backoff: float = 0.1
    max_backoff: float = 10.0
    deadline: float = 60.0
    attempts: int | None = None
    then: FinalAction = "fail"
    dead_letter: str | None = None
    include_details: bool = False


@dataclass(frozen=True, slots=True)
class ErrorThreshold:
    """Stop the pipeline when more than `rate` (0 to 1) of a `window` (seconds, at least `min_records`) fail."""

    rate: float
    window: float = 60.0
    min_records: int = 100


@dataclass(frozen=True, slots=True)
class ChainUse:
    """A chain that a pipeline uses: `stages` are the ids of its stages, `given` its parameters as written."""

    id: str
    name: str
    place: Place
    stages: tuple[str, ...]
    given: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ComponentConfig:
    """One source, stage or sink of a pipeline.

    `inputs` are ids of sources and stages, or `stage.output` for a named output; () for a source. `on_error` is the
    component's own policy, None to take the pipeline's. `note` says where the chain was used that it is part of.
    `validate`: of a sink, what is checked before it is written.
    `table`: of a source that is read whole into a table. `schema_drift`: of a source, None where nobody looks.
    """

    id: str
    kind: Kind
    name: str
    settings: Model
    spec: ComponentSpec
    place: Place
    inputs: tuple[str, ...] = ()
    on_error: ErrorPolicy | None = None
    note: str = ""
    validate: ComponentConfig | None = None
    table: TableSettings | None = None
    schema_drift: SchemaDrift | None = None


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """A pipeline, checked: ids are unique, inputs exist, there is no cycle, everything leads to a sink.

    `tables` are the sources with `table:`; they are none of `sources`, and no part of the graph.

    `text` is the file's text, from which a worker loads the same configuration again; `imports` are the texts of the
    files that it imports, by path, which belong to it just as much. `kafka` is the checked `kafka:` section of the
    pipeline, or else of the service, or None, and `schema_registry` likewise. `commit_interval` in seconds.
    `state_memory`: bytes of state that a worker keeps in memory, None for all of it. `state_snapshots`: whether it is
    on the local disk as well. `state_standbys`: on how many other nodes.
    """

    name: str
    sources: tuple[ComponentConfig, ...]
    stages: tuple[ComponentConfig, ...]
    sinks: tuple[ComponentConfig, ...]
    dead_letters: tuple[ComponentConfig, ...] = ()
    tables: tuple[ComponentConfig, ...] = ()
    file: Path | None = None
    text: str = ""
    imports: Mapping[str, str] = field(default_factory=dict)
    chains: tuple[ChainUse, ...] = ()
    description: str = ""
    on_error: ErrorPolicy = ErrorPolicy()
    error_threshold: ErrorThreshold | None = None
    delivery: Delivery = "exactly_once"
    commit_interval: float = 0.2
    max_batch_records: int = 2000
    state_memory: int | None = None
    state_snapshots: bool = False
    state_standbys: int = 0
    kafka: Any = None
    schema_registry: Any = None
    place: Place = Place("<pipeline>")

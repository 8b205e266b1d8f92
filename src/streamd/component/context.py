"""The few things that the engine hands to a component."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamd.clock import SYSTEM_CLOCK, Clock
from streamd.component.state import Store
from streamd.component.table import LookupTable
from streamd.component.transaction import Transaction
from streamd.record import BEGINNING, TaskId


@dataclass(frozen=True, slots=True)
class PipelineContext:
    """What is the same for all tasks of a pipeline on this node.

    `state_dir` is the app's own folder (the embedded log's file lies in it); it exists. `kafka` is the `kafka:` section
    of the pipeline, or else of streamd.yaml, as a checked `transport.kafka.settings.KafkaSettings`, or None;
    `schema_registry` likewise a `transport.registry.settings.SchemaRegistrySettings`.
    `base_dir` is the folder of the pipeline's file: relative paths in a pipeline start there or at the process's
    working directory, as each component's docs say. `run` is the same for all workers of a node from its start to its
    end, and for no other. `table` gives the table of a source with `table:`, by the source's id: always the same one,
    filled before a task begins to read.
    """

    app: str
    pipeline: str
    state_dir: Path
    base_dir: Path
    kafka: Any = None
    create_topics: bool = True
    schema_registry: Any = None
    clock: Clock = field(default=SYSTEM_CLOCK)
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:16])
    table: Callable[[str], LookupTable] = LookupTable


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What a sink's or a stage's per-task part gets.

    `transaction` is the task's own; what a sink appends there is committed with the task's positions. `transactional`
    names the transport (`kafka`, `embedded`) that the transaction belongs to. `tasks` is how many tasks the part has.
    `store` is the stage's own, for one that is `stateful`. `watermark` gives, in ms, that of what
    reaches the sink (of a stage: the task's), and `idle` whether all that the task reads is quiet for now.
    """

    pipeline: PipelineContext
    task: TaskId
    tasks: int
    transaction: Transaction
    transport: str
    store: Store | None = None
    watermark: Callable[[], int] = lambda: BEGINNING
    idle: Callable[[], bool] = lambda: False

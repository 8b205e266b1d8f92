"""The supervisor's own metrics: states of pipelines, tasks and workers, restarts, and what the process itself costs."""

from __future__ import annotations

import hashlib
import platform
from collections import Counter
from importlib.metadata import version
from typing import Protocol, get_args

from streamd.config.pipeline import PipelineConfig
from streamd.observability import catalog
from streamd.observability.metrics import MetricSet
from streamd.observability.process import measure_process
from streamd.observability.status import NodeStatus, PipelineState, StandbyState, TaskState, WorkerState


class Rebalanced(Protocol):
    """A pipeline, as its rebalances are counted: `kept`, `came` and `went` in tasks, over all of them."""

    @property
    def name(self) -> str: ...
    @property
    def rebalances(self) -> int: ...
    @property
    def kept(self) -> int: ...
    @property
    def came(self) -> int: ...
    @property
    def went(self) -> int: ...


class NodeGauges:
    """Brings the metrics up to date with the node; called once a second."""

    def __init__(self, metrics: MetricSet) -> None:
        self._metrics = metrics
        measure_process(metrics, "supervisor")
        metrics.gauge(catalog.BUILD_INFO, version=version("streamd"), python=platform.python_version()).set(1)

    def introduce(self, config: PipelineConfig) -> None:
        """A pipeline is there, in a new version perhaps."""
        self._metrics.remove(pipeline=config.name)
        version = hashlib.sha256("\0".join([config.text, *config.imports.values()]).encode()).hexdigest()[:12]
        labels = {"pipeline": config.name, "delivery": config.delivery, "config": version}
        self._metrics.gauge(catalog.PIPELINE_INFO, **labels).set(1)

    def update(self, status: NodeStatus) -> None:
        """Set what is a state now."""
        metrics = self._metrics
        metrics.gauge(catalog.START_TIME).set(status.started_at / 1000)
        pipelines = Counter(pipeline.state for pipeline in status.pipelines)
        for state in get_args(PipelineState):
            metrics.gauge(catalog.PIPELINES, state=state).set(pipelines[state])
        workers = Counter(worker.state for worker in status.workers)
        for state in get_args(WorkerState):
            metrics.gauge(catalog.WORKERS, state=state).set(workers[state])
        for pipeline in status.pipelines:
            tasks = Counter(task.state for task in pipeline.tasks)
            for state in get_args(TaskState):
                metrics.gauge(catalog.TASKS, pipeline=pipeline.name, state=state).set(tasks[state])
            copies = Counter(standby.state for standby in pipeline.standbys)
            for kept in get_args(StandbyState):
                metrics.gauge(catalog.STANDBYS, pipeline=pipeline.name, state=kept).set(copies[kept])

    def rebalanced(self, pipeline: Rebalanced) -> None:
        """What the pipeline's group has given out so far."""
        metrics, name = self._metrics, pipeline.name
        for counter, total in (
            (metrics.counter(catalog.REBALANCES, pipeline=name), pipeline.rebalances),
            (metrics.counter(catalog.TASKS_KEPT, pipeline=name), pipeline.kept),
            (metrics.counter(catalog.TASKS_MOVED, pipeline=name, direction="in"), pipeline.came),
            (metrics.counter(catalog.TASKS_MOVED, pipeline=name, direction="out"), pipeline.went),
        ):
            counter.value = max(counter.value, total)

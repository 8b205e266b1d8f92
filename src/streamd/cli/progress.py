"""Progress bars for pipelines whose input has an end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from streamd.observability import catalog
from streamd.observability.merge import MergedMetrics
from streamd.observability.status import NodeStatus, PipelineStatus

OnProgress = Callable[[NodeStatus, MergedMetrics], None]


class Share:
    """How much of a pipeline's input is read, from its tasks' lags alone, whatever their unit.

    What there was to read is taken to be the largest lag seen: an input with an end does not grow.
    """

    def __init__(self) -> None:
        self._peak = 0

    def update(self, pipeline: PipelineStatus) -> float | None:
        """From 0 to 1; None while nobody knows."""
        lags = [task.lag for task in pipeline.tasks]
        if pipeline.state in ("drained", "stopped"):
            return 1.0
        if not lags or None in lags:
            return None
        lag = sum(lag for lag in lags if lag is not None)
        self._peak = max(self._peak, lag)
        return 1 - lag / self._peak if self._peak else 1.0


@contextmanager
def show_progress(pipelines: Sequence[str], console: Console | None = None) -> Iterator[OnProgress]:
    """A bar for each of the pipelines on standard error, drawn by calling what this gives."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[records]:,} records"),
        TimeElapsedColumn(),
    )
    # Drawn when there is something new, and not by a thread of its own: that would take turns with the control loop.
    progress = Progress(*columns, console=console or Console(stderr=True), auto_refresh=False)
    bars = {name: progress.add_task(name, total=None, records=0) for name in pipelines}
    shares = {name: Share() for name in pipelines}
    # The first frame waits for the first progress: until then log lines say what starts.
    started = False

    def update(status: NodeStatus, metrics: MergedMetrics) -> None:
        nonlocal started
        known = False
        for name, bar in bars.items():
            pipeline = status.pipeline(name)
            if pipeline is None:
                continue
            share = shares[name].update(pipeline)
            known |= share is not None
            records = int(metrics.totals(catalog.SOURCE_RECORDS, pipeline=name))
            total = None if share is None else 1.0
            progress.update(bar, total=total, completed=share or 0.0, records=records)
        if not started and not known:
            return
        if started:
            progress.refresh()
        else:
            progress.start()
            started = True
        # So that a log line, which may come from another process, begins at the start of a line.
        progress.console.file.write("\r")
        progress.console.file.flush()

    try:
        yield update
    finally:
        if started:
            progress.stop()

"""What a process costs: CPU, memory, open files, and how late its event loop is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from streamd.observability import catalog
from streamd.observability.metrics import MetricSet

_PAGE = os.sysconf("SC_PAGE_SIZE")


def measure_process(metrics: MetricSet, worker: int | str) -> Callable[[], None]:
    """Keep the process's metrics up to date, before each snapshot. Returns what ends it."""
    cpu = metrics.counter(catalog.PROCESS_CPU, worker=worker)
    memory = metrics.gauge(catalog.PROCESS_MEMORY, worker=worker)
    files = metrics.gauge(catalog.PROCESS_FILES, worker=worker)

    def measure() -> None:
        cpu.value = time.process_time()
        memory.set(resident_bytes())
        files.set(open_files())

    return metrics.before_snapshot(measure)


def resident_bytes() -> int:
    """Resident memory of this process in bytes, 0 where /proc does not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def open_files() -> int:
    """Open file descriptors of this process, 0 where /proc does not say."""
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 — no Path object for each of thousands
    except OSError:
        return 0


class LoopLag:
    """How late the running event loop calls what is due, measured by being called every `interval` seconds."""

    def __init__(self, interval: float = 0.25) -> None:
        self._interval = interval
        self._worst = 0.0
        self._due = 0.0
        self._handle: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def measured(self, metrics: MetricSet | None = None, worker: int | str = "supervisor") -> Iterator[LoopLag]:
        """Measure while inside, on the running loop; `metrics` gets the worst of the time since the last snapshot."""
        loop = asyncio.get_running_loop()
        forget: Callable[[], None] | None = None
        if metrics is not None:
            gauge = metrics.gauge(catalog.LOOP_LAG, worker=worker)
            forget = metrics.before_snapshot(lambda: gauge.set(self.take()))
        self._plan(loop)
        try:
            yield self
        finally:
            if self._handle is not None:
                self._handle.cancel()
            if forget is not None:
                forget()

    def take(self) -> float:
        """The worst lag in seconds since the last call, including that of a call that is overdue now."""
        overdue = asyncio.get_running_loop().time() - self._due if self._handle is not None else 0.0
        worst, self._worst = max(self._worst, overdue), 0.0
        return worst

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + self._interval
        self._handle = loop.call_at(self._due, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._worst = max(self._worst, loop.time() - self._due)
        self._plan(loop)

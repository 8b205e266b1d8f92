"""What a process costs: CPU, memory, open files, threads, what its event loop holds, and how late the loop is."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from streamd.observability import catalog
from streamd.observability.metrics import MetricSet

_PAGE = os.sysconf("SC_PAGE_SIZE")
# Seconds between two counts of futures, which look at every object that may be garbage.
_COUNT_INTERVAL = 10.0


def measure_process(metrics: MetricSet, worker: int | str) -> Callable[[], None]:
    """Keep the process's metrics up to date, before each snapshot. Returns what ends it."""
    cpu = metrics.counter(catalog.PROCESS_CPU, worker=worker)
    memory = metrics.gauge(catalog.PROCESS_MEMORY, worker=worker)
    files = metrics.gauge(catalog.PROCESS_FILES, worker=worker)
    threads = metrics.gauge(catalog.PROCESS_THREADS, worker=worker)
    blocks = metrics.gauge(catalog.PROCESS_BLOCKS, worker=worker)
    tasks = metrics.gauge(catalog.LOOP_TASKS, worker=worker)
    futures = metrics.gauge(catalog.LOOP_FUTURES, worker=worker)
    next_count = 0.0

    def measure() -> None:
        nonlocal next_count
        cpu.value = time.process_time()
        memory.set(resident_bytes())
        files.set(open_files())
        threads.set(thread_count())
        blocks.set(sys.getallocatedblocks())
        tasks.set(task_count())
        if time.monotonic() >= next_count:
            next_count = time.monotonic() + _COUNT_INTERVAL
            futures.set(future_count())

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


def thread_count() -> int:
    """Threads of this process, those of libraries among them; 0 where /proc does not say."""
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208
    except OSError:
        return 0


def task_count() -> int:
    """Tasks of the running event loop that have not ended; 0 where no loop runs."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 0


def future_count() -> int:
    """Futures that nobody has completed yet, without tasks and those of before `gc.freeze`. Takes a millisecond."""
    return sum(1 for one in gc.get_objects() if type(one) is asyncio.Future and not one.done())


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

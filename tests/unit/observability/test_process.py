"""What a process costs."""

from __future__ import annotations

import asyncio
import gc
import mmap
import os
import threading
import time

from streamd.observability import catalog
from streamd.observability.metrics import MetricSet
from streamd.observability.process import (
    LoopLag,
    future_count,
    measure_process,
    open_files,
    resident_bytes,
    task_count,
    thread_count,
)  # fmt: skip


def test_cost_is_measured_at_each_snapshot_until_ended():
    metrics = MetricSet()
    end = measure_process(metrics, 3)
    metrics.snapshot()
    cpu = metrics.counter(catalog.PROCESS_CPU, worker=3).value
    assert cpu > 0
    assert metrics.gauge(catalog.PROCESS_MEMORY, worker=3).value > 1_000_000
    until = time.process_time() + 0.01
    while time.process_time() < until:
        pass
    metrics.snapshot()
    later = metrics.counter(catalog.PROCESS_CPU, worker=3).value
    assert later > cpu
    end()
    metrics.snapshot()
    assert metrics.counter(catalog.PROCESS_CPU, worker=3).value == later


def test_memory_and_files_follow_what_the_process_has():
    memory, files = resident_bytes(), open_files()
    # Pages of its own: malloc may serve any size from what was freed before.
    held = mmap.mmap(-1, 64_000 * 1024)
    held.write(os.urandom(1024) * 64_000)
    read, write = os.pipe()
    assert resident_bytes() > memory + 40_000_000
    assert open_files() == files + 2
    os.close(read)
    os.close(write)
    held.close()


async def test_tasks_futures_and_threads_are_counted():
    # What other tests have left may go at any moment.
    gc.collect()
    tasks, futures, threads = task_count(), future_count(), thread_count()
    loop, over = asyncio.get_running_loop(), threading.Event()
    kept = [loop.create_future() for _ in range(500)]
    waiting = [asyncio.create_task(asyncio.Event().wait()) for _ in range(5)]
    started = [threading.Thread(target=over.wait) for _ in range(20)]
    for thread in started:
        thread.start()
    assert task_count() == tasks + 5
    pending = future_count()
    assert pending >= max(500, futures + 400)
    for future in kept[:200]:
        future.set_result(None)
    assert pending - future_count() >= 200
    assert thread_count() >= threads + 10
    over.set()
    for thread in started:
        thread.join()
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    del kept
    assert task_count() == tasks


def test_without_a_loop_there_are_no_tasks():
    assert task_count() == 0


async def test_a_blocked_loop_is_late():
    metrics = MetricSet()
    with LoopLag(interval=0.01).measured(metrics, worker=0):
        await asyncio.sleep(0)
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            pass
        metrics.snapshot()
        assert metrics.gauge(catalog.LOOP_LAG, worker=0).value >= 0.08
    before = metrics.gauge(catalog.LOOP_LAG, worker=0).value
    metrics.snapshot()
    assert metrics.gauge(catalog.LOOP_LAG, worker=0).value == before

"""What `streamd doctor` checks on this machine: Python and its packages, limits, disk, the embedded log's file."""

from __future__ import annotations

import math
import os
import resource
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from streamd.config.service import ServiceConfig
from streamd.observability.finding import Finding, judged
from streamd.plan.graph import PipelinePlan
from streamd.runtime.environment import TESTED_AIOKAFKA, installed_aiokafka
from streamd.supervisor.node import usable_cores
from streamd.transport.embedded.log import log_path

_QUICK_CHECK: Final = 30.0  # seconds
_LITTLE, _TOO_LITTLE = 1 << 30, 100 << 20  # bytes of free disk
# Descriptors: what a process has anyway, and what one task takes of each broker (fetch, produce, coordinators).
_BASE, _PER_TASK = 100, 4


def look_here(plans: Sequence[PipelinePlan], service: ServiceConfig, brokers: int, tasks: int) -> list[Finding]:
    """All checks of this machine. `brokers`: how many the pipelines' clusters have together; `tasks`: all on Kafka."""
    folder = Path(service.state_dir) / service.app
    findings = [*_python(), _open_files(service, brokers, tasks), *_disk(folder)]
    if not plans or any(part.transport == "embedded" for plan in plans for part in plan.parts):
        findings += _embedded(log_path(folder, service.app))
    return findings


def _python() -> Iterator[Finding]:
    yield judged(
        "python", __debug__, "this Python", "assertions are on" if __debug__ else "runs with -O", "assertions on",
        "Run without -O and PYTHONOPTIMIZE: the Kafka client relies on assertions.",
    )  # fmt: skip
    found = installed_aiokafka()
    yield judged(
        "python", found == TESTED_AIOKAFKA, "aiokafka", found or "not installed", TESTED_AIOKAFKA,
        f"pip install aiokafka=={TESTED_AIOKAFKA}",
    )  # fmt: skip


def _open_files(service: ServiceConfig, brokers: int, tasks: int) -> Finding:
    """Whether a worker of this node could run its share of all tasks, were there no other node."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    workers = usable_cores() if service.workers == "auto" else service.workers
    share = math.ceil(tasks / max(1, min(workers, tasks)))
    needed = _BASE + share * _PER_TASK * brokers
    return judged(
        "open files", limit == resource.RLIM_INFINITY or limit >= needed, "limit of this process", str(limit),
        f"{needed}, for a worker with {share} tasks and {brokers} brokers",
        "Raise it (`ulimit -n`, LimitNOFILE= of systemd), or run more workers.", bad="warning",
    )  # fmt: skip


def _disk(folder: Path) -> Iterator[Finding]:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    subject = f"state_dir {folder}"
    fine = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    seen = "can be written" if fine else f"{there} cannot be written by uid {os.getuid()}"
    yield judged("state_dir", fine, subject, seen, "a folder that can be written", f"chown or chmod {there}.")
    free = shutil.disk_usage(there).free
    remedy = "Make room: without it nothing can be committed there."
    level = judged("disk", free >= _LITTLE, subject, f"{free / (1 << 30):.1f} GiB free", "1 GiB", remedy, bad="warning")
    yield level if free >= _TOO_LITTLE else Finding("disk", "problem", subject, level.seen, level.needed, remedy)


def _embedded(path: Path) -> Iterator[Finding]:
    subject = f"embedded log {path}"
    if not path.exists():
        yield Finding("embedded log", "ok", subject, "does not exist yet")
        return
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as connection:
            until = time.monotonic() + _QUICK_CHECK
            connection.set_progress_handler(lambda: int(time.monotonic() > until), 100_000)
            rows = [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)")]
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            seen = f"no damage found within {_QUICK_CHECK:g} s; not all of it was read"
            yield Finding("embedded log", "ok", subject, seen)
            return
        rows = [str(error)]
    except sqlite3.DatabaseError as error:
        rows = [str(error)]
    yield judged(
        "embedded log", rows == ["ok"], subject, "no damage" if rows == ["ok"] else "; ".join(rows)[:300], "no damage",
        "Stop streamd, restore the file from a backup, or move it away and begin anew.",
    )  # fmt: skip

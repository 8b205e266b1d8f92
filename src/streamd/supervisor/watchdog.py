"""Whether a worker process still does its work. Pure.

Live means progress against lag: a process that answers and reads nothing, although there is something to read, is as
dead as one that does not answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from streamd.runtime.control import TaskReport
from streamd.supervisor.options import Options

WORKING = frozenset({"running", "draining"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a worker has to be killed. `stalled`: by a task without progress, rather than by its silence."""

    reason: str
    stalled: bool = False


def judge(
    now: float,
    spawned_at: float,
    heard_at: float | None,
    reported_at: float,
    reports: Iterable[TaskReport],
    options: Options,
) -> Verdict | None:
    """What to do about a worker. `heard_at`: when it last sent anything, None if never. None: leave it alone.

    `reported_at`: when the reports were made. A stall is judged by that time: what came after is not known yet.
    """
    if heard_at is None:
        if now - spawned_at > options.start_timeout:
            return Verdict(f"It did not start within {options.start_timeout:g} s.")
        return None
    if now - heard_at > options.silence_timeout:
        return Verdict(f"Its event loop has been silent for {now - heard_at:.1f} s.")
    for report in reports:
        quiet = reported_at - max(report.last_progress, report.attempt_at)
        if stalls(report) and quiet > options.stall_timeout:
            lag = "work" if report.lag is None else f"{report.lag} to read"
            return Verdict(f"Task {report.task} has {lag} and made no progress for {quiet:.1f} s.", stalled=True)
    return None


def stalls(report: TaskReport) -> bool:
    """Whether the task has something to do right now. One that waits to be tried again, or starts, does not."""
    return report.state in WORKING and not report.idle and report.lag != 0

"""When a worker's replacement starts, and whether a worker still works."""

from __future__ import annotations

import pytest

from streamd.record import TaskId
from streamd.runtime.backoff import RestartPolicy
from streamd.runtime.control import TaskReport
from streamd.supervisor.options import Options
from streamd.supervisor.restart import Crashes, replacement_delay, was_useful
from streamd.supervisor.watchdog import judge

POLICY = RestartPolicy(initial=0.2, maximum=5.0, jitter=0.0, calm=10.0)
TASK = TaskId("app", "p", 0, 3)


def test_the_first_crash_is_replaced_at_once_and_repeated_ones_later():
    crashes = Crashes()
    delays = []
    for _ in range(7):
        crashes = crashes.and_one(useful=False)
        delays.append(replacement_delay(crashes, POLICY, 0.5))
    assert delays == [0.0, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]


def test_a_crash_after_useful_work_is_a_first_one():
    crashes = Crashes().and_one(useful=False).and_one(useful=False).and_one(useful=True)
    assert replacement_delay(crashes, POLICY, 0.5) == 0.0
    assert crashes.total == 3


def test_useful_is_work_or_a_calm_life():
    assert was_useful(0.1, 1, POLICY)
    assert was_useful(10.0, 0, POLICY)
    assert not was_useful(9.9, 0, POLICY)


def report(**values):
    return TaskReport(TASK, 1, **{"state": "running", "lag": 7, "last_progress": 100.0, **values})


OPTIONS = Options(stall_timeout=30.0, silence_timeout=10.0, start_timeout=20.0)


@pytest.mark.parametrize(
    ("now", "heard_at", "reported_at", "reports", "reason"),
    [
        (15.0, None, 0.0, [], None),
        (25.0, None, 0.0, [], "It did not start within 20 s."),
        (140.0, 139.0, 139.0, [], None),
        (151.0, 139.0, 139.0, [], "Its event loop has been silent for 12.0 s."),
        (132.0, 131.0, 131.0, [report()], "Task app.p.0.3 has 7 to read and made no progress for 31.0 s."),
        (132.0, 131.0, 131.0, [report(lag=None)], "Task app.p.0.3 has work and made no progress for 31.0 s."),
        # A report from before the limit says nothing of the time since.
        (132.0, 131.5, 129.0, [report()], None),
        (132.0, 131.0, 131.0, [report(lag=0, idle=True)], None),
        (132.0, 131.0, 131.0, [report(lag=0)], None),
        (132.0, 131.0, 131.0, [report(state="backing_off")], None),
        (132.0, 131.0, 131.0, [report(state="starting")], None),
        (132.0, 131.0, 131.0, [report(attempt_at=120.0)], None),
    ],
)
def test_judge(now, heard_at, reported_at, reports, reason):
    verdict = judge(now, 0.0, heard_at, reported_at, reports, OPTIONS)
    assert (verdict.reason if verdict else None) == reason

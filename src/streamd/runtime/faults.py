"""Named points at which a test can make a process fail: `STREAMD_FAULT=point:action[:probability|@FILE],…`.

Where each point is: `runtime/checkpoint.py` has those of the commit, `runtime/task.py` and the supervisor the others.
Actions: `kill9`, `exception`, `sleep=SECONDS` (the whole loop stands still), `stop` (SIGSTOP).

`STREAMD_FAULT_SEED` makes chance repeatable: what is decided at the n-th passing of a point depends on the seed, the
point, the action and the process's number, and on nothing else. `STREAMD_FAULT_LOG` names a file that gets a line
`pid point action` just before each fault: what was really injected, also by a process that is killed with it. With
`@FILE` in place of a probability whoever is first to take that file away fails, once for each time that it is made:
so another process says when. Without `STREAMD_FAULT` a point costs one comparison.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Coroutine
from pathlib import Path
from typing import Any

from streamd.errors import TransientError

POINTS = (
    "in_open",
    "in_restore",
    "before_begin",
    "after_produce",
    "after_changelog",
    "after_flush",
    "after_positions",
    "before_commit",
    "commit_sent",
    "after_commit",
    "in_last_mark",
    "in_assign",
    "in_revoke",
)
ACTIONS = ("kill9", "exception", "sleep", "stop")

_STARTED = "started"
# Turns of the loop in which a coroutine comes to its first wait, and what it wrote leaves the process.
_TURNS = 4


class Faults:
    """The faults asked for, for one process. `log` is opened, and numbers the processes, at the first fault point."""

    def __init__(self, text: str, seed: str | None = None, log: str | None = None) -> None:
        self._seed, self._log_path = seed, log
        self._log: int | None = None
        # {point: [(action, probability or file, its own chance)]}
        self._planned: dict[str, list[tuple[str, float | str, random.Random]]] = {}
        self._texts: list[tuple[str, str, float | str]] = []
        for item in filter(None, (part.strip() for part in text.split(","))):
            point, _, rest = item.partition(":")
            action, _, probability = rest.partition(":")
            if point not in POINTS:
                raise ValueError(f"STREAMD_FAULT: there is no point {point!r}; the points are {', '.join(POINTS)}")
            if action.partition("=")[0] not in ACTIONS:
                raise ValueError(f"STREAMD_FAULT: there is no action {action!r}; they are {', '.join(ACTIONS)}")
            when = probability[1:] if probability.startswith("@") else float(probability or 1)
            self._texts.append((point, action, when))

    def plans(self, point: str) -> bool:
        """Whether anything may happen at a point."""
        return any(planned == point for planned, _, _ in self._texts)

    def at(self, point: str) -> None:
        """Fail here, if that is planned and chance wants it."""
        if not self._planned:
            self._begin()
        for action, when, chance in self._planned.get(point, ()):
            if _taken(when) if isinstance(when, str) else chance.random() < when:
                self._act(point, action)

    async def during(self, point: str, work: Coroutine[Any, Any, None]) -> None:
        """Do the work, and fail once it has asked the other side and waits for the answer."""
        running = asyncio.create_task(work)
        try:
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            if not running.done():
                self.at(point)
            await running
        finally:
            running.cancel()

    def _begin(self) -> None:
        number = str(os.getpid())
        if self._log_path is not None:
            self._log = os.open(self._log_path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(self._log, f"{os.getpid()} {_STARTED} -\n".encode())
            lines = os.pread(self._log, 1 << 30, 0).decode().splitlines()
            number = str([line for line in lines if f" {_STARTED} " in line].index(f"{os.getpid()} {_STARTED} -"))
        for point, action, when in self._texts:
            chance = random.Random(None if self._seed is None else f"{self._seed} {number} {point} {action}")
            self._planned.setdefault(point, []).append((action, when, chance))

    def _act(self, point: str, action: str) -> None:
        if self._log is not None:
            os.write(self._log, f"{os.getpid()} {point} {action}\n".encode())
        name, _, argument = action.partition("=")
        match name:
            case "kill9":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "sleep":
                time.sleep(float(argument or 1))  # the whole loop, on purpose: a blocked process
            case _:
                raise TransientError(f"fault injected at {point}")


def _taken(file: str) -> bool:
    """Take a file away; False when it is not there, or another process was faster."""
    try:
        Path(file).unlink()
    except OSError:
        return False
    return True


_asked = os.environ.get("STREAMD_FAULT")
_faults = Faults(_asked, os.environ.get("STREAMD_FAULT_SEED"), os.environ.get("STREAMD_FAULT_LOG")) if _asked else None


def fault_point(point: str) -> None:
    """Fail here, if a test asked for it."""
    if _faults is not None:
        _faults.at(point)


def fault_during(point: str, work: Coroutine[Any, Any, None]) -> Awaitable[None]:
    """The work, to be awaited: as it is, or, if a test asked for it, failing while its answer is under way."""
    if _faults is None or not _faults.plans(point):
        return work
    return _faults.during(point, work)

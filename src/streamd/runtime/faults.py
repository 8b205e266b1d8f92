"""Named points at which a test can make a process fail: `STREAMD_FAULT=point:action[:probability],…`.

Points are named in `runtime/checkpoint.py` and `runtime/task.py`. Actions: `kill9`, `exception`, `sleep=SECONDS`,
`stop` (SIGSTOP). The seed of the chance is `STREAMD_FAULT_SEED`, so that a schedule can be run again. Without the
variable a point costs one attribute look-up and a comparison.
"""

from __future__ import annotations

import os
import random
import signal
import time

from streamd.errors import TransientError

POINTS = (
    "before_begin",
    "after_produce",
    "after_flush",
    "after_positions",
    "after_commit",
    "in_open",
)


class Faults:
    """The faults asked for by the environment."""

    def __init__(self, text: str, seed: str | None = None) -> None:
        self._chance = random.Random(None if seed is None else f"{seed}-{os.getpid()}")
        self._planned: dict[str, list[tuple[str, float]]] = {}
        for item in filter(None, (part.strip() for part in text.split(","))):
            point, _, rest = item.partition(":")
            action, _, probability = rest.partition(":")
            if point not in POINTS:
                raise ValueError(f"STREAMD_FAULT: there is no point {point!r}; the points are {', '.join(POINTS)}")
            self._planned.setdefault(point, []).append((action, float(probability or 1)))

    def at(self, point: str) -> None:
        """Fail here, if that is planned and chance wants it."""
        for action, probability in self._planned.get(point, ()):
            if self._chance.random() < probability:
                self._act(point, action)

    def _act(self, point: str, action: str) -> None:
        name, _, argument = action.partition("=")
        match name:
            case "kill9":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "sleep":
                time.sleep(float(argument or 1))  # the whole loop, on purpose: a blocked process
            case "exception":
                raise TransientError(f"fault injected at {point}")
            case _:
                raise ValueError(f"STREAMD_FAULT: there is no action {name!r}")


_asked = os.environ.get("STREAMD_FAULT")
_faults = Faults(_asked, os.environ.get("STREAMD_FAULT_SEED")) if _asked else None


def fault_point(point: str) -> None:
    """Fail here, if a test asked for it."""
    if _faults is not None:
        _faults.at(point)

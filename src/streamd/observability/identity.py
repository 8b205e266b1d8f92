"""Who runs here, and who else: what each commit leaves beside its positions, for two deployments to find each other."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_SLACK: Final = 5  # seconds


@dataclass(frozen=True, slots=True)
class Identity:
    """A node: its host, the pid of its supervisor (of the program itself for the Python API), its start, Unix time."""

    host: str
    pid: int
    since: int

    def same(self, other: Identity) -> bool:
        """Whether both are one node. Its processes may disagree by a second, when the clock was set meanwhile."""
        return (self.host, self.pid) == (other.host, other.pid) and abs(self.since - other.since) <= _SLACK

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, UTC)
        return f"host {self.host}, pid {self.pid}, since {since:%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True, slots=True)
class Rival:
    """Another deployment that runs a task of ours, or once did.

    `where`: under what it commits. `number`: of its newest commit. `at_work`: it is for sure not one of the past.
    """

    who: Identity
    where: str
    number: int
    at_work: bool = True


_adopted: list[Identity] = []


def identity() -> Identity:
    """This process's own node."""
    if not _adopted:
        _adopted.append(_of(os.getpid()))
    return _adopted[0]


def adopt(pid: int) -> None:
    """This process works for the node whose supervisor is `pid`."""
    _adopted[:] = [_of(pid)]


def running_here(who: Identity) -> bool:
    """Whether that node is a process of this machine, and still there."""
    return who.host == socket.gethostname() and Path(f"/proc/{who.pid}").exists() and who.same(_of(who.pid))


def _of(pid: int) -> Identity:
    return Identity(socket.gethostname(), pid, _started(pid))


def _started(pid: int) -> int:
    """When a process started, Unix time; now, where /proc does not say."""
    try:
        stat = Path("/proc/stat").read_text(encoding="ascii", errors="replace")
        booted = int(stat[stat.index("btime ") :].split(None, 2)[1])
        # Behind the name, which may hold anything: the state is the first field there, the start the twentieth.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return booted + int(fields[19]) // _TICKS
    except (OSError, ValueError, IndexError):
        return int(time.time())

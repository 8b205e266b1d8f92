"""The times and limits of the control plane, as one value."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamd.runtime.backoff import RestartPolicy


@dataclass(frozen=True, slots=True)
class Options:
    """All times in seconds.

    `workers`: how many processes, None for one per usable core; never more than there are tasks. `drain_timeout`: for
    everything from SIGTERM to the end. `stall_timeout`: without progress, with lag, until a worker is killed.
    `silence_timeout`: without any message from a worker whose loop should send one each second. `start_timeout`: from
    spawn to the first message. `unreachable_timeout`: with `until_idle`, for a server that can not be reached.
    `idle_confirmation`: how much later everything must still be idle. `spare`: keep one idle process started, which
    takes the place of one that dies. `restart`: of workers and of pipelines that wait for a server.
    """

    workers: int | None = None
    drain_timeout: float = 30.0
    stall_timeout: float = 30.0
    silence_timeout: float = 10.0
    start_timeout: float = 30.0
    unreachable_timeout: float = 30.0
    idle_confirmation: float = 1.0
    revoke_timeout: float = 10.0
    spare: bool = True
    until_idle: bool = False
    exit_on_failure: bool = False
    restart: RestartPolicy = field(default_factory=RestartPolicy)

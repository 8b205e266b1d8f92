"""Whether and when to try a failed task again. Pure: time and chance are handed in."""

from __future__ import annotations

import math
from dataclasses import dataclass

from streamd.errors import ConfigError, FatalError, FencedError, TransientError
from streamd.observability import redact
from streamd.observability.identity import Identity, Rival, identity
from streamd.record import TaskId
from streamd.runtime.control import Fault

# Characters: all problems of a configuration file are one message.
MAX_MESSAGE = 100_000


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """The delays between attempts, in seconds, and when to give up.

    The n-th failure in a row waits `initial` × 2ⁿ⁻¹, at most `maximum`, shortened by chance by up to `jitter` of it. A
    task that worked for `calm` seconds, or made progress since, starts counting anew. Transient errors are tried for
    ever; an error that no code raises on purpose `unexpected_limit` times in a row, and being fenced `fence_limit`
    times in a row: then somebody else keeps running the same task. Where it is known who that is, `rival_limit` times
    are enough for who started later, and `older_patience` as many for who was there first, which normally sees the
    other give up. All over at least `rival_seconds`, for the older one `older_patience` as long: more than any
    hand-over between nodes of one deployment takes, and time for the other to be seen.
    """

    initial: float = 0.2
    maximum: float = 30.0
    jitter: float = 0.2
    calm: float = 10.0
    unexpected_limit: int = 5
    fence_limit: int = 10
    rival_limit: int = 3
    rival_seconds: float = 10.0
    older_patience: int = 3


@dataclass(frozen=True, slots=True)
class Failures:
    """The failures in a row of one task, by kind."""

    count: int = 0
    fenced: int = 0
    unexpected: int = 0

    def and_one(self, kind: str) -> Failures:
        """These, and one more of the kind."""
        return Failures(self.count + 1, self.fenced + (kind == "fenced"), self.unexpected + (kind == "unexpected"))


def was_calm(policy: RestartPolicy, lasted: float, kind: str) -> bool:
    """Whether an attempt of `lasted` seconds was good enough for its failure to be the first of a row.

    Two that fence each other both work until the other comes back, so a fence counts as the first only when the attempt
    lasted longer than a rival waits at most.
    """
    return lasted >= (policy.calm + 2 * policy.maximum if kind == "fenced" else policy.calm)


def fault_of(error: BaseException) -> Fault:
    """The error as a value. The text of an error that no code raises on purpose may hold anything, and is left out.

    Known secrets are hidden: the message goes not only into the log, but also to the terminal and to the API.
    """
    name, message = type(error).__name__, redact.text(str(error), MAX_MESSAGE)
    if isinstance(error, FencedError):
        return Fault("fenced", name, message)
    if isinstance(error, TransientError | ConnectionError | TimeoutError):
        return Fault("transient", name, message or name)
    if isinstance(error, FatalError | ConfigError):
        return Fault("fatal", name, message)
    if isinstance(error, OSError):
        return Fault("transient", name, f"The operating system says: {error.strerror or name}.")
    return Fault("unexpected", name, f"Unexpected {name}; its trace is in the worker's log.")


def gives_way(ours: Identity, theirs: Identity) -> bool:
    """Whether of two deployments that fence each other ours is to stop: the one that started later.

    Both sides compare the same two, as published, so that they come to the same answer whatever their clocks say.
    """
    return _order(ours) > _order(theirs)


def _order(who: Identity) -> tuple[int, str, int]:
    return who.since, who.host, who.pid


def next_delay(policy: RestartPolicy, failures: Failures, chance: float, at_least: float | None = None) -> float:
    """Seconds until the next attempt, after these failures in a row. `chance` is in [0, 1)."""
    doublings = min(max(0, failures.count - 1), 62)
    delay = min(policy.maximum, math.ldexp(policy.initial, doublings))
    return max(delay * (1 - policy.jitter * chance), at_least or 0.0)


def give_up(
    policy: RestartPolicy,
    failures: Failures,
    fault: Fault,
    task: TaskId,
    rival: Rival | None = None,
    seconds: float = 0.0,
) -> Fault | None:
    """The fatal fault that these failures in a row of `task` amount to, the last one being `fault`; None: try again.

    `rival`: who else runs the task, as far as known; `seconds` since the first fence of the row.
    """
    if fault.kind == "fatal":
        return fault
    if rival is not None and fault.kind == "fenced":
        return _stop_one_of_two(policy, failures, fault, task, rival, seconds)
    if failures.fenced >= policy.fence_limit and seconds >= policy.rival_seconds:
        message = (
            f"Fenced {failures.fenced} times in a row: besides this node ({identity()}), another one with app "
            f"{task.app} runs the same task of pipeline {task.pipeline}. Each deployment on one cluster needs an `app` "
            f"name of its own, and a part without a source in the pipeline's group runs on every node of the app: give "
            f"each node its own `app`, or run the pipeline on one node. Last: {fault.message}"
        )
        return Fault("fatal", fault.error, message)
    if failures.unexpected >= policy.unexpected_limit:
        return Fault("fatal", fault.error, f"Failed {failures.unexpected} times in a row. {fault.message}")
    return None


def _stop_one_of_two(
    policy: RestartPolicy, failures: Failures, fault: Fault, task: TaskId, rival: Rival, seconds: float
) -> Fault | None:
    """The fatal fault of a task that a known rival runs as well; None while it is not up to us to stop."""
    later = gives_way(identity(), rival.who)
    patience = 1 if later else policy.older_patience
    if failures.fenced < policy.rival_limit * patience or seconds < policy.rival_seconds * patience:
        return None
    why = "This one started later, and gives up." if later else "The other started later, and has not given up."
    message = (
        f"Task {task} is run by two deployments with app {task.app}, which fence each other ({failures.fenced} "
        f"times in {seconds:.0f} s). This one: {identity()}. The other: {rival.who}, which commits to "
        f"{rival.where}. {why} Each deployment on one cluster needs an `app` name of its own (streamd.yaml); nodes of "
        f"one deployment need the same `group`. Last: {fault.message}"
    )
    return Fault("fatal", fault.error, message)

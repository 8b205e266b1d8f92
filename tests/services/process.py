"""Processes of real services: they never outlive the test session, and what went wrong is in the error."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

# The kernel's parent-death signal follows the *thread* that started the child. One thread that lives as long as pytest
# starts them all, so a service may be started from anywhere, a short-lived thread of asyncio.to_thread included.
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")

# Seeds of the random module are the tests' own; two sessions with the same seed must not want the same ports.
_PORTS = random.SystemRandom()


class ServiceError(RuntimeError):
    """A real service did not do what was asked; the message ends with the tail of its log."""


def cache_folder() -> Path:
    """Where downloads are kept between runs: `$STREAMD_TEST_CACHE`, else `.cache/services` of the repository."""
    folder = Path(os.environ.get("STREAMD_TEST_CACHE") or REPOSITORY / ".cache" / "services")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock between processes on `path` (created; left in place)."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def free_ports(count: int) -> list[int]:
    """`count` distinct TCP ports of 127.0.0.1, free now, outside the range the kernel gives to outgoing connections."""
    found: list[int] = []
    for _ in range(1000):
        port = _PORTS.randrange(18000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
        if len(found) == count:
            return found
    raise ServiceError(f"no {count} free ports between 18000 and 32000")


def tail(log: Path, lines: int = 40) -> str:
    """The last `lines` lines of a log file, or a word on why there are none."""
    if not log.exists():
        return f"({log} was never written)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) or f"({log} is empty)"


def require(program: str, package: str) -> str:
    """Path of a program; raises ServiceError naming the package that brings it."""
    found = shutil.which(program)
    if found is None:
        raise ServiceError(f"{program} is missing: install {package} (`make test` does)")
    return found


def wait_until(condition: Callable[[], bool], what: str, deadline: float, every: float = 0.05) -> None:
    """Polls `condition` every `every` seconds; raises TimeoutError naming `what` after `deadline` seconds."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {deadline:g} s")
        time.sleep(every)


class ServiceProcess:
    """One child process that writes to a log file and dies with the test session."""

    def __init__(self, arguments: Sequence[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.log = log
        self._child = _SPAWNER.submit(self._spawn, list(arguments), log, env).result()

    @staticmethod
    def _spawn(arguments: list[str], log: Path, env: dict[str, str] | None) -> subprocess.Popen[bytes]:
        guard = [require("setpriv", "util-linux"), "--pdeathsig", "KILL"]
        with log.open("ab") as output:
            # A session of its own: Ctrl-C in the terminal reaches pytest, which then stops the service in order.
            return subprocess.Popen(
                guard + arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; nothing happens when the process has ended."""
        if self.running:
            self._child.send_signal(number)

    def pause(self) -> None:
        """SIGSTOP, and waits until every thread stands still: before that, some may still answer."""
        self.signal(signal.SIGSTOP)
        wait_until(lambda: not self.running or self._stopped(), f"process {self.pid} stops", 10.0, every=0.005)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def _stopped(self) -> bool:
        try:
            stats = [(task / "stat").read_text() for task in Path(f"/proc/{self.pid}/task").iterdir()]
        except (FileNotFoundError, ProcessLookupError):  # a thread ended meanwhile
            return False
        return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)

    def wait(self, deadline: float) -> int:
        """The exit code; raises ServiceError when the process still runs after `deadline` seconds."""
        try:
            return self._child.wait(deadline)
        except subprocess.TimeoutExpired as error:
            raise ServiceError(f"process {self.pid} did not end within {deadline:g} s\n{tail(self.log)}") from error

    def stop(self, deadline: float = 30.0) -> None:
        """SIGTERM, then SIGKILL after `deadline` seconds. A paused process is woken first."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self.wait(deadline)
        except ServiceError:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, and waits for the end."""
        self.signal(signal.SIGKILL)
        self.wait(30.0)

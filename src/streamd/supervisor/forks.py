"""The supervisor's side of the fork server: workers that start in milliseconds, on a loaded machine as well.

A worker that starts by itself imports for half a second of CPU time, of which it gets a fraction when the machine has
other work; one that is forked has everything already, and shares its memory with the others.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections import deque

import structlog

from streamd.runtime.fork_server import FAILED, PID

log = structlog.get_logger(__name__)

FORK_SERVER_COMMAND = (sys.executable, "-P", "-m", "streamd.runtime.fork_server")
ANSWER_WITHIN = 30.0  # seconds; the first answer waits for the imports
# Seconds until the next one is started: none after one that ran for long, else doubled from the first on.
RAN_LONG = 60.0
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
PR_SET_CHILD_SUBREAPER = 36
# What only the supervisor and the command line have; workers need the rest of what is imported here, perhaps.
_NOT_FOR_WORKERS = ("streamd.supervisor", "streamd.api", "streamd.cli", "streamd.pipeline", "streamd.verify")

# Servers that fork now; supervisors may share a process.
_forking: set[ForkServer] = set()


class ForkServer:
    """A fork server process of this supervisor. `start` it, `fork` workers, `close` it; all on one loop.

    One that ends by itself is replaced, at once if it ran for long.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._end: socket.socket | None = None
        self._received = b""
        self._asked: deque[asyncio.Future[int]] = deque()
        self._started_at = 0.0
        self._next: asyncio.TimerHandle | None = None
        self._ends = 0  # in a row, of those that ran for a short time

    @property
    def running(self) -> bool:
        """Whether it can be asked. One that ended by itself is noticed at once."""
        return self._end is not None

    def start(self) -> None:
        """Start the process; it imports while this goes on. Raises OSError."""
        self._cancel_next()
        ours, theirs = socket.socketpair()
        # Blocked signals stay blocked over fork and exec, until it has learnt to ignore them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        try:
            self._process = subprocess.Popen(
                [*FORK_SERVER_COMMAND, str(theirs.fileno()), str(os.getpid()), *_modules()],
                pass_fds=(theirs.fileno(),),
                close_fds=True,
            )
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        ours.setblocking(False)
        self._end, self._received = ours, b""
        loop = asyncio.get_running_loop()
        self._started_at = loop.time()
        loop.add_reader(ours, self._readable)

    async def fork(self, theirs: socket.socket) -> int:
        """The pid of a new worker, a child of this process, that serves `theirs`. Raises OSError when there is none."""
        if self._end is None:
            raise OSError("The fork server does not run.")
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        _adopt_orphans(self, True)
        self._asked.append(answer)
        try:
            socket.send_fds(self._end, [b"w"], [theirs.fileno()])
            async with asyncio.timeout(ANSWER_WITHIN):
                pid = await asyncio.shield(answer)
        except TimeoutError:
            self.close()
            raise OSError(f"The fork server did not answer within {ANSWER_WITHIN:g} s.") from None
        except OSError:
            self.close()
            raise
        if pid == FAILED:
            raise OSError("The fork server could not fork.")
        return pid

    def close(self) -> None:
        """End it. Workers that it has forked go on; whoever waits for one gets an OSError."""
        self._cancel_next()
        end, self._end = self._end, None
        if end is not None:
            asyncio.get_running_loop().remove_reader(end)
            end.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        while self._asked:
            _fail(self._asked.popleft())
        _adopt_orphans(self, False)

    def _readable(self) -> None:
        assert self._end is not None
        try:
            data = self._end.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._ended()
            return
        self._received += data
        while len(self._received) >= PID.size and self._asked:
            (pid,) = PID.unpack_from(self._received)
            self._received = self._received[PID.size :]
            answer = self._asked.popleft()
            if not answer.done():
                answer.set_result(pid)
        if not self._asked:
            _adopt_orphans(self, False)

    def _ended(self) -> None:
        """It ended by itself. Workers that are wanted before the next one is there start by themselves, or start it."""
        self.close()
        loop = asyncio.get_running_loop()
        self._ends = 0 if loop.time() - self._started_at >= RAN_LONG else self._ends + 1
        delay = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(self._ends - 1, 16)) if self._ends else 0.0
        log.warning("Fork server ended; the next one will be started", delay_seconds=delay)
        self._next = loop.call_later(delay, self._start_next)

    def _start_next(self) -> None:
        try:
            self.start()
        except OSError as error:
            log.warning("Fork server cannot be started; the next worker tries again", error=error.strerror)

    def _cancel_next(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None


def _fail(answer: asyncio.Future[int]) -> None:
    if not answer.done():
        answer.set_exception(OSError("The fork server ended."))
        answer.exception()  # whoever waited may have given up


def _adopt_orphans(server: ForkServer, wanted: bool) -> None:
    """Make this process the parent of workers whose forker ends, and only for that time: other orphans are not ours.

    It holds for the whole process, so it ends with the last server that forks.
    """
    if wanted:
        _forking.add(server)
    else:
        _forking.discard(server)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(bool(_forking)))


def _modules() -> list[str]:
    """What this process has imported of what its workers will need: the components of the pipelines among it."""
    return sorted(name for name in sys.modules if name.startswith("streamd.") and not name.startswith(_NOT_FOR_WORKERS))

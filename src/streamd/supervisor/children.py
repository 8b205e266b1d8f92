"""Worker processes: start, talk to, kill, and notice their end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence

import structlog

from streamd.clock import SYSTEM_CLOCK
from streamd.runtime.control import News, Order, news_channel
from streamd.supervisor.forks import ForkServer

log = structlog.get_logger(__name__)

UNKNOWN_CODE = 255  # what asyncio takes as well, for a child whose exit code it cannot learn
# Without the working directory on the path: a file there must not take the place of a module.
WORKER_COMMAND = (sys.executable, "-P", "-m", "streamd.runtime.worker")


class Child:
    """One worker process and its control channel. Made by `spawn` or `fork`. `reap` takes its exit code, once.

    `on_news(child, news)` is called for each message, `on_exit(child)` once, when the process is gone and everything it
    had sent has been handed over; then `returncode` is set, negative for a signal.
    """

    def __init__(self, pid: int, reap: Callable[[], int]) -> None:
        self.pid = pid
        self.spawned_at = SYSTEM_CLOCK.monotonic()
        self._reap = reap
        self.returncode: int | None = None
        self.killed_for: str | None = None

    async def attach(
        self, end: socket.socket, on_news: Callable[[Child, News], None], on_exit: Callable[[Child], None]
    ) -> None:
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._exited = False
        self._channel = news_channel(lambda news: on_news(self, news), self._channel_closed)
        await self._channel.connect(end)
        # A pidfd is readable once the process ends: no signal handler, no thread, and no pid that could be reused.
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._process_ended)

    @property
    def alive(self) -> bool:
        return self.returncode is None

    @property
    def buffered(self) -> int:
        """Bytes of orders that the worker has not read."""
        return self._channel.buffered

    def send(self, order: Order) -> None:
        """Queue an order; a worker that is gone swallows it."""
        self._channel.send(order)

    def kill(self, reason: str) -> None:
        """End the process at once, whatever it does. `on_exit` follows."""
        if self.alive and not self._exited:
            self.killed_for = self.killed_for or reason
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for the end of the process; returns its code."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def _channel_closed(self) -> None:
        # The channel closes by itself when the process ends; a process that lives on without it is of no use.
        if not self._exited:
            self._loop.call_later(1.0, self.kill, "Its control channel is closed.")
        self._settle()

    def _process_ended(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._exited = True
        # Whatever the worker has forked may hold its end of the channel open.
        self._loop.call_later(1.0, self._channel.close)
        self._settle()

    def _settle(self) -> None:
        """Both the process and the channel have ended: nothing more will come."""
        if self._exited and self._channel.closed and self.returncode is None:
            self.returncode = self._reap()
            self._ended.set()
            self._on_exit(self)


async def spawn(
    on_news: Callable[[Child, News], None],
    on_exit: Callable[[Child], None],
    command: Sequence[str] = WORKER_COMMAND,
) -> Child:
    """Start a worker. It inherits stdin, stdout and stderr, and one end of the control channel; nothing else.

    Raises OSError when the process can not be started.
    """
    ours, theirs = socket.socketpair()
    # Blocked signals stay blocked over fork and exec: Ctrl-C can not hit the worker before it has learnt to ignore it.
    blocked = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        process = subprocess.Popen(  # noqa: ASYNC220 — fork and exec take a millisecond
            [*command, str(theirs.fileno()), str(os.getpid())], pass_fds=(theirs.fileno(),), close_fds=True
        )
    except OSError:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    child = Child(process.pid, process.wait)
    await child.attach(ours, on_news, on_exit)
    return child


async def fork(server: ForkServer, on_news: Callable[[Child, News], None], on_exit: Callable[[Child], None]) -> Child:
    """As `spawn`, by a fork server. Raises OSError when it gives none."""
    ours, theirs = socket.socketpair()
    try:
        pid = await server.fork(theirs)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    child = Child(pid, lambda: _exit_code(pid))
    await child.attach(ours, on_news, on_exit)
    return child


def _exit_code(pid: int) -> int:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return UNKNOWN_CODE  # somebody else in this process reaps all children


class Starter:
    """Starts workers: by a fork server, which is started with the first of them, or else by themselves.

    They are started by themselves by any other command than the usual one, and when there is no fork server to be had.
    """

    def __init__(self, command: Sequence[str] = WORKER_COMMAND) -> None:
        self._command = command
        self._server = ForkServer() if tuple(command) == WORKER_COMMAND else None
        self.closed = False

    async def start(self, on_news: Callable[[Child, News], None], on_exit: Callable[[Child], None]) -> Child:
        """A new worker. Raises OSError when none can be started, and once it is closed."""
        if self.closed:
            raise OSError("No more workers are started.")
        if self._server is not None:
            try:
                if not self._server.running:
                    self._server.start()
                return await fork(self._server, on_news, on_exit)
            except OSError as error:
                if self.closed:
                    raise
                log.warning("Worker starts by itself", message=str(error))
        return await spawn(on_news, on_exit, self._command)

    def close(self) -> None:
        """No more workers; whoever waits for one gets an OSError."""
        self.closed = True
        if self._server is not None:
            self._server.close()

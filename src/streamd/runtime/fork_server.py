"""The fork server: a process with everything imported that becomes workers, in milliseconds instead of half a second.

    python -m streamd.runtime.fork_server FD SUPERVISOR_PID MODULE…

For each file descriptor that the supervisor sends over the socket `FD`, a worker is forked that serves it, and the
worker's pid is sent back. It is forked twice, so that it becomes a child of the supervisor (which makes itself the
reaper of orphans meanwhile): it ends with the supervisor, whatever becomes of this process.

Invariant: no thread and no event loop ever exists here, and nothing is open but what the supervisor gave.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from streamd.errors import ConfigError, StreamdError
from streamd.runtime.environment import refuse_untested
from streamd.runtime.host import EngineHost
from streamd.runtime.worker import die_with, serve

PID = struct.Struct("=i")
FAILED = -1
# Where /proc/self/stat says from where to where the arguments lie, counted behind the command's name.
_ARGUMENTS_START, _ARGUMENTS_END = 45, 46


def main() -> None:
    try:
        refuse_untested()
    except ConfigError as error:
        sys.exit(f"error: {error}")
    end = socket.socket(fileno=int(sys.argv[1]))
    end.set_inheritable(False)
    supervisor = int(sys.argv[2])
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    die_with(supervisor)
    preload(sys.argv[3:])
    # What exists now is shared by all workers: a collector that looked at it would copy it page by page.
    gc.collect()
    gc.freeze()
    run(end, supervisor)


def preload(modules: Sequence[str]) -> None:
    """Import what workers will need. One that cannot be imported is left to the worker, which can say what for."""
    for module in modules:
        with contextlib.suppress(ImportError, StreamdError):
            importlib.import_module(module)


def run(end: socket.socket, supervisor: int) -> None:
    """Fork a worker for each descriptor that comes, until the supervisor closes the socket."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(end, 1, 1)
        if not message:
            return
        for descriptor in descriptors:
            try:
                pid = fork_worker(end, descriptor, supervisor)
            except OSError:  # no process, or no memory for one: the supervisor tries again later
                pid = FAILED
            os.close(descriptor)
            end.sendall(PID.pack(pid))


def fork_worker(end: socket.socket, descriptor: int, supervisor: int) -> int:
    """Returns the pid of a worker that serves `descriptor`, once it is a child of the supervisor. Raises OSError."""
    answers, answer = os.pipe()
    gate, opener = os.pipe()
    try:
        between = os.fork()
        if between == 0:
            os.close(answers)
            _fork_again(end, descriptor, supervisor, answer, gate, opener)
        os.close(answer)
        answer = -1
        os.waitpid(between, 0)
        # It has ended, so its child belongs to the supervisor by now, and may go on.
        told = os.read(answers, PID.size)
        if len(told) < PID.size:
            raise OSError("The worker could not be forked.")
        with contextlib.suppress(BrokenPipeError):  # killed already
            os.write(opener, b"1")
        return int(PID.unpack(told)[0])
    finally:
        for pipe in (answers, answer, gate, opener):
            if pipe >= 0:
                os.close(pipe)


def _fork_again(end: socket.socket, descriptor: int, supervisor: int, answer: int, gate: int, opener: int) -> NoReturn:
    try:
        worker = os.fork()
        if worker == 0:
            os.close(answer)
            os.close(opener)
            os.read(gate, 1)
            os.close(gate)
            end.close()
            _work(descriptor, supervisor)
        os.write(answer, PID.pack(worker))
    finally:
        os._exit(0)


def _work(descriptor: int, supervisor: int) -> NoReturn:
    """Be a worker, as if it had been started by itself."""
    code = 1
    try:
        sys.argv[1:] = [str(descriptor), str(supervisor)]
        _rename(f"{sys.executable}\0-m\0streamd.runtime.worker\0{descriptor}\0{supervisor}\0")
        serve(descriptor, supervisor, EngineHost)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _rename(command: str) -> None:
    """Show the worker's command, and not the fork server's, in lists of processes."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        start, end = int(fields[_ARGUMENTS_START]), int(fields[_ARGUMENTS_END])
        # The last byte stays zero: that is how the kernel sees that nothing was written beyond.
        ctypes.memmove(start, command.encode()[: end - start - 1].ljust(end - start, b"\0"), end - start)


if __name__ == "__main__":
    main()

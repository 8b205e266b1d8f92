"""Who runs here: the same in all processes of a node, another for each node."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from streamd.observability.identity import Identity, identity, running_here

TELL = "from streamd.observability import identity as i\n{}who = i.identity()\nprint(who.host, who.pid, who.since)"


def told(more: str = "") -> Identity:
    done = subprocess.run([sys.executable, "-c", TELL.format(more)], capture_output=True, text=True, check=True)
    host, pid, since = done.stdout.split()
    return Identity(host, int(pid), int(since))


def test_a_worker_is_its_supervisor() -> None:
    mine = identity()
    assert (mine.host, mine.pid) == (socket.gethostname(), os.getpid())
    assert told(f"i.adopt({os.getpid()})\n").same(mine)
    assert not told().same(mine)


def test_the_start_is_that_of_the_process() -> None:
    began = time.time()
    assert abs(told().since - began) < 30


def test_a_pid_that_came_again_is_another_node() -> None:
    first = Identity("a", 1, 1_700_000_000)
    assert not first.same(Identity("a", 1, 1_700_000_060))
    assert first.same(Identity("a", 1, 1_700_000_001)), "clocks are set now and then"
    assert not first.same(Identity("b", 1, 1_700_000_000))


def test_it_reads_well() -> None:
    assert str(Identity("a", 12, 1_700_000_000)) == "host a, pid 12, since 2023-11-14 22:13:20 UTC"
    assert Path("/proc/self/stat").exists(), "else the start is the time of the first question"


def test_who_runs_here_is_told_by_host_pid_and_start() -> None:
    here = identity()
    assert running_here(here)
    assert not running_here(Identity("elsewhere", here.pid, here.since))
    assert not running_here(Identity(here.host, here.pid, here.since - 3600)), "a pid that was given again"

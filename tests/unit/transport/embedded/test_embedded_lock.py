"""One deployment per pipeline and state folder."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streamd.errors import FatalError, NotFoundError
from streamd.observability.identity import identity
from streamd.transport.embedded.lock import hold, let_go, lock_path

HOLDER = """
import asyncio, sys
from pathlib import Path
from streamd.transport.embedded.lock import hold
asyncio.run(hold(Path(sys.argv[1]), "p"))
print("held", flush=True)
sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


async def test_the_second_is_told_who_is_first(tmp_path: Path) -> None:
    path = lock_path(tmp_path, "p")
    first = await asyncio.to_thread(holder, path)
    try:
        with pytest.raises(FatalError, match="Pipeline p already runs on this state_dir") as caught:
            await hold(path, "p", patience=0.2)
        here = identity()
        assert f"This one: {here}. The other: host {here.host}, pid {first.pid}, since " in str(caught.value)
    finally:
        end(first)


async def test_it_is_free_as_soon_as_its_holder_is_killed(tmp_path: Path) -> None:
    path = lock_path(tmp_path, "p")
    first = await asyncio.to_thread(holder, path)
    waiting = asyncio.create_task(hold(path, "p", patience=30))
    os.kill(first.pid, signal.SIGKILL)
    await asyncio.to_thread(first.communicate)
    await waiting
    let_go(path)


async def test_versions_of_a_pipeline_in_one_process_share_it(tmp_path: Path) -> None:
    path = lock_path(tmp_path, "p")
    await hold(path, "p")
    await hold(path, "p")
    let_go(path)
    with pytest.raises(subprocess.TimeoutExpired):
        await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.DEVNULL, timeout=1.5, check=True
        )
    let_go(path)
    end(await asyncio.to_thread(holder, path))
    let_go(path)  # of nobody: nothing happens


async def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="its folder does not exist"):
        await hold(lock_path(tmp_path / "none", "p"), "p")


@pytest.mark.parametrize("broken", [b"", b"no json", b"[]"])
async def test_a_lock_without_a_name_in_it_is_held_all_the_same(tmp_path: Path, broken: bytes) -> None:
    path = lock_path(tmp_path, "p")
    first = await asyncio.to_thread(holder, path)
    path.write_bytes(broken)
    try:
        with pytest.raises(FatalError, match="The other: unknown"):
            await hold(path, "p", patience=0.0)
    finally:
        end(first)

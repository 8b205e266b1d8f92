"""Disks that are full, files that cannot be written, readers that are gone: nothing is lost."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess

import pytest

from demo.daemon import Daemon
from demo.inline_app import InlineApp
from services.command import PROGRAM
from streamd.errors import StreamdError

COUNT = 20_000
COPY = "name: copy\nsource: {file: {path: in.ndjson}}\nstages:\n- filter: n % 2 == 0\nsink: {SINK}\n"
EVEN = list(range(0, COUNT, 2))


@pytest.fixture
def daemon(tmp_path):
    with (tmp_path / "in.ndjson").open("w") as file:
        file.writelines(json.dumps({"n": n, "pad": "x" * 60}) + "\n" for n in range(COUNT))

    def make(sink, *before):
        return Daemon(tmp_path, COPY.replace("{SINK}", f"{{{sink}}}"), "--until-idle", before=before)

    return make


def with_children(pid):
    """The processes below one, and itself."""
    found = [pid]
    for one in found:
        with open(f"/proc/{one}/task/{one}/children") as children:  # noqa: PTH123 - a file of the kernel's
            found += map(int, children.read().split())
    return found


def make_room(pid):
    for one in with_children(pid):
        resource.prlimit(one, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


# A file cannot grow beyond this size: for a program that is the same as a disk without room.
SMALL_DISK = ("prlimit", "--fsize=300000:unlimited")


async def _logged(daemon):
    app = InlineApp(daemon.folder / "state" / daemon.app)
    app._path = app.folder / f"{daemon.app}.db"
    return [v["n"] for v in await app.values("out")]


async def test_a_full_disk_under_the_embedded_log(daemon):
    with daemon("log: {topic: out}", *SMALL_DISK) as running:
        line = running.wait_lines("Task will be tried again", 2)[1]
        assert line["error"] == "TransientError"
        assert "cannot write" in line["message"]
        assert "nothing was lost, it" in line["message"]
        assert running.running
        make_room(running.process.pid)
        running.finishes()
    assert await _logged(running) == EVEN


def test_a_full_disk_under_a_file(daemon, tmp_path):
    with daemon("file: {path: out.ndjson}", *SMALL_DISK) as running:
        line = running.wait_lines("Task will be tried again", 2)[1]
        assert f"cannot write {tmp_path}/out.ndjson: " in line["message"]
        assert "nothing was lost, it goes on when there is room" in line["message"]
        assert running.running
        make_room(running.process.pid)
        running.finishes()
    assert [json.loads(line)["n"] for line in (tmp_path / "out.ndjson").read_text().splitlines()] == EVEN


def test_a_full_disk_while_files_are_rotated(daemon, tmp_path):
    sink = "file: {path: 'out.ndjson', rotate: {records: 3000}, batch: {max_bytes: 8KiB}}"
    with daemon(sink, "prlimit", "--fsize=100000:unlimited") as running:
        running.wait_lines("Task will be tried again", 2)
        make_room(running.process.pid)
        running.finishes()
    files = sorted(tmp_path.glob("out-*.ndjson"))
    assert [json.loads(line)["n"] for file in files for line in file.read_text().splitlines()] == EVEN


def test_a_file_that_may_not_be_written(daemon, tmp_path):
    """A folder stands where the file is to be: also root cannot write that."""
    out = tmp_path / "out.ndjson"
    out.mkdir()
    with daemon("file: {path: out.ndjson}") as running:
        assert running.ended() == 1
        assert f"{out}: " in running.text
        assert "Is a directory" in running.text
        out.rmdir()
        with running:
            running.finishes()
    assert [json.loads(line)["n"] for line in out.read_text().splitlines()] == EVEN


def test_a_read_only_file(daemon, tmp_path):
    out = tmp_path / "out.ndjson"
    out.touch()
    out.chmod(stat.S_IRUSR)
    # Without the capability that lets root write everything.
    before = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override") if os.geteuid() == 0 else ()
    with daemon("file: {path: out.ndjson}", *before) as running:
        assert running.ended() == 1
        assert f"cannot write {out}: Permission denied" in running.text, running.text
        out.chmod(stat.S_IRUSR | stat.S_IWUSR)
        with running:
            running.finishes()
    assert [json.loads(line)["n"] for line in out.read_text().splitlines()] == EVEN


def test_a_reader_of_stdout_that_is_gone(daemon, tmp_path):
    """As in `streamd run … | head -1`: it ends with a word, and what was not read is there the next time."""
    running = daemon("stdout: {}")
    command = [str(PROGRAM), "run", "p.yaml", "--config", "streamd.yaml", "--until-idle"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        first = json.loads(process.stdout.readline())
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(60) == 1
    assert first["n"] == 0
    assert "standard output was closed by its reader: nothing more can be written" in said
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    numbers = [json.loads(line)["n"] for line in done.stdout.splitlines()]
    # At least once: what was written and not committed comes again.
    assert numbers == EVEN[-len(numbers) :]
    assert running.folder == tmp_path


async def test_a_log_in_a_folder_that_is_gone_is_an_error(tmp_path):
    app = InlineApp(tmp_path / "gone")
    with pytest.raises(StreamdError, match="its folder does not exist"):
        await app.run("stages:\n- filter: n\n")

"""`streamd verify` without a server: what is exactly once passes, what is not fails and is named, nothing is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from services.command import PROGRAM, Ended, streamd
from services.process import REPOSITORY, wait_until

PIPELINES = REPOSITORY / "config" / "pipelines"
QUICK = ("dead-letters", "window-tumbling")
REST = sorted(path.stem for path in PIPELINES.glob("*.yaml") if path.stem not in QUICK and ".test" not in path.stem)
FEW = ("--kills", "3", "--records", "600", "--seconds", "60")
TIMES = {"stamp": "origin.time"}

# Both remember in memory alone: what they know is gone with their process.
OWN = """
class Count:
    def __init__(self):
        self.seen = 0

    def process(self, batch):
        for record in batch:
            self.seen += 1
            record.value["seen"] = self.seen
        return batch


class Once:
    def __init__(self):
        self.seen = set()

    def process(self, batch):
        fresh = [record for record in batch if record.value["user"] not in self.seen]
        self.seen |= {record.value["user"] for record in fresh}
        return [record for number, record in enumerate(fresh) if record.value["user"] not in
                {other.value["user"] for other in fresh[:number]}]
"""
PIPELINE = """
name: own
source:
  generate: {{fields: {{user: 'f"u{{_offset % 7}}"', number: _offset}}, partitions: 2, key: user}}
stages:
  - {stage}
sink: {{log: {{topic: out}}}}
"""


def verify(folder: Path, *arguments: object) -> Ended:
    """`streamd verify`, with scratch folders below `folder`."""
    scratch = folder / "tmp"
    scratch.mkdir(exist_ok=True)
    done = streamd("verify", *map(str, arguments), env={"TMPDIR": str(scratch)}, folder=folder, deadline=170)
    assert list(scratch.iterdir()) == [], done.all
    return done


def own(folder: Path, stage: str) -> Path:
    (folder / "own.py").write_text(OWN)
    file = folder / "own.yaml"
    file.write_text(PIPELINE.format(stage=stage))
    return file


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.campaign) for name in REST)])
def test_the_examples_are_exactly_once(tmp_path, name):
    ignored = ["--ignore-fields", TIMES[name]] if name in TIMES else []
    done = verify(tmp_path, PIPELINES / f"{name}.yaml", *FEW, *ignored, "--report", tmp_path / "report.json")
    assert done.code == 0, done.all
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["ok"], done.all
    assert sum(report["kills"].values()) + sum(report["not_reached"].values()) >= 3, done.all
    assert all(output["records"] for output in report["outputs"]), done.all


@pytest.mark.parametrize(
    ("stage", "word"),
    [pytest.param("Count", "changed in seen", marks=pytest.mark.campaign), ("Once", "too many")],
    ids=["counts", "leaves-out"],
)
def test_a_stage_that_forgets_with_its_process_is_found(tmp_path, stage, word):
    done = verify(tmp_path, own(tmp_path, f'python: {{class: "own:{stage}"}}'), *FEW, "--report", tmp_path / "r.md")
    assert done.code == 1, done.all
    assert "FAILED" in done.out
    assert word in done.out, done.all
    assert "# streamd verify own: failed" in (tmp_path / "r.md").read_text()


def test_a_pipeline_that_differs_by_itself_is_refused_and_its_fields_are_named(tmp_path):
    done = verify(tmp_path, own(tmp_path, "set: {at: now(), id: uuid()}"), *FEW)
    assert done.code == 2, done.all
    assert "--ignore-fields at,id" in done.err, done.all


def test_a_pipeline_that_fails_by_itself_says_why(tmp_path):
    done = verify(tmp_path, own(tmp_path, "set: {half: user / 2}"), *FEW)
    assert done.code == 2, done.all
    assert "fails without any kill" in done.err
    assert "'set'" in done.err, done.all


def test_a_pipeline_whose_workers_die_by_themselves_is_not_waited_for(tmp_path):
    (tmp_path / "leave.py").write_text("import os\n\n\ndef leave(batch):\n    os._exit(3)\n")
    done = verify(tmp_path, own(tmp_path, 'python: {class: "leave:leave"}'), *FEW)
    assert done.code == 2, done.all
    said = r"die by themselves: \d+ times without any progress, the last with exit code 3"
    assert re.search(said, done.err), done.all


def test_what_cannot_be_verified_is_refused_before_anything_runs(tmp_path):
    own(tmp_path, "filter: number > 1")
    same = tmp_path / "same.yaml"
    same.write_text("name: same\nsource: {log: {topic: a}}\nsink: {log: {topic: a}}\n")
    assert "reads itself" in verify(tmp_path, same).err
    assert "--report" in verify(tmp_path, tmp_path / "own.yaml", "--report", "r.txt").err
    (tmp_path / "r.json").mkdir()
    assert "Is a directory" in verify(tmp_path, tmp_path / "own.yaml", "--report", "r.json").err
    assert "--input" in verify(tmp_path, tmp_path / "own.yaml", "--input", "nowhere").err
    assert "`orders` and `refunds` have come beside each other" in verify(tmp_path, PIPELINES / "join-refunds.yaml").err
    assert "`emit: on_update`" in verify(tmp_path, PIPELINES / "aggregate-changes.yaml").err
    assert verify(tmp_path, tmp_path / "missing.yaml").code == 2


def test_input_of_the_users_own(tmp_path):
    (tmp_path / "events.ndjson").write_text("".join(f'{{"user": "u{n}", "number": {n}}}\n' for n in range(10)))
    file = own(tmp_path, "filter: number > 4")
    done = verify(tmp_path, file, "--kills", "0", "--records", "200", "--input", "events.ndjson", "--report", "r.json")
    assert done.code == 0, done.all
    [output] = json.loads((tmp_path / "r.json").read_text())["outputs"]
    assert output["records"] == 100


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.campaign)], ids=["ctrl-c", "term"]
)
def test_an_interrupt_leaves_neither_files_nor_processes(tmp_path, number):
    file = own(tmp_path, "filter: number > 1")
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    command = [str(PROGRAM), "verify", str(file), "--kills", "500"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE) as process:
        wait_until(lambda: daemons(tmp_path) != [], "a node runs", 60)
        process.send_signal(number)
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert b"interrupted" in process.stderr.read()
    assert list((tmp_path / "tmp").iterdir()) == []
    wait_until(lambda: daemons(tmp_path) == [], "the nodes have ended", 10)


def test_the_next_one_deletes_what_one_that_was_killed_has_left(tmp_path):
    file = own(tmp_path, "filter: number > 4")
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    with subprocess.Popen([str(PROGRAM), "verify", str(file)], cwd=tmp_path, env=environment) as process:
        wait_until(lambda: daemons(tmp_path) != [], "a node runs", 60)
        process.kill()
    wait_until(lambda: daemons(tmp_path) == [], "the nodes have ended", 10)
    assert len(list((tmp_path / "tmp").iterdir())) == 1
    done = verify(tmp_path, file, "--kills", "0", "--records", "200")
    assert done.code == 0, done.all
    assert "Nothing was killed (--kills 0)" in done.out, done.all
    assert "Deleted what a killed verification had left: streamd-verify-" in done.out, done.all


def daemons(folder: Path) -> list[str]:
    """Processes that were started with a spec below the folder."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes() if process.name.isdecimal() else b""
        except OSError:
            continue
        if b"streamd.verify.daemon" in command and str(folder).encode() in command:
            found.append(process.name)
    return found

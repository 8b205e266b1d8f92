"""The command line, called in this process or as a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demo.command_line import Cli, Outcome, Process, Write
from services.command import streamd
from streamd.cli.main import run


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """`cli("validate", path)`: exit code, standard output and error of a command run in this process, in tmp_path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STREAMD_CONFIG", raising=False)

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["streamd", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            run()
        output = capfd.readouterr()
        code = caught.value.code
        return Outcome(code if isinstance(code, int) else 0, output.out, output.err)

    return call


@pytest.fixture
def process(tmp_path: Path) -> Process:
    """`process("run", path, FOO="bar")`: the same in a process of its own; keywords are environment variables."""

    def call(*arguments: object, python: tuple[str, ...] = (), stdin: str = "", **env: str) -> Outcome:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("STREAMD_")} | env
        done = subprocess.run(
            [sys.executable, *python, "-m", "streamd", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            input=stdin,
            timeout=120,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write("p.yaml", text)`: a file in tmp_path."""

    def write(name: str, text: str) -> Path:
        file = tmp_path / name
        file.write_text(text)
        return file

    return write


@pytest.fixture(scope="module")
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the module's pipelines FEED and SPEND have run to the end of their input, as SERVICE says."""
    folder, module = tmp_path_factory.mktemp("ran"), request.module
    for name, text in (("streamd.yaml", module.SERVICE), ("feed.yaml", module.FEED), ("spend.yaml", module.SPEND)):
        (folder / name).write_text(text)
    done = streamd("run", "feed.yaml", "spend.yaml", "--until-idle", folder=folder)
    assert done.code == 0, done.all
    return folder


@pytest.fixture
def spend(ran: Path, cli: Cli, tmp_path: Path) -> Path:
    """The file of SPEND in a copy of that folder."""
    shutil.copytree(ran, tmp_path, dirs_exist_ok=True)
    return tmp_path / "spend.yaml"

"""The command line, called in this process or as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from demo.command_line import Cli, Outcome, Process, Write
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

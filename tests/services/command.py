"""Runs streamd as a user does: as a program of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.process import REPOSITORY

PROGRAM = Path(sys.executable).with_name("streamd")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        """Everything printed, for the message of a failed assertion."""
        return f"exit code {self.code}\n--- stdout\n{self.out[-8000:]}\n--- stderr\n{self.err[-8000:]}"


def streamd(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    folder: Path = REPOSITORY,
    stdin: str = "",
    deadline: float = 120.0,
) -> Ended:
    """`streamd ARGUMENTS`, run to its end in `folder`; it is killed after `deadline` seconds (TimeoutExpired).

    No STREAMD_ variable of the caller gets through; `env` is laid over the others.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STREAMD_")}
    command = [str(PROGRAM), *map(str, arguments)]
    environment = {**inherited, **(env or {})}
    done = subprocess.run(
        command, cwd=folder, env=environment, input=stdin, capture_output=True, text=True, timeout=deadline, check=False
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def service_file(folder: Path, app: str, **options: str) -> Path:
    """A streamd.yaml for one test: state below `folder`, an app name of its own, a free port, no colours."""
    lines = [f"app: {app}", f"state_dir: {folder / 'state'}", "http: {port: 0}"]
    lines += [f"{name}: {value}" for name, value in options.items()]
    path = folder / "streamd.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path

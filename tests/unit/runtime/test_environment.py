"""Python without assertions, and another Kafka client than the tested one, are refused wherever streamd is started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamd.errors import ConfigError
from streamd.runtime.environment import TESTED_AIOKAFKA, check_environment

PIPELINE = "name: p\nsource: {file: {path: in.json}}\nsink: discard\n"
INLINE = """
import asyncio
from streamd.pipeline import Pipeline
asyncio.run(Pipeline("p", {"file": {"path": "in.json"}}, "discard").run())
"""
ENTRIES = {
    "the command": ["-m", "streamd", "run", "p.yaml"],
    "a worker": ["-m", "streamd.runtime.worker", "0", "0"],
    "the Python API": ["-c", INLINE],
}


def start(folder: Path, entry: str, *flags: str, **env: str) -> tuple[int, str]:
    (folder / "p.yaml").write_text(PIPELINE)
    (folder / "in.json").write_text("{}\n")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("STREAMD_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, *flags, *ENTRIES[entry]],
        capture_output=True, text=True, cwd=folder, env=inherited | env, stdin=subprocess.DEVNULL, timeout=60,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("how", ["-O", "PYTHONOPTIMIZE"])
def test_without_assertions_nothing_starts(tmp_path: Path, entry: str, how: str) -> None:
    """The Kafka client guards transactions with assert statements."""
    code, said = start(tmp_path, entry, "-O") if how == "-O" else start(tmp_path, entry, PYTHONOPTIMIZE="1")
    assert code == (2 if entry == "the command" else 1), said
    assert "python -O and PYTHONOPTIMIZE remove checks that the Kafka client relies on" in said


@pytest.mark.parametrize("entry", ENTRIES)
def test_another_kafka_client_is_refused(tmp_path: Path, entry: str) -> None:
    """As an installation would show it: the metadata of another version, found first."""
    fake = tmp_path / "site" / "aiokafka-0.99.0.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: aiokafka\nVersion: 0.99.0\n")
    code, said = start(tmp_path, entry, PYTHONPATH=str(fake.parent))
    assert code == (2 if entry == "the command" else 1), said
    assert f"aiokafka 0.99.0 is installed and streamd is tested with {TESTED_AIOKAFKA} only" in said
    assert f"pip install aiokafka=={TESTED_AIOKAFKA}" in said


def test_the_tested_client_and_none_at_all_are_fine() -> None:
    """Without any, Kafka pipelines say so themselves."""
    check_environment(optimised=False, aiokafka=TESTED_AIOKAFKA)
    check_environment(optimised=False, aiokafka=None)
    with pytest.raises(ConfigError, match=r"aiokafka 0\.99 is installed"):
        check_environment(optimised=False, aiokafka="0.99")

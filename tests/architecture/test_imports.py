"""Who may import whom: the contracts in pyproject.toml hold, and are not kept by exceptions."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_import_contracts_hold():
    # A process of its own: import-linter turns off every logger of the process that it runs in.
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_contracts_have_no_exceptions():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert len(settings["contracts"]) >= 3
    assert [contract["name"] for contract in settings["contracts"] if contract.get("ignore_imports")] == []


def test_every_package_has_a_layer():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]
    [layers] = [contract["layers"] for contract in settings["contracts"] if contract["type"] == "layers"]
    named = {name.strip().removeprefix("streamd.") for layer in layers for name in layer.split("|")}
    source = REPOSITORY / "src" / "streamd"
    found = {path.stem for path in source.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found - {"__init__", "__main__"} == named

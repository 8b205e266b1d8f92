"""Who may import whom: the contracts in pyproject.toml hold, and are not kept by exceptions."""

from __future__ import annotations

import tomllib
from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

REPOSITORY = Path(__file__).resolve().parents[2]


def test_import_contracts_hold(capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    status = lint_imports(config_filename="pyproject.toml", no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


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

"""`streamd` itself: help, unknown commands, exit codes."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

from demo.command_line import Cli, Process
from streamd.cli.main import COMMANDS


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_help_lists_every_command(cli: Cli, arguments: list[str]) -> None:
    """With one line each."""
    outcome = cli(*arguments)

    assert outcome.code == 0
    for name, summary in COMMANDS.items():
        assert name in outcome.out
        assert summary.split()[0] in outcome.out


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_line_of_help_is_that_of_the_command(cli: Cli, name: str) -> None:
    """It is said twice, so that help loads no command; this holds the two together."""
    command = importlib.import_module(f"streamd.cli.{name}").command

    assert inspect.getdoc(command).split("\n")[0] == COMMANDS[name]  # type: ignore[union-attr]
    outcome = cli(name, "--help")
    assert (outcome.code, COMMANDS[name].split(":")[0] in outcome.out) == (0, True)


def test_help_loads_no_command() -> None:
    """Neither models, nor YAML, nor clients: that is what makes it fast."""
    code = (
        "import sys; sys.argv = ['streamd', '--help']\n"
        "from streamd.cli.main import run\n"
        "try: run()\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'yaml', 'rich', 'aiokafka', 'aiohttp', 'uvloop', 'streamd.config', 'streamd.expr'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.endswith("loaded: []\n")


def test_without_a_command_there_is_help(cli: Cli) -> None:
    """And the exit code of a wrong command line."""
    outcome = cli()

    assert outcome.code == 2
    assert "Commands:" in outcome.out + outcome.err


@pytest.mark.parametrize(
    "arguments", [["nope"], ["run"], ["validate"], ["validate", "--nope", "x"], ["run", "x", "--workers", "0"]]
)
def test_a_wrong_command_line(cli: Cli, arguments: list[str]) -> None:
    """Exit code 2, and something to read."""
    outcome = cli(*arguments)

    assert outcome.code == 2
    assert "Error" in outcome.err


def test_version(cli: Cli) -> None:
    """Of streamd, Python and the Kafka client."""
    outcome = cli("version")

    assert outcome.code == 0
    assert outcome.out.startswith("streamd ")
    assert "aiokafka" in outcome.out


def test_python_minus_m(process: Process) -> None:
    """`python -m streamd` is the same."""
    assert process("version").out.startswith("streamd ")

"""`streamd`: finds the command, and turns what goes wrong into messages and exit codes.

Exit codes: 0 done, 1 something failed while running, 2 the configuration or the command line is wrong.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from streamd.errors import ConfigError, StreamdError

# {command: its first line of help}; the module is streamd.cli.NAME, its function `command`. Said here as well, so that
# `streamd --help` loads no command.
COMMANDS = {
    "run": "Run pipelines until they end, or until told to stop.",
    "validate": "Check pipelines without running them, and show every problem.",
    "doctor": "Check brokers, topics and this machine; find transactions that hang.",
    "inspect": "Look at a sample of a source: fields, types, nulls, examples, and what they could serve as.",
    "explain": "Show what a pipeline will do: graph, topics, keys, delivery, code.",
    "state": "Look at what pipelines remember, and make them forget it.",
    "dlq": "Look at dead letters, replay them, each exactly once, or purge them.",
    "replay": "Run a pipeline once more over past input, as an app of its own.",
    "verify": "Prove exactly-once on a pipeline: random kills, and a comparison with an undisturbed run.",
    "test": "Run the tests that lie beside pipelines, in memory and without any server.",
    "components": "Show the docs of sources, stages, sinks, formats and expression functions.",
    "schema": "Print the JSON Schema of a pipeline file, for editors.",
    "version": "Print the version of streamd and of what it runs on.",
}

FAILED = 1
WRONG_CONFIG = 2


class LazyGroup(TyperGroup):
    """The commands of `COMMANDS`, each imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"streamd.cli.{cmd_name}")
        if hasattr(module, "app"):  # one with commands of its own
            return typer.main.get_command(module.app)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(cmd_name)(module.command)
        return typer.main.get_command(single)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


# rich would cost three times what the rest of `--help` does.
app = typer.Typer(
    cls=LazyGroup,
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def streamd() -> None:
    """Stream processing from YAML: exactly once, on Kafka or on one machine without any server."""


def run() -> None:
    """The entry point of the `streamd` command. Raises SystemExit."""
    try:
        app()
    except ConfigError as error:
        from streamd.cli.problems import show_problems

        show_problems(error)
        sys.exit(WRONG_CONFIG)
    except StreamdError as error:
        typer.echo(f"{typer.style('error', fg='red', bold=True)}: {error}", err=True)
        sys.exit(FAILED)
    except BrokenPipeError:
        # The reader of our output has gone (`streamd components | head`): nothing is left to say.
        sys.stderr.close()
        sys.exit(FAILED)


if __name__ == "__main__":
    run()

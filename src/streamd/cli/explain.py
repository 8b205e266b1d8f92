"""`streamd explain`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from streamd.cli.compile_pipeline import load_and_compile
from streamd.cli.options import ConfigOption, SetOption, service_settings, variables
from streamd.errors import ConfigError
from streamd.observability import redact
from streamd.plan.explain import explain


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A pipeline file.", show_default=False)],
    code: Annotated[bool, typer.Option("--code", help="Show the generated code as well.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Show what a pipeline will do: graph, topics, keys, delivery, code."""
    env = variables(set_)
    compiled, shared = load_and_compile([file], env, service_settings(config, env))
    if shared and not compiled:
        raise ConfigError(f"{file} holds no pipeline; `streamd components --from {file}` lists what it offers")
    for index, (_, plan, chains) in enumerate(compiled):
        shown = redact.text(explain(plan, chains, code=code), limit=sys.maxsize)
        typer.echo(("\n" if index else "") + shown, nl=False)

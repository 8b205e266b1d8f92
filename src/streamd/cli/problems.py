"""Problems of a configuration, on a terminal."""

from __future__ import annotations

import re

import typer

from streamd.errors import ConfigError
from streamd.observability import redact

_HEAD = re.compile(r"(?P<place>\S.*?:\d+:\d+): (?P<error>error\[[a-z0-9-]+\]): (?P<message>.*)", re.DOTALL)
_CARET = re.compile(r"(\s*\|\s*)(\^+)")


def show_problems(error: ConfigError) -> None:
    """Print every problem with its lines to standard error, in colours on a terminal, and how many there are."""
    if not error.diagnostics:
        typer.echo(f"{_red('error')}: {redact.known(str(error))}", err=True)
        return
    for problem in error.diagnostics:
        render = getattr(problem, "render", None)
        shown = redact.known(str(problem) if render is None else render())
        typer.echo(_coloured(shown) + "\n", err=True)
    files = {getattr(getattr(problem, "place", None), "file", "") for problem in error.diagnostics}
    count = len(error.diagnostics)
    found = f"{count} problem{'s' if count > 1 else ''} in {len(files)} file{'s' if len(files) > 1 else ''}"
    typer.echo(f"{_red('error')}: {found}", err=True)


def _red(text: str) -> str:
    return typer.style(text, fg="red", bold=True)


def _coloured(text: str) -> str:
    # echo takes the colours out again where the output is no terminal.
    head, *lines = text.split("\n")
    match = _HEAD.fullmatch(head)
    if match is not None:
        head = f"{typer.style(match['place'], bold=True)}: {_red(match['error'])}: {match['message']}"
    return "\n".join([head, *(_CARET.sub(lambda m: m[1] + _red(m[2]), line) for line in lines)])

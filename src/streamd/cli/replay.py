"""`streamd replay`."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from streamd.cli.options import ConfigOption, SetOption, service_settings, variables, with_app
from streamd.cli.progress import show_progress
from streamd.cli.run import bars_for
from streamd.cli.summary import summary_lines
from streamd.cli.times import parse_moment
from streamd.component.registry import Registry
from streamd.config.load import load_pipelines
from streamd.errors import ConfigError
from streamd.observability import redact
from streamd.observability.logs import configure_logging
from streamd.observability.metrics import MetricSet
from streamd.replay.prepare import Prepared, Wishes, prepare
from streamd.replay.span import Point, Span, counted, read_offsets
from streamd.runtime.environment import refuse_untested
from streamd.supervisor.run import RunSummary, run_pipelines


def command(
    file: Annotated[Path, typer.Argument(metavar="PIPELINE", help="A pipeline file.", show_default=False)],
    start: Annotated[
        str,
        typer.Option(
            "--from",
            "-f",
            metavar="WHERE",
            help='Where to begin: earliest, a time (2026-01-31T12:00:00Z, "2h ago"), or offsets (120, or 0:120,1:98).',
            show_default=False,
        ),
    ],
    until: Annotated[
        str | None,
        typer.Option(
            "--until", "-u", metavar="WHERE", help="Where to end, likewise. Without it: where the input ends now."
        ),
    ] = None,
    app: Annotated[
        str | None,
        typer.Option(
            "--app", metavar="NAME", help="The replay's own app. Without it: the settings' own, and `-replay`."
        ),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            "--prefix",
            metavar="TEXT",
            help='Before the names of what it writes; "" for the live names. Without it: the app and a dot.',
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", "-w", min=1, max=512, help="Worker processes, instead of what the settings say."),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Run a pipeline once more over past input, as an app of its own.

    It begins with no state, reads from there to the present end of the input, and ends. The live pipeline may run
    meanwhile: nothing of its positions and its state is touched, and its outputs only with --prefix "".
    """
    refuse_untested()
    env = variables(set_)
    service = service_settings(config, env)
    if workers is not None:
        service = service.model_copy(update={"workers": workers})
    configs = load_pipelines([file], Registry.default(), env, service)
    if len(configs) != 1:
        raise ConfigError(f"expected one pipeline, {file} holds {len(configs)}")
    own = with_app(service, app or f"{service.app}-replay").app
    begin, end = point(start, "--from"), None if until is None else point(until, "--until")
    if end is not None and end.before(begin):
        raise ConfigError(f"--until {until} lies before --from {start}: there is nothing between")
    wishes = Wishes(
        begin,
        end,
        own,
        f"{own}." if prefix is None else prefix,
    )
    configure_logging(service.log.level, service.log.format)
    prepared = asyncio.run(prepare(configs[0], service, wishes, env))
    for line in described(prepared, configs[0].name, service.app):
        typer.echo(redact.text(line, limit=sys.maxsize), err=True)
    summary = _run(prepared, env)
    for line in summary_lines(summary):
        typer.echo(line, err=True)
    typer.echo(f"what it has committed is deleted by: streamd state reset {file} --app {own}", err=True)
    raise typer.Exit(summary.exit_code)


def point(text: str, option: str) -> Point:
    """A place in the input. Raises ConfigError."""
    if text.strip() == "earliest":
        return Point()
    offsets = read_offsets(text, option)
    if offsets is not None:
        return Point(offsets=offsets)
    return Point(ms=parse_moment(text, option, others="earliest, offsets like 120 or 0:120,1:98, or "))


def described(prepared: Prepared, name: str, live: str) -> list[str]:
    """What is read and written, for people."""
    lines = [f"replay of {name}, app {live}, as app {prepared.service.app}"]
    lines += [f"  reads   {kind} {what}{_extent(span)}" for kind, what, span in prepared.reads]
    lines += [f"  writes  {kind} {what}".rstrip() for kind, what in prepared.writes]
    return lines


def _extent(span: Span | None) -> str:
    if span is None:
        return ", all of it"
    shown = [f"[{partition}] {first} to {end}" for partition, (first, end) in sorted(span.items())]
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return f": {', '.join(shown[:8])}{more} ({counted(span):,} offsets)"


def _run(prepared: Prepared, env: dict[str, str]) -> RunSummary:
    metrics = MetricSet()
    configure_logging(prepared.service.log.level, prepared.service.log.format, metrics=metrics)
    with ExitStack() as stack:
        on_progress = None
        if sys.stderr.isatty():
            bars = bars_for([prepared.config], until_idle=True, to_terminal=sys.stdout.isatty())
            on_progress = stack.enter_context(show_progress(bars)) if bars else None
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        return runner.run(
            run_pipelines(
                [prepared.config], prepared.service, until_idle=True, env=env, on_progress=on_progress, metrics=metrics
            )
        )

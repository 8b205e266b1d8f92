"""`streamd run`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated

import typer

from streamd.api.options import ApiOptions
from streamd.cli.options import ConfigOption, Paths, SetOption, service_settings, variables
from streamd.cli.progress import show_progress
from streamd.cli.summary import summary_lines
from streamd.component.registry import Registry
from streamd.config.load import load_pipelines
from streamd.config.pipeline import PipelineConfig
from streamd.runtime.environment import refuse_untested
from streamd.supervisor.run import run_daemon


def command(
    paths: Paths,
    config: ConfigOption = None,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when everything that is there is read and committed.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option("--workers", "-w", min=1, max=512, help="Worker processes, instead of what the settings say."),
    ] = None,
    set_: SetOption = None,
) -> None:
    """Run pipelines until they end, or until told to stop.

    SIGTERM and Ctrl-C end in order: what is in flight is finished and committed. A second one ends at once.
    """
    refuse_untested()
    env = variables(set_)
    service = service_settings(config, env)
    ApiOptions.of(service.http).check()
    if workers is not None:
        service = service.model_copy(update={"workers": workers})
    with ExitStack() as stack:
        on_progress = None
        if sys.stderr.isatty():
            pipelines = load_pipelines(paths, Registry.default(), env, service)
            bars = bars_for(pipelines, until_idle, to_terminal=sys.stdout.isatty())
            on_progress = stack.enter_context(show_progress(bars)) if bars else None
        summary = run_daemon(paths, service, until_idle=until_idle, env=env, on_progress=on_progress)
    for line in summary_lines(summary):
        typer.echo(line, err=True)
    raise typer.Exit(summary.exit_code)


def bars_for(pipelines: Sequence[PipelineConfig], until_idle: bool, to_terminal: bool) -> list[str]:
    """The pipelines that get a progress bar: those whose input ends; none when records are printed in between."""
    if to_terminal and any(sink.name == "stdout" for p in pipelines for sink in (*p.sinks, *p.dead_letters)):
        return []
    return [p.name for p in pipelines if until_idle or all(s.spec.bounded(s.settings) for s in p.sources)]

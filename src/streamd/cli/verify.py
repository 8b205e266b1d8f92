"""`streamd verify`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from streamd.cli.compile_pipeline import load_and_compile
from streamd.cli.options import ConfigOption, SetOption, service_file, service_settings, variables
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError, StreamdError
from streamd.observability.logs import configure_logging
from streamd.runtime.environment import refuse_untested
from streamd.verify import report as reports
from streamd.verify.prepare import Wishes
from streamd.verify.run import Plan, verify

DIFFERENT, COULD_NOT_RUN, INTERRUPTED = 1, 2, 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def command(
    file: Annotated[Path, typer.Argument(metavar="PIPELINE", help="A pipeline file.", show_default=False)],
    kills: Annotated[int, typer.Option("--kills", "-k", min=0, max=10_000, help="How many processes to kill.")] = 50,
    seconds: Annotated[
        float, typer.Option("--seconds", min=1, help="How long to go on killing, at most; then what is left is read.")
    ] = 120.0,
    records: Annotated[
        int | None,
        typer.Option("--records", "-n", min=1, help="Input records; without it some hundreds for each kill."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="What the made-up input and the order of kills depend on.")] = 1,
    input_: Annotated[
        Path | None,
        typer.Option("--input", "-i", metavar="FILE", help="Take the input from a file, a record on each line."),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=1, help="Take the input from the first records of the pipeline's own sources."),
    ] = None,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Without Kafka: its topics become topics of the embedded log.")
    ] = False,
    ignore_fields: Annotated[
        str, typer.Option("--ignore-fields", metavar="A,B.C", help="Fields of the output not to compare.")
    ] = "",
    report: Annotated[
        Path | None, typer.Option("--report", "-r", metavar="FILE", help="Write the report as .json or .md as well.")
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Prove exactly-once on a pipeline: random kills, and a comparison with an undisturbed run.

    Workers and nodes are killed while records flow, and every record of the output is compared. It runs on a scratch of
    its own: topics and groups of other names, which are deleted afterwards, also after Ctrl-C.
    Of yours nothing is written. Exit code 0: the same output, 1: a record of it is lost, duplicated, reordered or
    changed, or the pipeline does not go on after a kill, 2: it could not be run (configuration, Kafka not reachable, or
    gone in the middle), 130: interrupted.
    """
    refuse_untested()
    if report is not None:
        reports.check_file(report)
    if input_ is not None and sample is not None:
        raise ConfigError("--input and --sample both say where the input comes from; give one of them")
    env = variables(set_)
    service = service_settings(config, env)
    compiled, _ = load_and_compile([file], env, service)
    if len(compiled) != 1:
        raise ConfigError(f"streamd verify takes one pipeline, {file} holds {len(compiled)}")
    [(pipeline, plan, _)] = compiled
    ignored = tuple(name.strip() for name in ignore_fields.split(",") if name.strip())
    wishes = Wishes(embedded, seed, input_, sample)
    asked = Plan(service_file(config), env, wishes, kills, seconds, records, ignored)
    _quiet(service)
    line = _Line(pipeline.name)
    found = _run(verify(pipeline, plan, service, asked, line.show, line.left.extend), line)
    for shown in reports.text(found):
        typer.echo(shown)
    typer.echo("")
    colour, word = ("green", "OK") if found.ok else ("red", "FAILED")
    typer.echo(f"{typer.style(word, fg=colour, bold=True)}: {found.result}")
    if report is not None:
        reports.write(found, report)
        typer.echo(f"report: {report}", err=True)
    raise typer.Exit(0 if found.ok else DIFFERENT)


def _run(work: Coroutine[Any, Any, reports.Report], line: _Line) -> reports.Report:
    """The report. Ends the program with another code than that of a difference when there is none."""
    began = time.monotonic()
    try:
        return asyncio.run(_interruptible(work, line))
    except asyncio.CancelledError:
        line.clear()
        scratch = "not all of the scratch is" if line.left else "the scratch is"
        typer.echo(f"interrupted after {time.monotonic() - began:.0f} s; {scratch} deleted", err=True)
        code = INTERRUPTED
    except ConfigError:
        raise
    except (StreamdError, OSError, sqlite3.Error) as error:
        line.clear()
        typer.echo(f"{typer.style('error', fg='red', bold=True)}: {error}", err=True)
        code = COULD_NOT_RUN
    except Exception:
        line.clear()
        traceback.print_exc()
        code = COULD_NOT_RUN
    finally:
        line.clear()
    for left in line.left:
        typer.echo(left, err=True)
    raise typer.Exit(code)


def _quiet(service: ServiceConfig) -> None:
    """Warnings only, and nothing of the Kafka client's, which narrates each try: what it means is said at the end."""
    level = service.log.level
    configure_logging("warning" if level == "info" else level, service.log.format)
    if level != "debug":
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


async def _interruptible(work: Coroutine[Any, Any, reports.Report], line: _Line) -> reports.Report:
    """The work, cancelled by Ctrl-C and SIGTERM, once: it then cleans up, which a second one does not stop."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        for number in SIGNALS:
            loop.add_signal_handler(number, lambda: None)
        task.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal)
    ticking = asyncio.create_task(line.tick())
    try:
        return await work
    finally:
        ticking.cancel()


class _Line:
    """One line on the terminal that says what goes on; nothing where standard error is none.

    `left`: lines about what could not be deleted, for the end.
    """

    def __init__(self, pipeline: str) -> None:
        self._pipeline = pipeline
        self._began = time.monotonic()
        self._shown = False
        self._doing = "starting"
        self.left: list[str] = []

    async def tick(self) -> None:
        """Show the time go by."""
        while True:
            self.show(self._doing)
            await asyncio.sleep(1.0)

    def show(self, doing: str) -> None:
        """Replace the line."""
        self._doing = doing
        if sys.stderr.isatty():
            seconds = int(time.monotonic() - self._began)
            sys.stderr.write(f"\r\x1b[K{self._pipeline}  {doing}  {seconds // 60}:{seconds % 60:02}")
            sys.stderr.flush()
            self._shown = True

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False

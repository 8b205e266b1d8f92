"""`streamd test`."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Annotated

import typer
import yaml

from streamd.cli.options import ConfigOption, SetOption, service_settings, variables
from streamd.cli.problems import show_problems
from streamd.config.diagnostics import config_error
from streamd.observability import redact
from streamd.observability.logs import configure_logging
from streamd.runtime.environment import refuse_untested
from streamd.testing.junit import write_junit
from streamd.testing.run_case import Problem, Result
from streamd.testing.session import FileResult, Session, find_files
from streamd.testing.show import failure_lines
from streamd.testing.update import updated

FAILED, COULD_NOT_RUN = 1, 2


def command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]…",
            help="Test files, pipelines with one beside them, or folders, with all below. Without: this folder.",
            show_default=False,
        ),
    ] = None,
    only: Annotated[
        str, typer.Option("-k", metavar="NAME", help="Only cases with this in their name, or in their file's.")
    ] = "",
    update: Annotated[
        bool, typer.Option("--update", help="Write what came into the files, where it is not what they expect.")
    ] = False,
    crash: Annotated[
        bool,
        typer.Option("--crash", help="Kill the tasks in each step, before it is committed, and after it as well."),
    ] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", "-x", help="Stop at the first case that fails.")] = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write the results as JUnit XML as well.")
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Run the tests that lie beside pipelines, in memory and without any server.

    NAME.test.yaml has cases for NAME.yaml: input records, and the output that is expected of them. Each runs the
    pipeline as it is, but that its sources and sinks are in memory and time stands still. Exit code 0: all passed, 1: a
    case failed, 2: a file or a pipeline is wrong, or there is nothing to test.
    """
    refuse_untested()
    configure_logging("error", "console")
    env = variables(set_)
    given = {name: env[name] for name in (assignment.partition("=")[0] for assignment in set_ or ())}
    # Sources and sinks of Kafka ask for some cluster; nobody connects to it.
    service = service_settings(config, env).model_copy(update={"kafka": object()})
    files, missing = find_files(paths or [Path()])
    session = Session(service, given, only, crash, fail_fast)
    shown = _Shown(update=update)
    for result in session.run(files):
        shown.add(result)
    if junit is not None:
        write_junit(shown.results, junit)
    if missing:
        show_problems(config_error(missing))
    raise typer.Exit(shown.summary(wrong=bool(missing)))


class _Shown:
    """What is printed, file by file."""

    def __init__(self, *, update: bool) -> None:
        self._update = update
        self.results: list[FileResult] = []
        self._updated = 0

    def add(self, result: FileResult) -> None:
        """Print one file's cases, and write down what came."""
        self.results.append(result)
        if result.problems:
            _mark("ERROR", "red", str(result.path))
            show_problems(config_error(result.problems))
            return
        if self._update and not result.ok and result.file is not None:
            self._write_down(result, *updated(result.file, result.results))
        passed = sum(1 for case in result.results if case.ok)
        seconds = sum(case.seconds for case in result.results)
        if passed == len(result.results) and result.results:
            _mark("PASS", "green", f"{result.path}  {_count(passed, 'case')}, {seconds * 1000:.0f} ms")
        for case in result.results:
            if not case.ok:
                self._failed(result, case)

    def _write_down(self, result: FileResult, text: str, left: list[Problem]) -> None:
        assert result.file is not None
        if not _is_yaml(text):
            help_ = "write `expect:` in a line of its own, with nothing behind it and no braces around it"
            _mark("ERROR", "red", f"{result.path}  what came does not fit in there, and nothing was written: {help_}")
            return
        if text != result.file.document.source.text:
            result.path.write_text(text, encoding="utf-8")
            self._updated += 1
            _mark("WRITTEN", "yellow", str(result.path))
        for case in result.results:
            case.problems = [problem for problem in case.problems if any(problem is one for one in left)]

    def _failed(self, result: FileResult, case: Result) -> None:
        assert result.file is not None
        _mark("FAIL", "red", f"{result.path}  {typer.style(case.case.name, bold=True)}")
        for line in failure_lines(case, result.file.document.source, _paint):
            typer.echo(redact.known(line))
        if case.unexpected is not None:
            typer.echo("".join(traceback.format_exception(case.unexpected)), err=True)
        typer.echo("")

    def summary(self, *, wrong: bool) -> int:
        """Print it; the exit code."""
        cases = [case for result in self.results for case in result.results]
        failed = sum(1 for case in cases if not case.ok)
        broken = sum(1 for result in self.results if result.problems)
        parts = [f"{_count(len(cases) - failed, 'case')} passed"] if len(cases) > failed else []
        parts += [typer.style(f"{failed} failed", fg="red", bold=True)] if failed else []
        broken_text = f"{_count(broken, 'file')} could not be run"
        parts += [typer.style(broken_text, fg="red", bold=True)] if broken else []
        parts += [f"{_count(self._updated, 'file')} written"] if self._updated else []
        left_out = sum(result.left_out for result in self.results)
        parts += [f"{left_out} left out"] if left_out else []
        if not cases and not broken and not wrong:
            parts.insert(0, typer.style("nothing was run", fg="red", bold=True))
            wrong = True
        seconds = sum(case.seconds for case in cases)
        if parts:
            typer.echo(f"{', '.join(parts)} in {seconds:.2f} s")
        return COULD_NOT_RUN if broken or wrong else FAILED if failed else 0


def _mark(word: str, colour: str, text: str) -> None:
    typer.echo(f"{typer.style(word, fg=colour, bold=True)} {text}")


def _paint(text: str, colour: str) -> str:
    if colour in ("bold", "dim"):
        return typer.style(text, bold=colour == "bold" or None, dim=colour == "dim" or None)
    return typer.style(text, fg=colour)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _is_yaml(text: str) -> bool:
    try:
        yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return False
    return True

"""`streamd state`: what pipelines remember, looked at from outside, and forgotten."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeAlias, TypeVar

import orjson
import typer

from streamd.cli.options import ConfigOption, Paths, SetOption, service_settings, variables, with_app
from streamd.cli.times import ago, moment
from streamd.component.registry import Registry
from streamd.component.stored import StoreId
from streamd.config.load import load_pipelines
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError
from streamd.observability import redact
from streamd.plan.graph import PipelinePlan, build_plan
from streamd.state.entries import Entry, Wanted, key_text, names_meant
from streamd.state.survey import StoreSize, Survey, TableSize, surveyed

T = TypeVar("T")

app = typer.Typer(name="state", add_completion=False, rich_markup_mode=None, no_args_is_help=True)

File: TypeAlias = Annotated[Path, typer.Argument(metavar="PIPELINE", help="A pipeline file.", show_default=False)]
Stage: TypeAlias = Annotated[str, typer.Argument(metavar="STAGE", help="The stage's id.", show_default=False)]
AppOption: TypeAlias = Annotated[
    str | None, typer.Option("--app", help="Of this app, instead of the settings' own.", show_default=False)
]
TableOption: TypeAlias = Annotated[
    str | None, typer.Option("--table", "-t", help="Only this table of the stage.", show_default=False)
]
PrefixOption: TypeAlias = Annotated[
    str, typer.Option("--prefix", "-p", metavar="TEXT", help="Only keys that begin so.", show_default=False)
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def command() -> None:
    """Look at what pipelines remember, and make them forget it."""


@app.command("ls")
def list_(
    paths: Paths,
    as_json: JsonOption = False,
    app: AppOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """List what the stages of pipelines remember: tables, tasks, keys, bytes, checkpoints, changelogs.

    Reads what is committed, all of it, and changes nothing; a pipeline may run meanwhile.
    """
    found = [(one, _run(_sizes(one))) for one in _all(paths, config, set_, app)]
    if as_json:
        _print_json([_as_json(one.plan, size) for one, sizes in found for size in sizes])
        return
    for index, (one, sizes) in enumerate(found):
        _print(("\n" if index else "") + one.name)
        for line in _listed(sizes):
            _print(f"  {line}")
        if not sizes:
            _print("  remembers nothing")


@app.command("show")
def show(
    file: File,
    stage: Stage,
    key: Annotated[
        str | None,
        typer.Argument(
            metavar="KEY", help='A key: text as it is, or JSON, as 7 or ["eu", "shoes"].', show_default=False
        ),
    ] = None,
    prefix: PrefixOption = "",
    table: TableOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Show so many keys at most.")] = 20,
    as_json: JsonOption = False,
    app: AppOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Show what a stage remembers of a key, in all its tables; without a key, of the first ones.

    Values are shown as they are kept, and as they are committed now. Exit code 1 when there is no such key.
    """
    one = _one(file, config, set_, app)
    wanted = Wanted(None if key is None else names_meant(key), prefix, table)
    found, more = _run(_first(one, stage, wanted, sys.maxsize if key is not None else limit))
    if as_json:
        _print_json([_entry_as_json(*entry) for entry in found])
    elif found:
        for line in columns([("task", "table", "time", "key", "value"), *(_entry_row(*entry) for entry in found)]):
            _print(line)
    if more:
        typer.echo(f"… and more; --limit shows more of them, `streamd state export {file} {stage}` all", err=True)
    if not found:
        what = "remembers nothing" if key is None and not prefix and table is None else "remembers nothing of that"
        typer.echo(f"stage {stage} of {one.plan.name} {what}", err=True)
        raise typer.Exit(1)


@app.command("export")
def export(
    file: File,
    stage: Stage,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write this file, not standard output.", show_default=False),
    ] = None,
    prefix: PrefixOption = "",
    table: TableOption = None,
    app: AppOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Write all that a stage remembers as JSON, a key on each line: task, table, time, key, value.

    As it is committed now, task after task. The file appears under its name when it is complete.
    """
    one = _one(file, config, set_, app)
    if out is None:
        count = _run(_export(one, stage, Wanted(None, prefix, table), sys.stdout.buffer))
    else:
        partial = out.with_name(f".{out.name}.partial")
        try:
            with partial.open("wb") as stream:
                count = _run(_export(one, stage, Wanted(None, prefix, table), stream))
            partial.replace(out)
        except OSError as error:
            raise ConfigError(f"--out: cannot write {out}: {error.strerror}") from None
        finally:
            partial.unlink(missing_ok=True)
    typer.echo(f"{count:,} key{'s'[: count != 1]}", err=True)


@app.command("reset")
def reset(
    file: File,
    stage: Annotated[
        str | None,
        typer.Argument(metavar="STAGE", help="Only what this stage remembers; positions stay.", show_default=False),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    app: AppOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Delete what a stopped pipeline remembers, and its positions: it begins anew, as one that never ran.

    It says what it deletes, and asks. Outputs stay as they are; what is read again is written again. With STAGE the
    positions stay: the pipeline goes on where it is, and that stage begins with nothing.
    """
    _run(_reset(_one(file, config, set_, app), stage, yes))


@dataclass(frozen=True, slots=True)
class _Target:
    """A pipeline as it is asked about. `named`: whether it is the settings' own app, and not one of a replay."""

    plan: PipelinePlan
    service: ServiceConfig
    named: bool

    @property
    def name(self) -> str:
        return f"{self.plan.name}, app {self.service.app}"

    def survey(self) -> AbstractAsyncContextManager[Survey]:
        return surveyed(self.plan, self.service, named=self.named)


def _all(paths: list[Path], config: Path | None, set_: list[str] | None, app: str | None) -> list[_Target]:
    env = variables(set_)
    own = service_settings(config, env)
    service = own if app is None else with_app(own, app)
    found = load_pipelines(paths, Registry.default(), env, service)
    return [_Target(build_plan(one, service.app), service, service.app == own.app) for one in found]


def _one(file: Path, config: Path | None, set_: list[str] | None, app: str | None) -> _Target:
    found = _all([file], config, set_, app)
    if len(found) != 1:
        raise ConfigError(f"expected one pipeline, {file} holds {len(found)}")
    return found[0]


def _run(work: Awaitable[T]) -> T:
    async def run() -> T:
        return await work

    return asyncio.run(run())


async def _sizes(one: _Target) -> list[StoreSize]:
    async with one.survey() as survey:
        return [size async for size in survey.sizes()]


@asynccontextmanager
async def _of_stage(one: _Target, stage: str | None) -> AsyncIterator[Survey]:
    """The state of a pipeline that has, or had, such a stage."""
    async with one.survey() as survey:
        if stage is not None and stage not in (known := await survey.stages()):
            raise ConfigError(
                f"pipeline {one.plan.name} has no stage {stage!r} that remembers anything; it has: "
                f"{', '.join(known) or 'none'}"
            )
        yield survey


async def _first(one: _Target, stage: str, wanted: Wanted, limit: int) -> tuple[list[tuple[StoreId, Entry, Any]], bool]:
    """The first entries, and whether there are more."""
    found: list[tuple[StoreId, Entry, Any]] = []
    async with _of_stage(one, stage) as survey:
        async for entry in survey.entries(stage, wanted):
            if len(found) == limit:
                return found, True
            found.append(entry)
    return found, False


async def _export(one: _Target, stage: str, wanted: Wanted, out: BinaryIO) -> int:
    count = 0
    async with _of_stage(one, stage) as survey:
        async for entry in survey.entries(stage, wanted):
            out.write(orjson.dumps(_entry_as_json(*entry), option=orjson.OPT_APPEND_NEWLINE))
            count += 1
    out.flush()
    return count


async def _reset(one: _Target, stage: str | None, yes: bool) -> None:
    async with _of_stage(one, stage) as survey, survey.stopped():
        found = await survey.forgotten(stage)
        if not found:
            _print(f"{one.name}: there is nothing to delete")
            return
        what = "all that is committed" if stage is None else f"what stage {stage} remembers"
        _print(f"{one.name}: this deletes {what}")
        for line in columns([(part.kind, part.name, part.what) for part in found]):
            _print(f"  {line}")
        _print(_meaning(stage))
        if not yes:
            _confirm()
        await survey.forget(stage)
        _print("deleted")


def _meaning(stage: str | None) -> str:
    if stage is not None:
        return "The pipeline goes on where it is; of what that stage has seen before, nothing counts any more."
    return (
        "When it is started again, it reads its input from the beginning (`start` of its sources), and writes again "
        "what comes of that; what its outputs hold already stays there."
    )


def _confirm() -> None:
    if not sys.stdin.isatty():
        raise ConfigError("nobody can be asked here, and nothing was deleted; say --yes")
    typer.confirm("Delete it?", abort=True)


def _listed(sizes: list[StoreSize]) -> Iterator[str]:
    rows: list[tuple[str, ...]] = []
    for size in sizes:
        checkpoint = "none" if size.checkpoint is None else f"{size.checkpoint:,}"
        at = size.changed_ms
        changed = "" if at is None else f"{moment(at - at % 1000)} ({ago(at)})"
        stage = size.store.stage if size.known else f"{size.store.stage} (not in the pipeline)"
        for name, table in sorted(size.tables.items()) or [("", TableSize())]:
            times = f"{len(table.times):,}" if table.times else ""
            keys, volume = f"{table.keys:,}", _volume(table.bytes)
            rows.append((stage, name, size.store.task, keys, times, volume, checkpoint, changed, size.where))
    if rows:
        head = ("stage", "table", "task", "keys", "times", "size", "checkpoint", "last change", "changelog")
        yield from columns([head, *rows], right=frozenset({3, 4, 5, 6}))


def _as_json(plan: PipelinePlan, size: StoreSize) -> dict[str, Any]:
    return {
        "pipeline": plan.name,
        "stage": size.store.stage,
        "in_pipeline": size.known,
        "part": None if size.store.part < 0 else size.store.part,
        "partition": size.store.partition,
        "tables": {
            name: {"keys": table.keys, "bytes": table.bytes, "times": len(table.times)}
            for name, table in sorted(size.tables.items())
        },
        "checkpoint": size.checkpoint,
        "changed_at": size.changed_ms,
        "changelog": size.where,
    }


def _entry_as_json(store: StoreId, entry: Entry, value: Any) -> dict[str, Any]:
    found = {"task": store.task, "table": entry.table, "time": entry.time, "key": entry.key, "value": value}
    if entry.time is None:
        del found["time"]
    return found


def _entry_row(store: StoreId, entry: Entry, value: Any) -> tuple[str, ...]:
    time = "" if entry.time is None else moment(entry.time)
    return store.task, entry.table, time, key_text(entry.key), orjson.dumps(value).decode()


def columns(rows: list[tuple[str, ...]], right: frozenset[int] = frozenset()) -> Iterator[str]:
    """Rows as lines with the cells below each other; columns that are empty but for their head are left out."""
    bodies = rows[1:] if len(rows) > 1 else rows
    used = [index for index in range(len(rows[0])) if any(row[index] for row in bodies)]
    widths = {index: max(len(row[index]) for row in rows) for index in used}
    for row in rows:
        cells = (f"{row[i]:>{widths[i]}}" if i in right else f"{row[i]:<{widths[i]}}" for i in used)
        yield "  ".join(cells).rstrip()


def _volume(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _print_json(value: Any) -> None:
    _print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def _print(text: str) -> None:
    typer.echo(redact.text(text, limit=sys.maxsize))

"""`streamd dlq`: dead letters looked at, taken through their pipeline again, or done with."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import orjson
import typer
import uvloop

from streamd.cli.dlq_text import (
    letter_json,
    letter_lines,
    prepared_json,
    prepared_lines,
    purge_lines,
    replayed_line,
    tally_json,
    tally_lines,
)
from streamd.cli.options import ConfigOption, SetOption, service_settings, variables
from streamd.cli.times import parse_moment
from streamd.codecs import TEXT
from streamd.codecs.beside import key_format
from streamd.component.registry import Registry
from streamd.config.load import load_pipelines
from streamd.config.pipeline import PipelineConfig
from streamd.config.service import ServiceConfig
from streamd.dlq.choice import Choice
from streamd.dlq.letter import Letter
from streamd.dlq.marks import Done, name_of
from streamd.dlq.places import Place, named_place, places_of
from streamd.dlq.prepare import Wishes, prepare
from streamd.dlq.purge import meant, purge
from streamd.dlq.replay import replay
from streamd.dlq.tally import letters, tallied
from streamd.errors import AccessDeniedError, ConfigError, NotFoundError, UnavailableError
from streamd.observability import redact
from streamd.observability.logs import configure_logging
from streamd.runtime.environment import refuse_untested
from streamd.transport.embedded.lock import hold, let_go, lock_path

T = TypeVar("T")
_LOCK_PATIENCE = 1.0  # seconds

app = typer.Typer(name="dlq", add_completion=False, rich_markup_mode=None, no_args_is_help=True)

File: TypeAlias = Annotated[Path, typer.Argument(metavar="PIPELINE", help="A pipeline file.", show_default=False)]
MaybeFile: TypeAlias = Annotated[
    Path | None, typer.Argument(metavar="[PIPELINE]", help="A pipeline file.", show_default=False)
]
TopicOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--topic", metavar="NAME", help="Of this topic of Kafka, without a pipeline.", show_default=False),
]
LogOption: TypeAlias = Annotated[
    str | None, typer.Option("--log", metavar="NAME", help="Of this topic of the embedded log.", show_default=False)
]
FileOption: TypeAlias = Annotated[
    str | None, typer.Option("--file", metavar="FILE", help="Of this file.", show_default=False)
]
SinkOption: TypeAlias = Annotated[
    str | None, typer.Option("--sink", metavar="ID", help="Only this dead-letter sink.", show_default=False)
]
WhereOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="EXPR",
        help="Only those for which this holds: an expression over the record, and _stage, _phase, _error, _reason, "
        "_time, _attempts, _replays, _pipeline, _raw.",
        show_default=False,
    ),
]
SinceOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help='Only those that failed from this time on: 2026-01-31T12:00:00Z, or "2h ago".',
        show_default=False,
    ),
]
UntilOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--until", metavar="TIME", help="Only those that failed before this time.", show_default=False),
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def command() -> None:
    """Look at dead letters, replay them, each exactly once, or purge them."""


@app.command("ls")
def list_(
    file: MaybeFile = None,
    topic: TopicOption = None,
    log: LogOption = None,
    in_file: FileOption = None,
    sink: SinkOption = None,
    where: WhereOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Count dead letters, by where and why they failed, and how many are done with.

    Reads what is committed, all of it, and changes nothing; the pipeline may run meanwhile.
    """
    target = _Target(file, topic, log, in_file, sink, config, set_)
    choice = target.choice(where, since, until)

    found = [_run(tallied(place, choice)) for place in _there(target.places)]
    if as_json:
        _print_json([tally_json(one) for one in found])
        return
    if found:
        _print("\n\n".join("\n".join(tally_lines(one)) for one in found))


@app.command("show")
def show(
    file: MaybeFile = None,
    topic: TopicOption = None,
    log: LogOption = None,
    in_file: FileOption = None,
    sink: SinkOption = None,
    where: WhereOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Show so many at most.")] = 20,
    done: Annotated[bool, typer.Option("--done", help="Those that are replayed or purged as well.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Show dead letters: what failed, where, why, and the record itself.

    A value is shown as its source reads it, or as it is where a schema registry that this takes does not answer. With
    --json a line for each; what is neither JSON nor text is in base64. Exit code 1 when there is none.
    """
    target = _Target(file, topic, log, in_file, sink, config, set_)
    choice = target.choice(where, since, until)

    places = _there(target.places)

    async def first(*, read: bool) -> tuple[list[tuple[Place, Letter, Done | None]], bool]:
        found: list[tuple[Place, Letter, Done | None]] = []
        for place in places:
            async with place.opened() as kept:
                async for letter, how in letters(kept, read=read):
                    if letter is None or letter not in choice or (how is not None and not done):
                        continue
                    if len(found) == limit:
                        return found, True
                    found.append((place, letter, how))
        return found, False

    try:
        found, more = _run(first(read=True))
    except (UnavailableError, AccessDeniedError) as error:
        if choice.reads:
            raise
        found, more = _run(first(read=False))  # which fails in the same way when it was not the registry
        _print_error(f"values are shown as they are: {error.__cause__ or error}")
    for index, entry in enumerate(found):
        if as_json:
            sys.stdout.buffer.write(orjson.dumps(letter_json(*entry), option=orjson.OPT_APPEND_NEWLINE))
        else:
            # Contents are shown as they are: that is what was asked for. Control characters would reach the terminal.
            for line in [*([""] if index else []), *letter_lines(*entry)]:
                typer.echo(line)
    if more:
        typer.echo("… and more; --limit shows more of them", err=True)
    if not found:
        typer.echo("no dead letter is like that", err=True)
        raise typer.Exit(1)


@app.command("replay")
def replay_(
    file: File,
    sink: SinkOption = None,
    where: WhereOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    to_stage: Annotated[
        str | None, typer.Option("--to-stage", metavar="STAGE", help="Enter at this stage.", show_default=False)
    ] = None,
    to_source: Annotated[
        bool,
        typer.Option(
            "--to-source", help="Give the records back to the topic that the pipeline reads, which must run for them."
        ),
    ] = False,
    max_attempts: Annotated[
        int, typer.Option("--max-attempts", min=1, help="Leave those alone that were replayed so often.")
    ] = 3,
    at_least_once: Annotated[
        bool,
        typer.Option(
            "--at-least-once", help="Also into sinks outside of the transaction, which may then have records twice."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and write nothing.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Take dead letters through their pipeline again, each exactly once.

    Each enters where its record was kept: in the chain of its source, or behind the stage of own code that gave it.
    What comes of it and the mark that it is done are one transaction; a replay that was killed goes on where it was.
    One that fails again is a new dead letter, which says how often it was replayed; the same replay does not read it.
    """
    refuse_untested()
    if to_stage is not None and to_source:
        raise ConfigError("--to-stage and --to-source are two ways: give one")
    target = _Target(file, None, None, None, sink, config, set_)
    wishes = Wishes(target.choice(where, since, until), to_stage, to_source, max_attempts, at_least_once)
    configure_logging(target.service.log.level, target.service.log.format)

    async def one(place: Place) -> Any:
        async with place.opened() as kept:
            prepared, selection = await prepare(target.pipeline, target.service, place, wishes, kept)
            if not as_json:
                for line in prepared_lines(prepared, dry_run=dry_run):
                    _print(line)
            if dry_run or not prepared.groups:
                return prepared, None
            async with _alone(place):
                return prepared, await replay(prepared, selection, kept, target.service)

    found = [_run(one(place)) for place in _there(target.places)]
    if as_json:
        _print_json([prepared_json(*entry) for entry in found])
    else:
        for _, done in found:
            if done is not None:
                _print(replayed_line(done))


@app.command("purge")
def purge_(
    file: MaybeFile = None,
    topic: TopicOption = None,
    log: LogOption = None,
    sink: SinkOption = None,
    where: WhereOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Be done with dead letters: mark them, so that no replay takes them.

    It says which, and asks. Records at the beginning of the topic are deleted as far as all of them are done with.
    """
    target = _Target(file, topic, log, None, sink, config, set_)
    choice = target.choice(where, since, until)

    async def one(place: Place) -> None:
        async with place.opened() as kept:
            found = await meant(place, choice, kept)
            for line in purge_lines(found):
                _print(line)
            if not found.count:
                return
            if not yes:
                _confirm()
            async with _alone(place):
                deleted = await purge(found, kept, target.service)
            for partition, before in deleted.items():
                _print(f"deleted from {place}, partition {partition}: all before offset {before}")
            _print(f"purged {found.count:,}")

    for place in _there(target.places):
        _run(one(place))


class _Target:
    """What a command is about: the dead letters of a pipeline, or those of a topic or file that is named."""

    def __init__(
        self, file: Path | None, topic: str | None, log: str | None, in_file: str | None, sink: str | None,
        config: Path | None, set_: list[str] | None,
    ) -> None:  # fmt: skip
        env = variables(set_)
        self.service: ServiceConfig = service_settings(config, env)
        named = [(kind, name) for kind, name in (("kafka", topic), ("log", log), ("file", in_file)) if name is not None]
        if (file is not None) + len(named) != 1:
            raise ConfigError("expected one of PIPELINE, --topic, --log and --file: where the dead letters are")
        self._config: PipelineConfig | None = None
        if file is not None:
            configs = load_pipelines([file], Registry.default(), env, self.service)
            if len(configs) != 1:
                raise ConfigError(f"expected one pipeline, {file} holds {len(configs)}")
            self._config = configs[0]
            self.places = places_of(configs[0], self.service, sink)
        else:
            kind: Any = named[0][0]
            self.places = [named_place(kind, named[0][1], self.service)]

    @property
    def pipeline(self) -> PipelineConfig:
        assert self._config is not None
        return self._config

    def choice(self, where: str | None, since: str | None, until: str | None) -> Choice:
        return Choice(
            where,
            None if since is None else parse_moment(since, "--since"),
            None if until is None else parse_moment(until, "--until"),
            None if self._config is None else self._config.name,
            self._config is not None and any(key_format(one.settings) != TEXT for one in self._config.sources),
        )


def _there(places: list[Place]) -> list[Place]:
    """Places that exist; of the others it is said that no letter was ever written."""

    async def missing(place: Place) -> str | None:
        try:
            async with place.opened() as kept:
                await kept.span()
        except NotFoundError as error:
            return str(error)
        return None

    found = []
    for place in places:
        why = _run(missing(place))
        if why is None:
            found.append(place)
        else:
            _print(f"{place}: nothing there ({why})")
    return found


@asynccontextmanager
async def _alone(place: Place) -> AsyncIterator[None]:
    """Nobody else replays or purges the letters of the embedded log meanwhile. In Kafka who comes later has them."""
    if place.kind != "log":
        yield
        return
    lock = lock_path(place.state_dir, name_of(place.name))
    await hold(lock, f"of the dead letters in {place.name}", _LOCK_PATIENCE)
    try:
        yield
    finally:
        let_go(lock)


def _confirm() -> None:
    if not sys.stdin.isatty():
        raise ConfigError("nobody can be asked here, and nothing was purged; say --yes")
    typer.confirm("Purge them?", abort=True)


def _run(work: Awaitable[T]) -> T:
    async def run() -> T:
        return await work

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def _print_json(value: Any) -> None:
    _print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def _print_error(text: str) -> None:
    typer.echo(redact.text(text, limit=sys.maxsize), err=True)


def _print(text: str) -> None:
    typer.echo(redact.text(text, limit=sys.maxsize))

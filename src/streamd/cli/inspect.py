"""`streamd inspect`."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Annotated

import orjson
import typer
import uvloop

from streamd.cli.inspect_text import profile_json, profile_lines
from streamd.cli.options import ConfigOption, SetOption, service_settings, variables
from streamd.component.fields import parse_duration
from streamd.errors import ConfigError
from streamd.inspect.sample import Sample, Wish, sampled
from streamd.inspect.starter import starter
from streamd.inspect.target import Target, target_of
from streamd.profile.candidates import Candidates, candidates
from streamd.profile.schema import avro_schema, json_schema
from streamd.runtime.environment import refuse_untested

_LATEST = re.compile(r"latest-([0-9][0-9_]*)")


def command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="PATH|kafka:TOPIC|log:TOPIC",
            help="A file, a topic of Kafka or of the embedded log, or a pipeline file (with --source).",
            show_default=False,
        ),
    ],
    source: Annotated[
        str | None, typer.Option("--source", metavar="ID", help="Of a pipeline: this source.", show_default=False)
    ] = None,
    records: Annotated[int, typer.Option("--records", "-n", min=1, help="Read so many records at most.")] = 10_000,
    from_: Annotated[
        str,
        typer.Option(
            "--from", "-f", metavar="WHERE", help="Where to begin: earliest, or latest-N for the newest N records."
        ),
    ] = "earliest",
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="What a record is, as a source's `format`: csv, or {avro: {schema_file: order.avsc}}. Without it: by "
            "the file's name, or json.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[str, typer.Option("--timeout", metavar="TIME", help="Read no longer than this.")] = "30s",
    examples: Annotated[
        bool, typer.Option("--examples/--no-examples", help="Whether contents of records are shown.")
    ] = True,
    schema: Annotated[
        str | None,
        typer.Option("--schema", metavar="json|avro", help="Print the proposed schema instead.", show_default=False),
    ] = None,
    pipeline: Annotated[bool, typer.Option("--pipeline", help="Print a pipeline to begin with instead.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Write the schema or the pipeline to this file.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the profile as JSON.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Look at a sample of a source: fields, types, nulls, examples, and what they could serve as.

    Nothing is changed: no group, no position, no topic. The contents of records are shown; --no-examples leaves them
    out. --schema and --pipeline print what is proposed for such records.
    """
    refuse_untested()
    if schema not in (None, "json", "avro"):
        raise typer.BadParameter("expected json or avro", param_hint="--schema")
    if (schema is not None) + pipeline + as_json > 1:
        raise ConfigError("--schema, --pipeline and --json each print something else: give one")
    if out is not None and schema is None and not pipeline:
        raise ConfigError("--out: expected --schema or --pipeline with it, which say what is written")
    env = variables(set_)
    target = target_of(what, source, format_, env, service_settings(config, env))
    wish = _wish(records, from_, timeout)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        target, sample = runner.run(sampled(target, wish))
    found = candidates(sample.values)
    if schema is not None or pipeline:
        text = _pipeline(target, sample, found, out) if pipeline else _schema(target, sample, str(schema))
        _written(text, out)
        return
    if as_json:
        typer.echo(orjson.dumps(profile_json(target, sample, found, examples=examples), option=orjson.OPT_INDENT_2))
        return
    for line in profile_lines(target, sample, found, examples=examples):
        typer.echo(line)


def _wish(records: int, start: str, timeout: str) -> Wish:
    try:
        seconds = parse_duration(timeout)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--timeout") from None
    if start == "earliest":
        return Wish(records, seconds=seconds)
    match = _LATEST.fullmatch(start)
    if match is None or not int(match[1]):
        raise typer.BadParameter("expected earliest or latest-N, like latest-1000", param_hint="--from")
    return Wish(int(match[1]), latest=True, seconds=seconds)


def _schema(target: Target, sample: Sample, kind: str) -> str:
    _some(sample)
    made = json_schema(sample.values) if kind == "json" else avro_schema(sample.values, target.name)
    return orjson.dumps(made, option=orjson.OPT_INDENT_2).decode() + "\n"


def _pipeline(target: Target, sample: Sample, found: Candidates, out: Path | None) -> str:
    _some(sample)
    return starter(target, sample, found, Path() if out is None else out.parent)


def _some(sample: Sample) -> None:
    if not sample.values.count:
        raise ConfigError("there is no record that can be read, so nothing can be proposed; without --schema and "
                          "--pipeline it is shown what was found")  # fmt: skip


def _written(text: str, out: Path | None) -> None:
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.write_text(text)
    except OSError as error:
        raise ConfigError(f"--out: {out} cannot be written: {error.strerror}") from None
    typer.echo(f"written to {out}", err=True)

"""From a user's pipeline to its scratch: what is refused, what is replaced, where the input comes from."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamd.codecs.csv import format_row
from streamd.codecs.format import format_of, in_lines
from streamd.component.context import PipelineContext
from streamd.component.fields import nested_component
from streamd.config.pipeline import ComponentConfig, PipelineConfig
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError, LoadError
from streamd.expr.nodes import Field
from streamd.plan.graph import build_plan
from streamd.transport.embedded.log import EmbeddedLog, log_path
from streamd.transport.files.compression import compression_of
from streamd.verify.encodings import encoded_line, encoding_of, takes_lines
from streamd.verify.outputs import lines_of
from streamd.verify.records import Generated, Made, Records, Rows, Sampled, Shaped
from streamd.verify.scratch import Input, Scratch
from streamd.verify.shapes import keyed_by, row_keys, shape_of, shapes_of

TOPIC_PARTITIONS = 4  # of a topic that does not exist yet and says nothing itself
MOST_FILES = 16  # of a pattern: as many partitions
MOST_ROWS = 100_000  # of a table that are taken of its own
FILE_SAMPLE = 1000  # lines of the user's own files that are the input when nothing else is asked for
_REPLACED = ("kafka", "log", "file", "stdin", "generate")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asked for. `input`: a file with one record a line; `sample`: how many records of their own."""

    embedded: bool = False
    seed: int = 1
    input: Path | None = None
    sample: int | None = None


def uses_kafka(config: PipelineConfig) -> bool:
    """Whether any source or sink is Kafka's."""
    return any(c.name == "kafka" for c in (*config.sources, *config.tables, *config.sinks, *config.dead_letters))


def check(config: PipelineConfig) -> list[str]:
    """What is replaced by something else, in words. Raises ConfigError for a pipeline that cannot be verified."""
    notes = []
    for source in (*config.sources, *config.tables):
        if source.name not in _REPLACED:
            raise ConfigError(
                f"{source.place}: source `{source.id}` ({source.name}) cannot be verified: nobody else can make its "
                f"records; verify a copy of the pipeline with a source of {', '.join(_REPLACED)}"
            )
    for component in (*config.sources, *config.tables, *config.sinks, *config.dead_letters):
        form = format_of(component.settings)
        if component.name == "file" and not in_lines(form):
            raise ConfigError(
                f"{component.place}: the {component.kind} `{component.id}` has files of the format {form}, which "
                "verify does not take; verify a copy of the pipeline with lines of JSON, or with a topic"
            )
    read = {_topic(source) for source in (*config.sources, *config.tables)}
    for sink in (*config.sinks, *config.dead_letters):
        written = _topic(sink)
        if written is not None and written in read:
            raise ConfigError(
                f"{sink.place}: sink `{sink.id}` writes topic {written[1]}, which the pipeline reads itself: its input "
                "cannot be told from its output"
            )
        if sink.name not in ("kafka", "log", "file"):
            notes.append(f"{sink.id} is a topic here: what the {sink.name} sink does after a kill is not shown.")
    for stage in config.stages:
        for name, info in type(stage.settings).model_fields.items():
            marks = (nested_component(info.annotation), *map(nested_component, info.metadata))
            if any(marks) and isinstance(getattr(stage.settings, name), ComponentConfig):
                raise ConfigError(
                    f"{stage.place}: stage `{stage.id}` has a sink of its own (`{name}`), which cannot be replaced yet"
                )
    _refuse_what_time_decides(config)
    return notes


def _refuse_what_time_decides(config: PipelineConfig) -> None:
    """Raise for stages whose results kills change, though nothing is lost and nothing comes twice."""
    for part in build_plan(config).parts:
        for stage in part.stages:
            settings: Any = stage.settings
            if stage.name == "aggregate" and hasattr(settings.emit, "every"):
                raise ConfigError(
                    f"{stage.place}: stage `{stage.id}` gives its results by the clock (`emit: {{every: …}}`), and so "
                    "others after each kill: verify a copy of the pipeline with `emit: on_update`"
                )
            if len(part.sources) > 1 and stage.spec.keyed and hasattr(settings, "late"):
                names = " and ".join(f"`{source.id}`" for source in part.sources)
                raise ConfigError(
                    f"{stage.place}: which results of stage `{stage.id}` are due, and what is late for it, depends on "
                    f"how far {names} have come beside each other, which kills change: there is nothing to compare a "
                    "disturbed run with; verify a copy of the pipeline with one source, or without this stage"
                )


def _topic(component: ComponentConfig) -> tuple[str, str] | None:
    topic = getattr(component.settings, "topic", None)
    return (component.name, topic) if topic is not None else None


async def inputs_of(
    config: PipelineConfig, service: ServiceConfig, wishes: Wishes, prefix: str, *, embedded: bool
) -> tuple[Input, ...]:
    """How each source, and each table, reads in the scratch, with as many partitions as it has for the user."""
    counts: Mapping[str, int] = {}
    if not embedded and uses_kafka(config):
        from streamd.verify import kafka

        topics = {str(c.settings.topic) for c in (*config.sources, *config.tables) if c.name == "kafka"}  # type: ignore[attr-defined]
        counts = await kafka.partitions(config.kafka, topics) if topics else {}
    found = []
    for source in (*config.sources, *config.tables):
        settings: Any = source.settings
        form = getattr(settings, "format", "json")
        match source.name:
            case "kafka":
                created = settings.create.partitions if settings.create is not None else None
                partitions = counts.get(settings.topic) or created or TOPIC_PARTITIONS
                kind, topic = ("log", settings.topic) if embedded else ("kafka", f"{prefix}.{settings.topic}"[:249])
                found.append(Input(source.id, kind, source, partitions, topic, form))
            case "log":
                partitions = settings.partitions or await _log_partitions(service, settings.topic) or 1
                found.append(Input(source.id, "log", source, partitions, settings.topic, form))
            case "file":
                partitions = max(1, min(MOST_FILES, len(_files(source, _folder(config)))))
                found.append(Input(source.id, "file", source, partitions, format=form))
            case "generate":
                found.append(Input(source.id, "log", source, settings.partitions, f"source.{source.id}"))
            case _:
                found.append(Input(source.id, "log", source, 1, f"source.{source.id}", form))
    return tuple(found)


def _folder(config: PipelineConfig) -> Path:
    assert config.file is not None
    return config.file.parent


def _files(source: ComponentConfig, folder: Path) -> list[Path]:
    found: dict[Path, None] = {}
    for pattern in source.settings.path:  # type: ignore[attr-defined]
        path = folder / Path(pattern).expanduser()
        if any(character in pattern for character in "*?["):
            matches = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        else:
            matches = [path]
        found.update(dict.fromkeys(match for match in matches if match.is_file()))
    return list(found)


async def _log_partitions(service: ServiceConfig, topic: str) -> int | None:
    path = log_path(service.state_dir / service.app, service.app)
    if not path.exists():
        return None
    log = EmbeddedLog.acquire(path)
    try:
        return await log.partitions(topic)
    finally:
        await log.release()


async def records_of(
    source: Input, scratch: Scratch, service: ServiceConfig, wishes: Wishes, base_ms: int
) -> tuple[Records, str]:
    """The records of one source, and in words where they come from. Raises ConfigError when there are none to take."""
    original = source.original
    if wishes.input is not None:
        return await _of_file(wishes.input, source, scratch), f"from {wishes.input}"
    if original.name == "generate":
        return Generated(original.settings, base_ms), "as the pipeline generates it"  # type: ignore[arg-type]
    taken = await _sample(source, scratch, service, wishes.sample)
    if taken is not None:
        records, count = taken
        return records, f"sampled: {count:,} of its own"
    if wishes.sample is not None:
        raise ConfigError(f"--sample: source `{source.id}` has no records of its own that could be taken")
    context = PipelineContext("verify", scratch.config.name, scratch.folder, _folder(scratch.config), None)
    shape = shape_of(scratch.config, context)
    columns = getattr(original.settings, "columns", None)
    header = original.name == "file" and source.format == "csv" and columns is None
    key = None if source.kind == "file" else keyed_by(scratch.config)
    seed = f"{wishes.seed} {source.id}"
    wrong = _bears_wrong_records(scratch.config)
    encoding = await encoding_of(original, _folder(scratch.config), scratch.schemas)
    made = Shaped(
        shape, source.partitions, seed, source.format, columns, header=header, key=key, wrong=wrong, encoding=encoding
    )
    return made, f"made up for its expressions, seed {wishes.seed}"


async def rows_of(table: Input, scratch: Scratch, service: ServiceConfig, wishes: Wishes) -> tuple[Sampled, str]:
    """The rows of a table, and in words where they come from. Raises ConfigError when there are none to take."""
    original = table.original
    assert original.table is not None
    taken = await _sample(table, scratch, service, wishes.sample and MOST_ROWS)
    if taken is not None:
        records, count = taken
        return records, f"{count:,} rows of its own"
    key = original.table.key
    if key is not None and not isinstance(key.node, Field):
        raise ConfigError(
            f"{original.place}: the rows of `{table.id}` cannot be made up, since their key is no field; "
            "--sample N takes records of its own"
        )
    context = PipelineContext("verify", scratch.config.name, scratch.folder, _folder(scratch.config), None)
    shape = shapes_of(scratch.config, context)[1][table.id]
    columns = getattr(original.settings, "columns", None)
    header = original.name == "file" and table.format == "csv" and columns is None
    name = key.node.name if key is not None and isinstance(key.node, Field) else None
    seed = f"{wishes.seed} {table.id}"
    encoding = await encoding_of(original, _folder(scratch.config), scratch.schemas)
    keys = row_keys(table.id)
    try:
        rows = Rows(
            shape, keys, name, table.partitions, seed, table.format, columns, header=header, encoding=encoding
        )  # fmt: skip
    except LoadError as error:
        raise ConfigError(
            f"{original.place}: rows of `{table.id}` cannot be made up: {error}; --sample N takes records of its own"
        ) from None
    return rows, f"{rows.count} rows made up, seed {wishes.seed}"


def _bears_wrong_records(config: PipelineConfig) -> bool:
    """Whether the pipeline says everywhere what to do with them, and at once."""
    policies = [c.on_error or config.on_error for c in (*config.sources, *config.stages, *config.sinks)]
    at_once = all(policy.action in ("skip", "dead_letter") for policy in policies)
    return at_once and config.error_threshold is None


async def _sample(
    source: Input, scratch: Scratch, service: ServiceConfig, count: int | None
) -> tuple[Sampled, int] | None:
    """Records of the user's own: of files always, as they are near; of topics when they are asked for."""
    original = source.original
    if original.name == "file":
        least = FILE_SAMPLE if original.table is None else MOST_ROWS
        return _of_own_files(source, scratch.config, count or least)
    if count is None:
        return None
    made: list[Made] = []
    if original.name == "kafka" and scratch.config.kafka is not None:
        from streamd.verify import kafka

        made = await kafka.sample(scratch.config.kafka, original.settings.topic, count)  # type: ignore[attr-defined]
    elif original.name == "log":
        made = await _of_own_log(service, source, count)
    in_range = [record._replace(partition=record.partition % source.partitions) for record in made]
    return (Sampled(in_range), len(in_range)) if in_range else None


def _of_own_files(source: Input, config: PipelineConfig, count: int) -> tuple[Sampled, int] | None:
    settings: Any = source.original.settings
    files = _files(source.original, _folder(config))[:MOST_FILES]
    header: bytes | None = None
    columns: list[list[bytes]] = []
    for file in files:
        lines: Iterator[bytes] = _lines(file, settings)
        if source.format == "csv":
            lines = _csv_rows(lines, settings.delimiter)
            if settings.columns is None:
                header = next(lines, None) or header
        columns.append([line for line in itertools.islice(lines, count) if line or source.format == "text"])
    made = [
        Made(partition, None, line)
        for row in itertools.zip_longest(*columns)
        for partition, line in enumerate(row)
        if line is not None
    ]
    return (Sampled(made, header), len(made)) if made else None


def _lines(file: Path, settings: Any) -> Iterator[bytes]:
    compression = compression_of(file, settings.compression)
    return (line.removesuffix(b"\r") for line in lines_of(file, compression))


def _csv_rows(lines: Iterator[bytes], delimiter: str) -> Iterator[bytes]:
    import csv

    texts = (line.decode("utf-8", "replace") + "\n" for line in lines)
    return (format_row(row, delimiter) for row in csv.reader(texts, delimiter=delimiter))


async def _of_own_log(service: ServiceConfig, source: Input, count: int) -> list[Made]:
    path = log_path(service.state_dir / service.app, service.app)
    made: list[Made] = []
    if not path.exists():
        return made
    log = EmbeddedLog.acquire(path)
    try:
        streams = await log.streams(source.original.settings.topic)  # type: ignore[attr-defined]
        for stream in streams:
            most = max(1, count // len(streams))
            records = await log.fetch(stream.id, stream.start, most, 1 << 26)
            made += [Made(stream.partition, record.key, record.value) for record in records[:most]]
    finally:
        await log.release()
    return made


async def _of_file(file: Path, source: Input, scratch: Scratch) -> Records:
    """The lines of a file that the user named, spread over the partitions; of a binary format they are documents."""
    try:
        lines = [line.removesuffix(b"\r") for line in lines_of(file, compression_of(file, "auto"))]
    except OSError as error:
        raise ConfigError(f"--input: cannot read {file}: {error.strerror}") from None
    header = None
    if source.original.name == "file" and source.format == "csv" and not _has_columns(source):
        header, lines = (lines[0], lines[1:]) if lines else (None, [])
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise ConfigError(f"--input: {file} holds no records; it has one on each line")
    if takes_lines(source.original):
        return Sampled(_spread(lines, source.partitions), header)
    encoding = await encoding_of(source.original, _folder(scratch.config), scratch.schemas)
    assert encoding is not None
    lines = [encoded_line(line, encoding, f"--input: line {at} of {file}") for at, line in enumerate(lines, 1)]
    return Sampled(_spread(lines, source.partitions), header)


def _has_columns(source: Input) -> bool:
    return getattr(source.original.settings, "columns", None) is not None


def _spread(lines: Sequence[bytes], partitions: int) -> list[Made]:
    return [Made(number % partitions, None, line) for number, line in enumerate(lines)]

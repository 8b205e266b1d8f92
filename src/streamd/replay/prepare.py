"""Everything that is there before a replay runs: which offsets it reads, its own log, its topics; or why it may not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any, Final

from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.pipeline import PipelineConfig
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError
from streamd.plan.graph import build_plan
from streamd.replay.log import LogTopic
from streamd.replay.rewrite import outputs_of, prefixed, refuse, rewrite
from streamd.replay.span import Point, Span
from streamd.state.survey import surveyed
from streamd.transport.embedded.log import EmbeddedLog, log_path

_MARK: Final = "replay-of"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What somebody asked for. `app`: the replay's own; `prefix`: before the names of its outputs."""

    start: Point
    until: Point | None
    app: str
    prefix: str


@dataclass(slots=True)
class Prepared:
    """A replay that can be run. `reads` and `writes`: [(what, name, extent in words)]."""

    config: PipelineConfig
    service: ServiceConfig
    reads: list[tuple[str, str, Span | None]] = field(default_factory=list)
    writes: list[tuple[str, str]] = field(default_factory=list)


async def prepare(config: PipelineConfig, service: ServiceConfig, wishes: Wishes, env: Mapping[str, str]) -> Prepared:
    """Find what is to be read, and make what is to be written. Raises ConfigError where the replay must not run."""
    refuse(config, wishes.prefix)
    own = _service(service, wishes.app)
    await _refuse_again(config, own, env, wishes)
    found: dict[str, Span] = await _kafka_spans(config, wishes)
    fresh = _rewritten(config, found, wishes, env, own)
    prepared = Prepared(fresh, own)
    for source in config.sources:
        if source.name == "kafka":
            prepared.reads.append(("topic", source.settings.topic, found[source.id]))  # type: ignore[attr-defined]
        elif source.name != "log":
            prepared.reads.append((source.name, source.id, None))
    for table in config.tables:
        prepared.reads.append(("table", getattr(table.settings, "topic", None) or table.id, None))
    for topic, span in (await _copied(config, service, own, wishes)).items():
        prepared.reads.append(("log", topic, span))
    if wishes.prefix:
        _refuse_files(fresh)
        await _make_topics(config, own, wishes.prefix)
    for sink in outputs_of(fresh):
        settings: Any = sink.settings
        name = getattr(settings, "topic", None) or getattr(settings, "path", None) or ""
        prepared.writes.append(("topic" if sink.name == "kafka" else sink.name, str(name)))
    return prepared


def _service(service: ServiceConfig, app: str) -> ServiceConfig:
    """The live one's settings under another app; its HTTP address is taken."""
    if app == service.app:
        raise ConfigError(f"--app: {app} is the live app, whose positions a replay must not touch; give another name")
    return service.model_copy(update={"app": app, "http": service.http.model_copy(update={"enabled": False})})


def _file(config: PipelineConfig) -> Path:
    return config.file or Path(f"{config.name}.yaml")


def _rewritten(
    config: PipelineConfig, spans: dict[str, Span], wishes: Wishes, env: Mapping[str, str], own: ServiceConfig
) -> PipelineConfig:
    text = rewrite(config, spans, wishes.prefix)
    return load_pipeline_text(text, _file(config), Registry.default(), env, own, config.imports)


async def _refuse_again(config: PipelineConfig, own: ServiceConfig, env: Mapping[str, str], wishes: Wishes) -> None:
    """A replay begins anew: with positions from before it would go on from them."""
    nowhere: dict[str, Span] = {source.id: {} for source in config.sources if source.name == "kafka"}
    fresh = _rewritten(config, nowhere, wishes, env, own)
    async with surveyed(build_plan(fresh, own.app), own) as survey:
        if await survey.forgotten(None):
            raise ConfigError(
                f"app {wishes.app} has positions or state of pipeline {config.name} already, of an earlier replay or "
                f"of a live one; give another --app, or delete them: streamd state reset {config.file} --app "
                f"{wishes.app}"
            )


async def _kafka_spans(config: PipelineConfig, wishes: Wishes) -> dict[str, Span]:
    sources = [source for source in config.sources if source.name == "kafka"]
    topics = {source.settings.topic for source in config.sources if source.name in ("kafka", "log")}  # type: ignore[attr-defined]
    if len(topics) > 1 and any(
        point is not None and point.offsets is not None for point in (wishes.start, wishes.until)
    ):
        raise ConfigError(f"offsets are of one topic, and {config.name} reads {len(topics)}: say a time instead")
    if any(source.name not in ("kafka", "log") for source in config.sources) and not (
        wishes.start.earliest and wishes.until is None
    ):
        raise ConfigError("files and made-up records have no times to look for: only --from earliest is right for them")
    if not sources:
        return {}
    from streamd.replay.kafka import span_of
    from streamd.transport.kafka.admin import open_admin

    found: dict[str, Span] = {}
    async with open_admin(config.kafka) as admin:
        for source in sources:
            settings: Any = source.settings
            found[source.id] = await span_of(admin, settings.topic, wishes.start, wishes.until)
    return found


async def _copied(config: PipelineConfig, live: ServiceConfig, own: ServiceConfig, wishes: Wishes) -> dict[str, Span]:
    """The topics of the embedded log that are read, copied to the replay's own log."""
    topics = sorted({source.settings.topic for source in config.sources if source.name == "log"})  # type: ignore[attr-defined]
    tables = {table.settings.topic for table in config.tables if table.name == "log"}  # type: ignore[attr-defined]
    if not topics and not tables:
        return {}
    folder = own.state_dir / own.app
    path, mark = log_path(folder, own.app), folder / _MARK
    if path.exists() and not mark.exists():
        raise ConfigError(f"app {own.app} has a log that no replay has made, {path}; give another --app")
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(f"{live.app}\n")
    source = EmbeddedLog.acquire(log_path(live.state_dir / live.app, live.app))
    target = EmbeddedLog.acquire(path)
    try:
        found: dict[str, Span] = {}
        for name in tables:
            topic = await LogTopic.of(source, name)
            await topic.copy(await topic.span(Point(), None), target)
        for name in topics:
            topic = await LogTopic.of(source, name)
            found[name] = await topic.span(wishes.start, wishes.until)
            await topic.copy(found[name], target)
        return found
    finally:
        await source.release()
        await target.release()


def _refuse_files(fresh: PipelineConfig) -> None:
    """What an earlier replay wrote would be appended to."""
    for sink in outputs_of(fresh):
        if sink.name == "file":
            path = _file(fresh).parent / sink.settings.path  # type: ignore[attr-defined]
            numbered = escape(path.name).replace("{partition}", "*").replace("{part}", "*")
            pattern = numbered.replace("{pipeline}", fresh.name)
            there = sorted(path.parent.glob(pattern)) if "{" not in str(path.parent) else []
            if there:
                raise ConfigError(f"{there[0]} is there already, of an earlier replay; delete it or give a --prefix")


async def _make_topics(config: PipelineConfig, own: ServiceConfig, prefix: str) -> None:
    """Topics of Kafka with the prefix, with as many partitions as the live ones, and empty."""
    sinks = [sink for sink in outputs_of(config) if sink.name == "kafka"]
    if not sinks:
        return
    from streamd.replay.kafka import holds_records, make_like
    from streamd.transport.kafka.admin import open_admin

    async with open_admin(config.kafka) as admin:
        for sink in sinks:
            settings: Any = sink.settings
            count = settings.create.partitions if settings.create is not None else None
            topic = prefixed(settings.topic, prefix)
            if own.create_topics:
                await make_like(admin, topic, settings.topic, count)
            if await holds_records(admin, topic):
                raise ConfigError(
                    f"topic {topic} holds records already, of an earlier replay; delete it or give a --prefix"
                )

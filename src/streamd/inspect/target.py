"""What is to be looked at: a file or topic by URI, or a source of a pipeline."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text, load_pipelines
from streamd.config.pipeline import ComponentConfig, PipelineConfig
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError

# {ending of a file's name: the format of its lines, or of its records}; all others are JSON lines.
_ENDINGS = {".csv": "csv", ".txt": "text", ".log": "text", ".avro": "avro", ".msgpack": "msgpack"}
_PIPELINES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Target:
    """A source to read a sample of. `uri`: as it was given, None for a pipeline's own source."""

    source: ComponentConfig
    pipeline: PipelineConfig
    service: ServiceConfig
    uri: str | None = None

    def with_settings(self, **changed: Any) -> Target:
        """The same source with other settings, checked already."""
        settings = self.source.settings.model_copy(update=changed)
        return replace(self, source=replace(self.source, settings=settings))

    @property
    def name(self) -> str:
        """What the input could be called: the topic, or the file without its folder and its endings."""
        settings: Any = self.source.settings
        paths = getattr(settings, "path", None)
        plain = str(getattr(settings, "topic", None) or (Path(paths[0]).name.split(".")[0] if paths else ""))
        return re.sub(r"[^A-Za-z0-9_-]+", "-", plain).strip("-_")[:100] or self.source.id

    def context(self, scratch: Path) -> PipelineContext:
        """What the source is told. Only the embedded log is in the app's own folder; no topic is made."""
        config, service = self.pipeline, self.service
        state_dir = service.state_dir / service.app if self.source.name == "log" else scratch
        base = config.file.parent if config.file is not None else Path()
        return PipelineContext(
            service.app, config.name, state_dir, base, config.kafka, False, config.schema_registry
        )  # fmt: skip


def target_of(
    what: str, source: str | None, format_: str | None, env: Mapping[str, str], service: ServiceConfig
) -> Target:
    """The target that a command line names. Raises ConfigError."""
    registry = Registry.default()
    if what.endswith(_PIPELINES):
        if format_ is not None:
            raise ConfigError("--format: the pipeline says what its source's format is")
        [pipeline] = load_pipelines([Path(what)], registry, env, service)
        return Target(_source(pipeline, source), pipeline, service)
    if source is not None:
        raise ConfigError("--source: only with a pipeline file, whose source it names")
    body: dict[str, Any] = {"at": what}
    if (form := _format(what, format_)) is not None:
        body["format"] = form
    text = yaml.safe_dump({"name": "inspect", "source": {"id": "input", "uri": body}, "sink": {"discard": {}}})
    try:
        pipeline = load_pipeline_text(text, Path("inspect"), registry, env, service)
    except ConfigError as error:
        # The user has not seen the text around it: what is wrong is in the arguments or in streamd.yaml.
        raise ConfigError(f"{what}: {'; '.join(map(_said, error.diagnostics))}") from None
    return Target(pipeline.sources[0], pipeline, service, what)


def _said(problem: Any) -> str:
    return f"{problem.message}" + "".join(f"; {more}" for more in (problem.expected, problem.help) if more)


def _source(pipeline: PipelineConfig, wanted: str | None) -> ComponentConfig:
    sources = (*pipeline.sources, *pipeline.tables)
    if wanted is None and len(sources) == 1:
        return sources[0]
    known = ", ".join(source.id for source in sources)
    for source in sources:
        if source.id == wanted:
            return source
    what = "has several sources: name one with --source" if wanted is None else f"has no source {wanted}"
    raise ConfigError(f"pipeline {pipeline.name} {what}; it has {known}")


def _format(what: str, given: str | None) -> Any:
    """The format as YAML has it: a name, or a mapping of one to its settings; None for the source's own default."""
    if given is not None:
        try:
            return yaml.safe_load(given)
        except yaml.YAMLError:
            raise ConfigError("--format: expected a format, like csv or {avro: {schema_file: order.avsc}}") from None
    if what.startswith(("kafka:", "log:")):
        return None
    path = Path(what.removeprefix("file:"))
    if path.suffix in (".gz", ".zst", ".bz2", ".xz", ".lz4"):
        path = path.with_suffix("")
    return _ENDINGS.get(path.suffix)

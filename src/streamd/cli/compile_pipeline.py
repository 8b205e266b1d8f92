"""A checked pipeline → its plan and its compiled chains, without running anything."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from streamd.clock import SYSTEM_CLOCK
from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.diagnostics import Diagnostic, config_error
from streamd.config.file_text import FileText
from streamd.config.load import SharedFile, load_files
from streamd.config.pipeline import PipelineConfig
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError, StreamdError
from streamd.plan.chain import Chain
from streamd.plan.graph import PartPlan, PipelinePlan, build_plan
from streamd.runtime.assembly import codecs_of, compile_chains
from streamd.runtime.drift import SourceDrift
from streamd.runtime.tables import Tables

Chains = dict[tuple[int, str], Chain]


def load_and_compile(
    paths: list[Path], env: dict[str, str], service: ServiceConfig
) -> tuple[list[tuple[PipelineConfig, PipelinePlan, Chains]], list[SharedFile]]:
    """Every pipeline of the paths with its plan and chains, and the files that only hold what pipelines may import.

    Raises ConfigError with all problems of all of them.
    """
    found = load_files(paths, Registry.default(), env, service)
    compiled = asyncio.run(_all_compiled(found.pipelines, service, found.problems))
    if found.problems:
        raise config_error(found.problems)
    return compiled, found.shared


async def _all_compiled(
    configs: list[PipelineConfig], service: ServiceConfig, problems: list[Diagnostic]
) -> list[tuple[PipelineConfig, PipelinePlan, Chains]]:
    compiled = []
    for config in configs:
        try:
            plan = build_plan(config, service.app)
        except ConfigError as error:
            own, sources = _texts(config)
            problems += [_with_lines(problem, sources[own]) for problem in _diagnostics(error, config)]
        else:
            compiled.append((config, plan, await _compiled(plan, service, problems)))
    return compiled


def _texts(config: PipelineConfig) -> tuple[str, dict[str, FileText]]:
    """The name of a pipeline's own file, and {name: text} of all that it is written in."""
    own = str(config.file or config.name)
    return own, {name: FileText(name, text) for name, text in {**config.imports, own: config.text}.items()}


async def _compiled(plan: PipelinePlan, service: ServiceConfig, problems: list[Diagnostic]) -> Chains:
    config = plan.config
    folder = config.file.parent if config.file is not None else Path.cwd()
    state_dir = service.state_dir / service.app
    context = PipelineContext(service.app, config.name, state_dir, folder, config.kafka, service.create_topics)
    own, sources = _texts(config)
    notes = {stage.place: stage.note for stage in reversed(config.stages)}
    chains: Chains = {}
    tables = Tables(plan.config, context, lambda component: None)
    try:
        tables.compile(codecs_of(plan.config.tables, folder))
    except ConfigError as error:
        problems += [_with_lines(problem, sources[own]) for problem in _diagnostics(error, config)]
        return chains
    context = replace(context, table=tables.table)
    for part in plan.parts:
        found: list[Diagnostic] = []
        stages = await _stages(part, context, found)
        found += _of_drift(config.name, part, folder)
        try:
            codecs = codecs_of((*part.sources, *part.all_sinks), folder)
            chains |= {} if found else compile_chains(part, stages, codecs)
        except ConfigError as error:
            found += _diagnostics(error, config)
        for problem in found:
            shown = _with_lines(problem, sources.get(problem.place.file, sources[own]))
            problems.append(replace(shown, note=notes.get(problem.place, "")))
    return chains


def _of_drift(pipeline: str, part: PartPlan, folder: Path) -> Iterator[Diagnostic]:
    """What is wrong with the schemas of `schema_drift`."""
    for source in part.sources:
        try:
            if source.schema_drift is not None:
                SourceDrift(pipeline, source, None, folder, SYSTEM_CLOCK)
        except StreamdError as error:
            message = f"`schema_drift` of source `{source.id}`: {error}"
            yield Diagnostic("unusable-component", message, source.place)


async def _stages(part: PartPlan, context: PipelineContext, problems: list[Diagnostic]) -> dict[str, object]:
    """The fused stages, with what they load (a table of `enrich`) loaded; the others only checked."""
    stages: dict[str, object] = {}
    for component in part.stages:
        try:
            stage = component.spec.factory(component.settings, context)
            if component.spec.fused or component.spec.keyed:
                await stage.prepare()
                stages[component.id] = stage
            elif (check := getattr(stage, "check", None)) is not None:
                check()
        except StreamdError as error:
            message = f"stage `{component.id}`: {error}"
            problems.append(Diagnostic("unusable-component", message, component.place))
    return stages


def _diagnostics(error: ConfigError, config: PipelineConfig) -> Iterable[Diagnostic]:
    if not error.diagnostics:
        return [Diagnostic("bad-plan", str(error), config.place)]
    return [problem for problem in error.diagnostics if isinstance(problem, Diagnostic)]


def _with_lines(problem: Diagnostic, source: FileText) -> Diagnostic:
    """The problem with the lines of its place, where it only knows the place."""
    if problem.source is not None:
        return problem
    start = source.index(problem.place.line) + problem.place.column - 1
    word = re.match(r"[\w-]*", source.text[start:])
    return replace(problem, source=source, start=start, end=start + (word.end() if word is not None else 1))

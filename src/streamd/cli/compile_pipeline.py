"""A checked pipeline → its plan and its compiled chains, without running anything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.diagnostics import Diagnostic, config_error
from streamd.config.load import load_pipelines
from streamd.config.pipeline import PipelineConfig
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError, StreamdError
from streamd.plan.fuse import Chain
from streamd.plan.graph import PartPlan, PipelinePlan, build_plan
from streamd.runtime.assembly import compile_chains

Chains = dict[tuple[int, str], Chain]


def load_and_compile(
    paths: list[Path], env: dict[str, str], service: ServiceConfig
) -> list[tuple[PipelineConfig, PipelinePlan, Chains]]:
    """Every pipeline of the paths with its plan and chains. Raises ConfigError with all problems of all of them."""
    configs = load_pipelines(paths, Registry.default(), env, service)
    problems: list[Diagnostic] = []
    compiled = []
    for config in configs:
        plan = build_plan(config)
        chains = asyncio.run(_compiled(plan, service, problems))
        compiled.append((config, plan, chains))
    if problems:
        raise config_error(problems)
    return compiled


async def _compiled(plan: PipelinePlan, service: ServiceConfig, problems: list[Diagnostic]) -> Chains:
    config = plan.config
    folder = config.file.parent if config.file is not None else Path.cwd()
    state_dir = service.state_dir / service.app
    context = PipelineContext(service.app, config.name, state_dir, folder, config.kafka, service.create_topics)
    chains: Chains = {}
    for part in plan.parts:
        try:
            chains |= compile_chains(part, await _stages(part, context, problems))
        except ConfigError as error:
            problems += _with_place(error, config)
    return chains


async def _stages(part: PartPlan, context: PipelineContext, problems: list[Diagnostic]) -> dict[str, object]:
    """The fused stages, with what they load (a table of `enrich`) loaded."""
    stages: dict[str, object] = {}
    for component in part.stages:
        try:
            stage = component.spec.factory(component.settings, context)
            if component.spec.fused:
                await stage.prepare()
                stages[component.id] = stage
        except StreamdError as error:
            message = f"stage `{component.id}`: {error}"
            problems.append(Diagnostic("unusable-component", message, component.place))
    return stages


def _with_place(error: ConfigError, config: PipelineConfig) -> Iterable[Diagnostic]:
    if not error.diagnostics:
        return [Diagnostic("bad-plan", str(error), config.place)]
    return [problem for problem in error.diagnostics if isinstance(problem, Diagnostic)]

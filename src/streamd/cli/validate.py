"""`streamd validate`."""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import Annotated, Any

import typer

from streamd.api.options import ApiOptions
from streamd.cli.compile_pipeline import load_and_compile
from streamd.cli.kafka_uses import kafka_uses
from streamd.cli.options import ConfigOption, Paths, SetOption, service_file, service_settings, variables
from streamd.cli.topic_sizes import sizes_that_do_not_fit
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError
from streamd.observability import redact
from streamd.observability.finding import Finding
from streamd.plan.graph import PipelinePlan

# What `--topics` tells of: that the brokers are fit for production is for `streamd doctor` to say.
_TOLD = ("connection", "topic", "topic settings", "partitions", "retention", "cleanup", "permission")


def command(
    paths: Paths,
    topics: Annotated[
        bool,
        typer.Option(
            "--topics",
            help="Look at the topics too, of Kafka and the embedded log: are they there, do those of a join have as "
            "many partitions, do they keep records as long as windows and joins reach?",
        ),
    ] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Check pipelines without running them, and show every problem.

    Nothing is connected to but with --topics; files that stages read (the table of `enrich`) must be there.
    """
    env = variables(set_)
    service = service_settings(config, env)
    ApiOptions.of(service.http).check()
    pipelines, shared = load_and_compile(paths, env, service)
    if topics:
        uses = kafka_uses([plan for _, plan, _ in pipelines], service, service_file(config))
        asyncio.run(_look_at_topics([plan for _, plan, _ in pipelines], uses, service))
    for pipeline, _, _ in pipelines:
        counts = [("source", pipeline.sources), ("stage", pipeline.stages), ("sink", pipeline.sinks)]
        if pipeline.tables:
            counts.insert(1, ("table", pipeline.tables))
        parts = ", ".join(f"{len(group)} {word}{'' if len(group) == 1 else 's'}" for word, group in counts)
        typer.echo(f"{pipeline.file}: pipeline {pipeline.name}: {parts}")
    for file in shared:
        offers = [("chain", file.library.chains), ("filter", file.library.filters)]
        typer.echo(f"{file.file}: {' and '.join(_count(len(known), word) for word, known in offers if known)}")
    said = [_count(len(pipelines), "pipeline")] if pipelines or not shared else []
    said += [_count(len(shared), "shared file")] if shared else []
    typer.echo(f"{' and '.join(said)} valid")


async def _look_at_topics(plans: list[PipelinePlan], uses: list[Any], service: ServiceConfig) -> None:
    """Tell of everything, on standard error. Raises ConfigError when something is no mere warning."""
    wrong: list[str] = []
    counts: dict[tuple[Any, str], int] = {}
    for use in uses:
        # By name: without Kafka nobody pays for importing a client of it.
        examination = importlib.import_module("streamd.transport.kafka.examination")
        findings, found = await examination.examine_topics(use)
        counts |= {(use.settings.address, topic): number for topic, number in found.items()}
        # That inputs differ in size matters where records of a key have to meet: see topic_sizes.py.
        told = [one for one in findings if one.level != "ok" and one.check in _TOLD]
        told = [one for one in told if (one.check, one.level) != ("partitions", "warning")]
        for finding in told:
            typer.echo(redact.text(_said(finding), limit=sys.maxsize), err=True)
        wrong += [finding.subject for finding in told if finding.level == "problem"]
    for plan, why in await sizes_that_do_not_fit(plans, counts, service):
        typer.echo(redact.text(f"problem: {why}", limit=sys.maxsize), err=True)
        wrong.append(plan.name)
    if wrong:
        raise ConfigError(f"the topics are not as the pipelines need them: {len(wrong)} problem{'s'[: len(wrong) > 1]}")


def _said(finding: Finding) -> str:
    parts = f"{finding.level}: {finding.subject}: {finding.seen}; needed: {finding.needed}"
    return f"{parts}. {finding.remedy}" if finding.remedy else parts


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"

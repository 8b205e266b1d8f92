"""`streamd validate`."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from streamd.api.options import ApiOptions
from streamd.cli.compile_pipeline import load_and_compile
from streamd.cli.kafka_uses import kafka_uses
from streamd.cli.options import ConfigOption, Paths, SetOption, service_file, service_settings, variables
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError, FatalError
from streamd.observability import redact
from streamd.observability.finding import Finding
from streamd.plan.graph import PipelinePlan
from streamd.supervisor.sizes import refuse_sizes, with_exchanges
from streamd.transport.embedded.log import log_path
from streamd.transport.embedded.stored import partitions_of_topics

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
        # That inputs differ in size matters where records of a key have to meet: see `_refuse_sizes`.
        told = [one for one in findings if one.level != "ok" and one.check in _TOLD]
        told = [one for one in told if (one.check, one.level) != ("partitions", "warning")]
        for finding in told:
            typer.echo(redact.text(_said(finding), limit=sys.maxsize), err=True)
        wrong += [finding.subject for finding in told if finding.level == "problem"]
    here = await partitions_of_topics(log_path(service.state_dir / service.app, service.app))
    for plan in plans:
        try:
            _refuse_sizes(plan, counts, here)
        except FatalError as error:
            typer.echo(redact.text(f"problem: {error}", limit=sys.maxsize), err=True)
            wrong.append(plan.name)
    if wrong:
        raise ConfigError(f"the topics are not as the pipelines need them: {len(wrong)} problem{'s'[: len(wrong) > 1]}")


def _refuse_sizes(plan: PipelinePlan, kafka: Mapping[tuple[Any, str], int], embedded: Mapping[str, int]) -> None:
    """Raise FatalError where records of a key could not meet.

    `kafka`: {(cluster, topic): its partitions}; `embedded`: {topic: its partitions} of the embedded log.
    """
    known: dict[str, int] = {}
    for source in plan.config.sources:
        settings: Any = source.settings
        number: int | None = None
        if source.name == "exchange":
            continue
        if source.name == "kafka":
            number = kafka.get((getattr(plan.config.kafka, "address", None), settings.topic))
        elif source.name == "log":
            number = embedded.get(settings.topic, settings.partitions or 1)
            if settings.partitions not in (None, number):
                raise FatalError(
                    f"{source.place}: topic {settings.topic!r} of the embedded log has {number} partitions, the "
                    f"settings say {settings.partitions}; the number cannot change: use another topic"
                )
        if number is None:
            return  # of another kind, or not there yet
        known[source.id] = number
    refuse_sizes(plan, with_exchanges(plan, known))


def _said(finding: Finding) -> str:
    parts = f"{finding.level}: {finding.subject}: {finding.seen}; needed: {finding.needed}"
    return f"{parts}. {finding.remedy}" if finding.remedy else parts


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"

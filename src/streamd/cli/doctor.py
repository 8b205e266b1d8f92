"""`streamd doctor`."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from streamd.cli.doctor_here import look_here
from streamd.cli.options import ConfigOption, SetOption, service_file, service_settings, variables, with_app
from streamd.component.registry import Registry
from streamd.config.load import SERVICE_FILE, load_pipelines
from streamd.config.service import ServiceConfig
from streamd.observability import redact
from streamd.observability.finding import Finding
from streamd.plan.graph import PartPlan, PipelinePlan, build_plan
from streamd.runtime.environment import refuse_untested


@dataclass(slots=True)
class Examination:
    """All that was found. `transactions`: those open, as JSON, by cluster."""

    findings: list[Finding] = field(default_factory=list)
    transactions: list[dict[str, Any]] = field(default_factory=list)


def command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH…]", help="Pipeline files, or folders of them.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    app: Annotated[str | None, typer.Option("--app", help="Look at this app, instead of the settings' own.")] = None,
    abort: Annotated[
        bool, typer.Option("--abort", help="End hanging transactions of the app, and those that nobody runs any more.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --abort: also those of pipelines that run, or may run.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    set_: SetOption = None,
) -> None:
    """Check brokers, topics and this machine; find transactions that hang.

    Changes nothing but with --abort; a transaction without records is begun and aborted, under an id of its own.
    Exit code 1 when something is wrong; warnings alone are none.
    """
    if yes and not abort:
        raise typer.BadParameter("it only goes with --abort", param_hint="--yes")
    if abort:
        refuse_untested()
    env = variables(set_)
    service = service_settings(config, env)
    if app is not None:
        service = with_app(service, app)
    configs = load_pipelines(paths, Registry.default(), env, service) if paths else []
    plans = [build_plan(one, service.app) for one in configs]
    uses = kafka_uses(plans, service, service_file(config))
    found = asyncio.run(_examine(plans, service, uses, abort, yes))
    _show_json(found, service) if as_json else _show(found)
    raise typer.Exit(int(any(finding.level == "problem" for finding in found.findings)))


async def _examine(
    plans: list[PipelinePlan], service: ServiceConfig, uses: list[Any], abort: bool, force: bool
) -> Examination:
    found = Examination()
    nodes = tasks = 0
    for use in uses:
        # By name: without Kafka nobody pays for importing a client of it.
        examined = await importlib.import_module("streamd.transport.kafka.examination").examine(use, abort, force)
        found.findings += examined.findings
        found.transactions += [one.as_json() for one in examined.held]
        nodes += examined.nodes
        tasks += examined.tasks
    found.findings[:0] = look_here(plans, service, nodes, tasks)
    return found


def kafka_uses(plans: Iterable[PipelinePlan], service: ServiceConfig, file: Path | None = None) -> list[Any]:
    """What is asked of each Kafka cluster (`transport.kafka.doctor.Use`), the service's own among them.

    `file`: where the service's settings are from.
    """
    from streamd.transport.kafka.doctor import Use

    uses: list[Any] = []
    if service.kafka is not None:
        uses.append(Use(service.kafka, service.app, service.create_topics, {}, {}, {}, str(file or SERVICE_FILE)))
    for plan in plans:
        settings = plan.config.kafka
        components = (*plan.config.tables, *(c for part in plan.parts for c in part.components))
        if settings is None or not any(component.spec.transport == "kafka" for component in components):
            continue
        use = next((one for one in uses if one.settings == settings), None)
        if use is None:
            named = str(plan.config.file or plan.name)
            use = Use(settings, service.app, service.create_topics, {}, {}, {}, named)
            uses.append(use)
        _add(use, plan)
    return uses


def _add(use: Any, plan: PipelinePlan) -> None:
    from streamd.transport.kafka.membership import group_name
    from streamd.transport.kafka.opening import transaction_options

    if any(part.transport == "kafka" for part in plan.parts):
        options = transaction_options(use.settings, plan.config.commit_interval)
        if plan.config.delivery != "at_least_once":
            use.timeouts[plan.name] = options.timeout
    for part in plan.parts:
        inputs = [source for source in part.sources if source.spec.transport == "kafka"]
        for source in inputs:
            named: Any = source.settings
            use.groups[plan.name] = named.group or group_name(use.app, plan.name)
        reach = max((getattr(stage.settings, "reach", 0.0) for stage in plan.config.stages), default=0.0)
        for topic, role, start_ms in _topics(use.app, plan, part):
            _use_topic(use, topic, role, plan.name, part, start_ms, reach if role == "input" else 0.0)


def _topics(app: str, plan: PipelinePlan, part: PartPlan) -> Iterator[tuple[str, str, int | None]]:
    """(topic, role, where reading begins in ms since the epoch) of a part."""
    for source in part.sources:
        if source.name == "kafka":
            settings: Any = source.settings
            yield settings.topic, "input", settings.start if settings.start >= 0 else None
    for table in plan.config.tables:
        if table.name == "kafka" and table.id in part.tables:
            looked_up: Any = table.settings
            yield looked_up.topic, "table", None
    for sink in part.all_sinks:
        if sink.name == "kafka":
            written: Any = sink.settings
            yield written.topic, "output", None
        elif sink.name == "exchange" and sink.spec.transport == "kafka":
            moved: Any = sink.settings
            yield moved.topic, "exchange", None
    if part.transport == "kafka":
        for stage in part.stages:
            if stage.spec.stateful:
                yield f"streamd.{app}.{plan.name}.{stage.id}.changelog", "changelog", None
        if not any(source.spec.transport == "kafka" for source in part.sources):
            yield f"streamd.{app}.{plan.name}.positions", "positions", None


def _use_topic(
    use: Any, topic: str, role: str, pipeline: str, part: PartPlan, start_ms: int | None, reach: float
) -> None:
    from streamd.transport.kafka.doctor import TopicUse

    inputs = sorted(
        {str(getattr(source.settings, "topic", "")) for source in part.sources if source.spec.transport == "kafka"}
    )
    together = tuple(inputs) if role in ("input", "changelog") else ()
    known = use.topics.get(topic)
    if known is None:
        use.topics[topic] = TopicUse(frozenset({role}), frozenset({pipeline}), together, start_ms, reach)
    else:
        start = start_ms if known.start_ms is None else known.start_ms
        use.topics[topic] = TopicUse(
            known.roles | {role}, known.pipelines | {pipeline}, known.together or together, start,
            max(known.reach, reach),
        )  # fmt: skip


_SIGNS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "problem": ("PROBLEM", "red")}


def _show(found: Examination) -> None:
    for finding in found.findings:
        sign, colour = _SIGNS[finding.level]
        head = f"{typer.style(f'{sign:<8}', fg=colour, bold=finding.level != 'ok')} {finding.check:<20} "
        typer.echo(redact.text(f"{head}{finding.subject}: {finding.seen}", limit=sys.maxsize))
        if finding.level != "ok":
            for name, text in (("needed", finding.needed), ("do", finding.remedy)):
                if text:
                    typer.echo(redact.text(f"{'':<9}{'':<20} {name}: {text}", limit=sys.maxsize))
    if found.transactions:
        typer.echo("\nopen transactions")
        for one in found.transactions:
            name = one["id"] or f"(no coordinator names it to us, producer {one['producer_id']})"
            typer.echo(
                f"  {one['verdict']:<9} {name}  producer {one['producer_id']} epoch {one['producer_epoch']}  "
                f"{one['age_seconds']:g} s of {one['timeout_seconds']:g} s  {', '.join(one['partitions'][:5])}"
            )
    counts = {level: sum(finding.level == level for finding in found.findings) for level in _SIGNS}
    typer.echo(
        f"\n{counts['problem']} problem{'' if counts['problem'] == 1 else 's'}, "
        f"{counts['warning']} warning{'' if counts['warning'] == 1 else 's'}, {counts['ok']} ok"
    )


def _show_json(found: Examination, service: ServiceConfig) -> None:
    counts = {level: sum(finding.level == level for finding in found.findings) for level in _SIGNS}
    document = {
        "app": service.app,
        "problems": counts["problem"],
        "warnings": counts["warning"],
        "findings": [asdict(finding) for finding in found.findings],
        "transactions": found.transactions,
    }
    typer.echo(redact.text(json.dumps(document, indent=1), limit=sys.maxsize))

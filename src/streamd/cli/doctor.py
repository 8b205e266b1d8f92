"""`streamd doctor`."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from streamd.cli.doctor_here import look_here
from streamd.cli.kafka_uses import kafka_uses
from streamd.cli.options import ConfigOption, SetOption, service_file, service_settings, variables, with_app
from streamd.cli.topic_sizes import sizes_that_do_not_fit
from streamd.component.registry import Registry
from streamd.config.load import load_pipelines
from streamd.config.service import ServiceConfig
from streamd.errors import StreamdError
from streamd.observability import redact
from streamd.observability.finding import Finding
from streamd.plan.graph import PipelinePlan, build_plan
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
    counts: dict[tuple[Any, str], int] = {}
    for use in uses:
        # By name: without Kafka nobody pays for importing a client of it.
        examined = await importlib.import_module("streamd.transport.kafka.examination").examine(use, abort, force)
        found.findings += examined.findings
        found.transactions += [one.as_json() for one in examined.held]
        nodes += examined.nodes
        tasks += examined.tasks
        counts |= {(use.settings.address, topic): number for topic, number in examined.partitions.items()}
    with suppress(StreamdError):  # of a log that cannot be read `look_here` tells
        found.findings += [
            Finding("partitions", "problem", f"pipeline {plan.name}", why, "all records of a key in one task")
            for plan, why in await sizes_that_do_not_fit(plans, counts, service)
        ]
    found.findings[:0] = look_here(plans, service, nodes, tasks)
    return found


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

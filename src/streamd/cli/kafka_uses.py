"""What pipelines ask of each Kafka cluster: its topics, each with what it is for, and groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from streamd.config.load import SERVICE_FILE
from streamd.config.service import ServiceConfig
from streamd.plan.graph import PartPlan, PipelinePlan


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

"""Keeps the metrics of topics that pipelines write up to date: how much open transactions hold back, and how long."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from streamd.errors import StreamdError
from streamd.observability import catalog
from streamd.observability.metrics import MetricSet
from streamd.plan.graph import PipelinePlan

log = structlog.get_logger(__name__)

INTERVAL = 10.0
"""Seconds between two looks."""


def written_topics(app: str, plan: PipelinePlan) -> set[str]:
    """The topics of Kafka that a pipeline writes: outputs, changelogs, positions."""
    topics: set[str] = set()
    for part in plan.parts:
        settings: Iterable[Any] = (sink.settings for sink in part.all_sinks if sink.spec.transport == "kafka")
        topics |= {one.topic for one in settings}
        if part.transport == "kafka":
            topics |= {
                f"streamd.{app}.{plan.name}.{stage.id}.changelog" for stage in part.stages if stage.spec.stateful
            }
            if not any(source.spec.transport == "kafka" for source in part.sources):
                topics.add(f"streamd.{app}.{plan.name}.positions")
    return topics


async def watch_topics(
    app: str, plans: Callable[[], Iterable[PipelinePlan]], metrics: MetricSet, interval: float = INTERVAL
) -> None:
    """Look for ever, as long as there are pipelines that write to Kafka. Ends by a cancel only."""
    watches: list[tuple[Any, Any]] = []  # (a cluster's settings, what looks at it)
    shown: set[str] = set()
    try:
        while True:
            await asyncio.sleep(interval)
            seen: set[str] = set()
            for settings, topics in _by_cluster(app, plans()):
                watch = next((watch for known, watch in watches if known == settings), None)
                if watch is None:
                    # By name: a node without Kafka must not pay for importing a client of it.
                    stability = importlib.import_module("streamd.transport.kafka.stability")
                    watch = stability.StabilityWatch(settings)
                    watches.append((settings, watch))
                seen |= await _look(watch, topics, metrics)
            for topic in shown - seen:
                metrics.remove(topic=topic)
            shown = seen
    finally:
        for _, watch in watches:
            await watch.close()


def _by_cluster(app: str, plans: Iterable[PipelinePlan]) -> list[tuple[Any, set[str]]]:
    found: list[tuple[Any, set[str]]] = []
    for plan in plans:
        topics = written_topics(app, plan)
        if not topics or plan.config.kafka is None:
            continue
        known = next((names for settings, names in found if settings == plan.config.kafka), None)
        if known is None:
            found.append((plan.config.kafka, topics))
        else:
            known |= topics
    return found


async def _look(watch: Any, topics: set[str], metrics: MetricSet) -> set[str]:
    try:
        found = await watch.look(topics)
    except Exception as error:
        # Whatever it is: metrics are no reason to fail, and the next look begins anew.
        if not isinstance(error, StreamdError):
            log.warning("Topics could not be looked at", error=type(error).__name__)
        await watch.close()
        return set()
    for topic, unstable in found.items():
        metrics.gauge(catalog.TOPIC_UNSTABLE_RECORDS, topic=topic).set(unstable.records)
        metrics.gauge(catalog.TOPIC_UNSTABLE_SECONDS, topic=topic).set(unstable.seconds)
    return set(found)

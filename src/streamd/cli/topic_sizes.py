"""Whether records of a key could meet, with as many partitions as the topics of pipelines have now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamd.config.service import ServiceConfig
from streamd.errors import FatalError
from streamd.plan.graph import PipelinePlan
from streamd.supervisor.sizes import refuse_sizes, with_exchanges
from streamd.transport.embedded.log import log_path
from streamd.transport.embedded.stored import partitions_of_topics


async def sizes_that_do_not_fit(
    plans: Sequence[PipelinePlan], kafka: Mapping[tuple[Any, str], int], service: ServiceConfig
) -> list[tuple[PipelinePlan, str]]:
    """(plan, why) of those that could not run. `kafka`: {(a cluster's address, topic): its partitions}.

    Raises UnavailableError, FatalError when the embedded log cannot be read; it is only where a pipeline reads it.
    """
    embedded: dict[str, int] = {}
    if any(source.name == "log" for plan in plans for source in plan.config.sources):
        embedded = await partitions_of_topics(log_path(service.state_dir / service.app, service.app))
    found = []
    for plan in plans:
        try:
            _refuse(plan, kafka, embedded)
        except FatalError as error:
            found.append((plan, str(error)))
    return found


def _refuse(plan: PipelinePlan, kafka: Mapping[tuple[Any, str], int], embedded: Mapping[str, int]) -> None:
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

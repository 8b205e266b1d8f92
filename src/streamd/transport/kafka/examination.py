"""One whole look at one cluster: all that the doctor asks, in order, and what it does when it is told to abort."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from streamd.errors import StreamdError
from streamd.observability.finding import Finding
from streamd.transport.kafka.doctor import Use, judge_clocks, judge_nodes, judge_rights, judge_settings, unreachable
from streamd.transport.kafka.doctor_topics import INTERNAL, judge_topics
from streamd.transport.kafka.doctor_transactions import Held, abort, judge, open_transactions
from streamd.transport.kafka.inspection import Inspection, Node

_USUAL_LONGEST: Final = 900.0  # seconds


@dataclass(slots=True)
class Examined:
    """What was found at one cluster. `tasks`: how many its pipelines have, one for each partition that they read.

    `partitions`: {topic: how many it has}, of those that are there and may be seen.
    """

    findings: list[Finding] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    nodes: int = 0
    tasks: int = 0
    partitions: dict[str, int] = field(default_factory=dict)


async def examine(use: Use, abort_held: bool = False, force: bool = False) -> Examined:
    """Look at everything; with `abort_held` end what hangs, and with `force` also what may not. Never raises for
    what a broker does or refuses: that is a finding.
    """
    found = Examined()
    inspection: Inspection | None = None
    try:
        inspection = Inspection(use.settings)
        await inspection.open()
        await _examine(inspection, use, found, abort_held, force)
    except StreamdError as error:
        found.findings.append(unreachable(use, error))
    finally:
        if inspection is not None:
            await inspection.close()
    return found


async def examine_topics(use: Use) -> tuple[list[Finding], dict[str, int]]:
    """What is wrong with the topics alone, and {topic: partitions} of those that are there. Never raises for what a
    broker does or refuses: that is a finding.
    """
    inspection: Inspection | None = None
    try:
        inspection = Inspection(use.settings)
        await inspection.open()
        topics, _ = await inspection.topics([*use.topics])
        findings = await judge_topics(inspection, use, topics, len(await inspection.nodes()))
        return findings, {name: topic.partitions for name, topic in topics.items() if not topic.denied}
    except StreamdError as error:
        return [unreachable(use, error)], {}
    finally:
        if inspection is not None:
            await inspection.close()


async def _examine(inspection: Inspection, use: Use, found: Examined, abort_held: bool, force: bool) -> None:
    nodes = await inspection.nodes()
    found.nodes = len(nodes)
    found.findings += judge_nodes(nodes)
    topics, cluster = await inspection.topics([*use.topics, *INTERNAL])
    # The transactions' own topics are hidden from users without rights on them; that is no finding.
    there = {name: topic for name, topic in topics.items() if not (topic.denied and name in INTERNAL)}
    found.findings += await judge_settings(inspection, nodes, use)
    found.findings += await judge_topics(inspection, use, there, len(nodes))
    found.partitions = {name: topic.partitions for name, topic in there.items() if not topic.denied}
    read = [name for name, how in use.topics.items() if "input" in how.roles]
    found.tasks = sum(there[name].partitions for name in read if name in there)
    missing = any(name not in topics for name in use.topics)
    found.findings += await judge_rights(inspection, use, cluster, missing)
    found.findings += await judge_clocks(inspection, use)
    used = {name: topic for name, topic in there.items() if name in use.topics and not topic.denied}
    longest = await _longest(inspection, nodes)
    told: set[str] = set()
    try:
        found.held = await open_transactions(inspection, use, used, longest)
        if abort_held and found.held:
            done = await abort(inspection, used, found.held, force)
            found.findings += done
            # What was left alone, or could not be ended, is told by that; what is ended is no finding any more.
            told = {finding.subject for finding in done if finding.level != "ok"}
            found.held = await open_transactions(inspection, use, used, longest)
    except StreamdError as error:
        remedy = "Grant Describe on the transactional ids and Read on the topics; it needs Kafka 3.0 or newer."
        found.findings.append(
            Finding("hanging transaction", "warning", use.settings.address, str(error), "may be listed", remedy)
        )
        return
    found.findings += judge(found.held, use, told)


async def _longest(inspection: Inspection, nodes: list[Node]) -> float:
    """Seconds that the brokers let a transaction be open."""
    try:
        found = [await inspection.broker_settings(node.id) for node in nodes if node.refused is None]
    except StreamdError:
        return _USUAL_LONGEST  # `judge_settings` says that they may not be read
    said = [int(one["transaction.max.timeout.ms"]) / 1000 for one in found if "transaction.max.timeout.ms" in one]
    return max(said, default=_USUAL_LONGEST)

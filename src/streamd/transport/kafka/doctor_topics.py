"""Whether topics are as the pipelines need them: there, replicated, of the right size and settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from streamd.clock import SYSTEM_CLOCK
from streamd.component.fields import duration_text
from streamd.errors import StreamdError
from streamd.observability.finding import Finding, judged
from streamd.transport.kafka.doctor import TopicUse, Use, judge_topic_rights
from streamd.transport.kafka.inspection import Inspection, Replicas

INTERNAL: Final = ("__transaction_state", "__consumer_offsets")

Settings = Mapping[str, str]


async def judge_topics(inspection: Inspection, use: Use, found: Mapping[str, Replicas], nodes: int) -> list[Finding]:
    """All topics of a cluster that pipelines use, and the two that hold transactions and offsets."""
    findings: list[Finding] = []
    there = {name: topic for name, topic in found.items() if not topic.denied}
    settings = await _settings(inspection, there, findings)
    for name in INTERNAL:
        if name in there:
            findings += _durable(name, there[name], settings.get(name, {}), nodes)
    for name, how in sorted(use.topics.items()):
        topic = found.get(name)
        if topic is None:
            findings.append(_missing(name, how, use, there))
            continue
        findings += judge_topic_rights(name, how, topic)
        if topic.denied:
            continue
        findings += _durable(name, topic, settings.get(name, {}), nodes)
        findings += _sized(name, how, topic, there)
        findings += _set_right(name, how, settings.get(name, {}), use)
    return findings


async def _settings(
    inspection: Inspection, there: Mapping[str, Replicas], findings: list[Finding]
) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for name in there:
        try:
            found |= await inspection.topic_settings([name])
        except StreamdError as error:
            remedy = "Grant DescribeConfigs on the topic, or look at its settings yourself."
            findings.append(Finding("topic settings", "warning", f"topic {name}", str(error), "may be read", remedy))
    return found


def _missing(name: str, how: TopicUse, use: Use, there: Mapping[str, Replicas]) -> Finding:
    roles = f"{' and '.join(sorted(how.roles))} of {', '.join(sorted(how.pipelines))}"
    if use.create_topics:
        return Finding("topic", "ok", f"topic {name}", "does not exist", f"is made at the start, as {roles}")
    made = "Create it"
    if "changelog" in how.roles:
        tasks = max((there[one].partitions for one in how.together if one in there), default=0)
        count = _of(tasks, "partition") if tasks else "as many partitions as its pipeline has tasks"
        made = f"Create it with {count}{', one for each task,' if tasks else ''} and cleanup.policy=compact"
    elif "positions" in how.roles:
        made = "Create it with 1 partition and cleanup.policy=compact"
    elif "exchange" in how.roles:
        made = "Create it with as many partitions as its pipeline has tasks, cleanup.policy=delete and retention.ms=-1"
    remedy = f"{made}, or set `create_topics: true` in streamd.yaml."
    return Finding("topic", "problem", f"topic {name}", "does not exist", f"exists, as {roles}", remedy)


def _durable(name: str, topic: Replicas, settings: Settings, nodes: int) -> list[Finding]:
    """Leaders, replicas, and how many of these must have a record before it is acknowledged."""
    subject = f"topic {name}"
    leaderless = sorted(partition for partition, leader in topic.leaders.items() if leader < 0)
    behind = sorted(p for p, count in topic.replicas.items() if topic.isr.get(p, 0) < count)
    replicas = min(topic.replicas.values(), default=0)
    minimum = int(settings.get("min.insync.replicas", "0"))
    findings = [
        judged(
            "topic", not leaderless, subject,
            f"partitions {leaderless} have no leader" if leaderless else f"{topic.partitions} partitions, all led",
            "a leader for each", "Bring the brokers back that hold their replicas.",
        ),
        judged(
            "replication", replicas >= 2, subject, _of(replicas, "replica"), "3 replicas",
            "A broker that is lost takes the records with it. Give the topic 3 replicas (kafka-reassign-partitions).",
            bad="warning",
        ),
    ]  # fmt: skip
    if behind:
        remedy = "Find out which broker is down or slow; with too few in sync nothing can be written."
        short = any(topic.isr.get(partition, 0) < minimum for partition in behind)
        seen = f"partitions {behind} have replicas that are not in sync"
        findings.append(Finding("replication", "problem" if short else "warning", subject, seen, "all in sync", remedy))
    if replicas >= 3 and minimum:
        findings.append(
            judged(
                "min ISR", 2 <= minimum < replicas, subject, f"min.insync.replicas is {minimum} of {replicas} replicas",
                f"2, or at most {replicas - 1}",
                "With 1, what was acknowledged is lost with one broker; with all, one broker less stops all writing. "
                "Set min.insync.replicas=2.", bad="warning",
            )
        )  # fmt: skip
    return findings


def _sized(name: str, how: TopicUse, topic: Replicas, there: Mapping[str, Replicas]) -> list[Finding]:
    """Partition counts: of topics that are read together, and of changelogs."""
    findings = []
    counts = {one: there[one].partitions for one in how.together if one in there}
    if len(counts) > 1 and name == how.together[0] and "input" in how.roles:
        findings.append(
            judged(
                "partitions", len(set(counts.values())) == 1, " and ".join(f"topic {one}" for one in counts),
                ", ".join(f"{one} has {count}" for one, count in counts.items()), "the same number",
                "Records of one key meet in one task only where the numbers are equal. Write to topics with the same "
                "number of partitions.", bad="warning",
            )
        )  # fmt: skip
    if "changelog" in how.roles and counts:
        tasks = max(counts.values())
        findings.append(
            judged(
                "partitions", topic.partitions == tasks, f"topic {name}", _of(topic.partitions, "partition"),
                f"{tasks}, one for each task",
                "The input was given more partitions after the changelog was made. Stop the pipeline and give the "
                "changelog as many.",
            )
        )  # fmt: skip
    return findings


def _set_right(name: str, how: TopicUse, settings: Settings, use: Use) -> list[Finding]:
    """Settings of the topic itself: compaction, sizes, retention."""
    subject = f"topic {name}"
    findings: list[Finding] = []
    if not settings:
        return findings
    policy = settings.get("cleanup.policy", "")
    if how.roles & {"changelog", "positions"}:
        remedy = f"Records that are deleted are state that is lost. Set cleanup.policy=compact on {name}."
        findings.append(judged("cleanup", policy == "compact", subject, f"cleanup.policy={policy}", "compact", remedy))
    limit = use.settings.option("producer", "max.request.size")
    takes = int(settings.get("max.message.bytes", "0"))
    if how.roles - {"input", "table"} and takes:
        findings.append(
            judged(
                "record size", takes >= limit, subject, f"takes {takes} bytes (max.message.bytes)",
                f"{limit}, what the producer may send (max.request.size)",
                "Larger records fail in the sink. Raise max.message.bytes, or lower the option `max.request.size`.",
                bad="warning",
            )
        )  # fmt: skip
    retention = int(settings.get("retention.ms", "-1"))
    if "input" in how.roles and how.start_ms is not None and how.start_ms > 0 and "delete" in policy and retention > 0:
        kept_since = SYSTEM_CLOCK.now_ms() - retention
        findings.append(
            judged(
                "retention", how.start_ms >= kept_since, subject,
                f"keeps {duration_text(retention / 1000, ' ')} (retention.ms)",
                f"{(SYSTEM_CLOCK.now_ms() - how.start_ms) / 3_600_000:.0f} h, where `start` begins",
                "Older records may be gone. Raise retention.ms before, or begin later.", bad="warning",
            )
        )  # fmt: skip
    if "table" in how.roles:
        remedy = f"Rows that are deleted are not found after the next start. Set cleanup.policy=compact on {name}."
        kept = policy == "compact" or retention < 0
        findings.append(
            judged("cleanup", kept, subject, f"cleanup.policy={policy}", "compact, for a table", remedy, bad="warning")
        )
    if "delete" in policy and retention > 0:
        findings += kept_long_enough(subject, how, retention)
    return findings


def kept_long_enough(subject: str, how: TopicUse, retention: int) -> list[Finding]:
    """Whether records are still there when stages want them; state has them in any case, but for a new beginning."""
    findings, kept = [], f"keeps {duration_text(retention / 1000, ' ')} (retention.ms)"
    if "input" in how.roles and how.reach:
        findings.append(
            judged(
                "retention", retention >= 1000 * how.reach, subject, kept,
                f"{duration_text(how.reach, ' ')}, which windows and joins put together",
                "What they remember could not be computed once more, as after `streamd state reset`, in a `streamd "
                "replay`, or after a long standstill. Raise retention.ms.", bad="warning",
            )
        )  # fmt: skip
    if "exchange" in how.roles:
        remedy = "What is not read by then is lost; what is read streamd deletes itself. Set retention.ms=-1."
        findings.append(Finding("retention", "problem", subject, kept, "until it is read", remedy))
    return findings


def _of(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"

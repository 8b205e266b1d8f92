"""Whether a cluster can keep what its pipelines promise: brokers, their settings, clocks and permissions.

Topics are looked at in `doctor_topics`, transactions in `doctor_transactions`. Nothing of a user is changed: the one
thing written is a probing transaction without records (`inspection.Probe`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from streamd.errors import AccessDeniedError, FatalError, StreamdError, UnavailableError
from streamd.observability.finding import Finding, judged
from streamd.transport.kafka.inspection import Clock, Inspection, Node, Probe, Replicas
from streamd.transport.kafka.settings import KafkaSettings

# {request's key: (name, version that is spoken, since which Kafka)}
NEEDED: Final = {
    0: ("Produce", 8, "2.4"),
    1: ("Fetch", 11, "2.3"),
    9: ("OffsetFetch", 7, "2.5"),
    22: ("InitProducerId", 0, "0.11"),
    24: ("AddPartitionsToTxn", 0, "0.11"),
    25: ("AddOffsetsToTxn", 0, "0.11"),
    26: ("EndTxn", 0, "0.11"),
    28: ("TxnOffsetCommit", 3, "2.5"),
}
WISHED: Final = {
    61: ("DescribeProducers", 0, "3.0"),
    65: ("DescribeTransactions", 0, "3.0"),
    66: ("ListTransactions", 0, "3.0"),
}
# Marks by which a version is told: {request's key: (highest version at least, lowest version at least, Kafka)}.
_MARKS: Final = ((1, 11, 4, "4.0"), (74, 0, 0, "3.7"), (68, 0, 0, "3.5"), (66, 0, 0, "3.0"), (9, 7, 0, "2.5"))
_TOLERANCE: Final = 1.0  # seconds of clock skew
_PROBES: Final = 12
_OF_GROUPS: Final = "See that every broker is up and the partitions of __consumer_offsets have leaders, and look again."


@dataclass(frozen=True, slots=True)
class TopicUse:
    """What a topic is used for.

    `roles`: input, table, output, changelog, positions. `tasks`: of a changelog's part, 0: any.
    `together`: sorted inputs of the part that reads it. `start_ms`: where a source begins that says a time. `reach`:
    for how many seconds of event time the stages of a pipeline that reads it put records together.
    """

    roles: frozenset[str]
    pipelines: frozenset[str]
    together: tuple[str, ...] = ()
    start_ms: int | None = None
    reach: float = 0.0


@dataclass(frozen=True, slots=True)
class Use:
    """What the pipelines of one cluster ask of it. `groups`, `timeouts` (seconds): by pipeline.

    `file`: the one whose `kafka` section names the cluster.
    """

    settings: KafkaSettings
    app: str
    create_topics: bool
    topics: Mapping[str, TopicUse] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    timeouts: Mapping[str, float] = field(default_factory=dict)
    file: str = "streamd.yaml"


def unreachable(use: Use, error: StreamdError) -> Finding:
    """The finding for a cluster that cannot be asked anything."""
    if isinstance(error, AccessDeniedError):
        remedy = f"Put `kafka.sasl` right in {use.file}, or grant that user on the brokers what is denied."
    elif isinstance(error, UnavailableError):
        remedy = (
            f"See that a broker runs there and can be reached from this machine. If the address is wrong, put "
            f"`kafka.bootstrap` right in {use.file}: host and port of a listener that speaks "
            f"{use.settings.security_protocol}, as `kafka.tls` and `kafka.sasl` there say."
        )
    else:
        remedy = f"Put what it names right in the `kafka` section of {use.file}."
    return Finding("connection", "problem", use.settings.address, str(error), "a broker that lets us in", remedy)


def judge_nodes(nodes: list[Node]) -> list[Finding]:
    """Every broker answers, and speaks the requests that streamd sends."""
    findings = []
    for node in nodes:
        if node.refused is not None:
            remedy = "Start it, or open the way from here to the address that it advertises (advertised.listeners)."
            findings.append(Finding("broker", "problem", node.name, node.refused, "an answer", remedy))
            continue
        lacking = {key: need for key, need in NEEDED.items() if not _speaks(node, key, need[1])}
        said = ", ".join(f"{name} v{version}" for name, version, _ in (lacking or NEEDED).values())
        seen = f"does not speak {said}" if lacking else f"Kafka {_version(node)} or newer"
        remedy = "Upgrade the brokers to Kafka 2.5 or newer, and put a proxy between out of the way."
        findings.append(judged("broker", not lacking, node.name, seen, "Kafka 2.5 or newer", remedy))
        missing = [name for key, (name, version, _) in WISHED.items() if not _speaks(node, key, version)]
        if missing and not lacking:
            findings.append(
                Finding(
                    "broker features", "warning", node.name, f"does not speak {', '.join(missing)}", "Kafka 3.0",
                    "Open transactions cannot be listed; upgrade to see them.",
                )
            )  # fmt: skip
    return findings


def _speaks(node: Node, key: int, version: int) -> bool:
    low, high = node.versions.get(key, (0, -1))
    return low <= version <= high


def _version(node: Node) -> str:
    for key, high, low, version in _MARKS:
        found = node.versions.get(key)
        if found is not None and found[1] >= high and found[0] >= low:
            return version
    return "before 2.5"


async def judge_settings(inspection: Inspection, nodes: list[Node], use: Use) -> list[Finding]:
    """What the brokers' own settings allow."""
    findings: list[Finding] = []
    for node in nodes:
        if node.refused is not None:
            continue
        try:
            settings = await inspection.broker_settings(node.id)
        except StreamdError as error:
            remedy = "Grant DescribeConfigs on the cluster, or look at the brokers' settings yourself."
            findings.append(Finding("broker settings", "warning", node.name, str(error), "may be read", remedy))
            continue
        findings.append(_timeout(node, settings, use))
        findings += _replication(node, settings, len(nodes))
    return findings


def _timeout(node: Node, settings: Mapping[str, str], use: Use) -> Finding:
    allowed = int(settings.get("transaction.max.timeout.ms", "900000"))
    longest = max(use.timeouts.values(), default=10.0)
    who = next((name for name, timeout in use.timeouts.items() if timeout == longest), "any pipeline")
    return judged(
        "transaction timeout",
        longest * 1000 <= allowed,
        node.name,
        f"transaction.max.timeout.ms is {allowed}",
        f"{longest * 1000:.0f}, which {who} asks for",
        "Raise it on the brokers, or lower `commit_interval` or the option `transaction.timeout.ms` of the pipeline.",
    )


def _replication(node: Node, settings: Mapping[str, str], nodes: int) -> list[Finding]:
    """Replication of the topics that hold transactions and offsets, as it is when a broker makes them."""
    findings = []
    wanted = min(3, nodes)
    for name, minimum in (
        ("transaction.state.log.replication.factor", wanted),
        ("offsets.topic.replication.factor", wanted),
        ("transaction.state.log.min.isr", 2 if nodes >= 3 else 1),
    ):
        value = int(settings.get(name, "0"))
        findings.append(
            judged(
                "broker settings", value >= max(minimum, 2), node.name, f"{name} is {value}",
                "2" if name.endswith("min.isr") else "3",
                "A broker that is lost takes what was committed with it. Have 3 brokers, and 3 replicas of these.",
                bad="warning",
            )
        )  # fmt: skip
    return findings


async def judge_rights(inspection: Inspection, use: Use, cluster: frozenset[str], missing: bool) -> list[Finding]:
    """What we may do, as the brokers say it. `cluster`: operations on the cluster; `missing`: topics are to be made."""
    findings = []
    if missing and use.create_topics:
        findings.append(
            judged(
                "permission", "Create" in cluster, "cluster", f"may {_listed(cluster)}", "Create, for missing topics",
                "Grant Create on the cluster (or on the topics), or make the topics yourself.", bad="warning",
            )
        )  # fmt: skip
    for pipeline, group in use.groups.items():
        try:
            found = await inspection.group(group)
        except AccessDeniedError as error:
            remedy = f"Grant Read and Describe on the group {group} to the principal of `kafka.sasl`."
            findings.append(Finding("permission", "problem", f"group {group}", str(error), "Read, Describe", remedy))
            continue
        except StreamdError as error:
            findings.append(Finding("group", "problem", f"group {group}", str(error), "a coordinator", _OF_GROUPS))
            continue
        findings.append(
            judged(
                "permission", "Read" in found.operations, f"group {group}", f"may {_listed(found.operations)}",
                f"Read, for pipeline {pipeline}", f"Grant Read on the group {group}.",
            )
        )  # fmt: skip
    return findings


def judge_topic_rights(name: str, use: TopicUse, topic: Replicas) -> list[Finding]:
    """What we may do with a topic that is there."""
    wanted = set()
    if use.roles & {"input", "table", "changelog", "positions", "exchange"}:
        wanted.add("Read")
    if use.roles & {"output", "changelog", "positions", "exchange"}:
        wanted.add("Write")
    lacking = frozenset(wanted - topic.operations) | {"Describe"}
    return [
        judged(
            "permission", lacking == {"Describe"} and not topic.denied, f"topic {name}",
            "may not be described" if topic.denied else f"may {_listed(topic.operations)}",
            _listed(frozenset(wanted | {"Describe"})), f"Grant {_listed(lacking)} on the topic {name}.",
        )
    ]  # fmt: skip


def _listed(operations: frozenset[str]) -> str:
    return ", ".join(sorted(operations)) or "nothing"


async def judge_clocks(inspection: Inspection, use: Use) -> list[Finding]:
    """Try the transactional ids, and read the brokers' clocks by the way."""
    timeout = max(use.timeouts.values(), default=10.0)
    group = next(iter(use.groups.values()), f"streamd.{use.app}.doctor")
    clocks: dict[int, Clock] = {}
    nodes = len(await inspection.client.nodes(5.0))
    prefix = f"streamd.{use.app}."
    for number in range(_PROBES if nodes > 1 else 1):
        try:
            clock = await Probe(inspection, use.app, number, group, timeout).run()
        except AccessDeniedError as error:
            remedy = f"Grant Write and Describe on transactional ids that start with `{prefix}`, and Read on the group."
            return [Finding("permission", "problem", f"transactional id {prefix}*", str(error), "Write", remedy)]
        except StreamdError as error:
            return [_no_probe(error, prefix)]
        clocks.setdefault(clock.node, clock)
        if len(clocks) == nodes:
            break
    findings = [
        Finding("permission", "ok", f"transactional id {prefix}*", "a transaction was begun and aborted", "Write")
    ]
    findings += [_skew(clock) for clock in clocks.values()]
    return findings


def _no_probe(error: StreamdError, prefix: str) -> Finding:
    remedy = "See that every broker is up and the partitions of __transaction_state have leaders, and look again."
    if isinstance(error, FatalError) and "INVALID_TRANSACTION_TIMEOUT" in str(error):
        remedy = "Raise transaction.max.timeout.ms on the brokers, or lower the option `transaction.timeout.ms`."
    return Finding("transaction", "problem", f"transactional id {prefix}*", str(error), "a transaction begins", remedy)


def _skew(clock: Clock) -> Finding:
    way = "ahead of" if clock.ahead >= 0 else "behind"
    return judged(
        "clock", abs(clock.ahead) - clock.within <= _TOLERANCE, f"broker {clock.node}",
        f"{abs(clock.ahead):.3f} s {way} this machine, to within {clock.within:.3f} s", f"at most {_TOLERANCE:g} s",
        "Let NTP or chrony set both clocks: timestamps, latencies and retention go by them.", bad="warning",
    )  # fmt: skip

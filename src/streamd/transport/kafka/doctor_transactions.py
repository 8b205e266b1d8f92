"""Transactions of an app that are open, which of them hang, and how these are ended.

An open transaction holds back every reader of committed records. It hangs when nobody will end it: it is open for
longer than its timeout, or its coordinator knows nothing of it (which a broker or a producer with a bug leaves behind).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from streamd.clock import SYSTEM_CLOCK
from streamd.errors import StreamdError
from streamd.observability.finding import Finding
from streamd.transport.kafka.doctor import Use
from streamd.transport.kafka.inspection import Inspection, OpenProducer, Place, Probe, Replicas, Transaction
from streamd.transport.kafka.membership import group_name

Verdict = Literal["open", "overdue", "orphaned"]
GRACE: Final = 15.0
"""Seconds that a coordinator may take to abort what is open for longer than its timeout (it looks every 10 s)."""
_LONGEST_TIMEOUT: Final = 900.0


@dataclass(frozen=True, slots=True)
class Held:
    """One open transaction. `id`: None when no coordinator knows it. `age`, `timeout`: seconds, -1 when not known.

    `live`: members of the group that run its pipeline now, as texts; None when that cannot be told.
    """

    verdict: Verdict
    id: str | None
    producer_id: int
    epoch: int
    age: float
    timeout: float
    places: tuple[Place, ...]
    live: tuple[str, ...] | None
    source: Transaction | OpenProducer

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "id": self.id,
            "verdict": self.verdict,
            "producer_id": self.producer_id,
            "producer_epoch": self.epoch,
            "age_seconds": round(self.age, 1),
            "timeout_seconds": self.timeout,
            "partitions": [f"{topic}[{partition}]" for topic, partition in self.places],
            "members": self.live,
        }

    @property
    def name(self) -> str:
        """What to call it."""
        return self.id if self.id is not None else f"producer {self.producer_id}"


async def open_transactions(
    inspection: Inspection, use: Use, topics: Mapping[str, Replicas], longest: float = _LONGEST_TIMEOUT
) -> list[Held]:
    """The app's open transactions, and what holds the used topics back without being known to a coordinator.

    `longest`: seconds that brokers let a transaction be open. Raises what the brokers refuse.
    """
    prefix = f"streamd.{use.app}."
    own = [one for one in await inspection.transactions(prefix) if not Probe.owns(use.app, one.id)]
    held = [await _judged(inspection, use, one) for one in own]
    unstable = await inspection.unstable(topics)
    producers = await inspection.open_producers(topics, unstable)
    known = await inspection.transactions(producer_ids={one.producer_id for one in producers}) if producers else []
    covered = {(one.producer_id, place) for one in known for place in one.places}
    for producer in producers:
        age = (SYSTEM_CLOCK.now_ms() - producer.last_ms) / 1000
        # Younger ones may have begun, or ended, since; and ids that we may not describe are not listed to us.
        if (producer.producer_id, producer.place) not in covered and age > longest + GRACE:
            at = (producer.place,)
            held.append(Held("orphaned", None, producer.producer_id, producer.epoch, age, -1, at, (), producer))
    return sorted(held, key=lambda one: -one.age)


async def _judged(inspection: Inspection, use: Use, one: Transaction) -> Held:
    age = (SYSTEM_CLOCK.now_ms() - one.start_ms) / 1000 if one.start_ms > 0 else -1.0
    timeout = one.timeout_ms / 1000
    verdict: Verdict = "overdue" if age > timeout + GRACE else "open"
    live = await _live(inspection, use, one.id)
    return Held(verdict, one.id, one.producer_id, one.epoch, age, timeout, one.places, live, one)


async def _live(inspection: Inspection, use: Use, transactional_id: str) -> tuple[str, ...] | None:
    """Who runs the pipeline of a transactional id, `streamd.APP.PIPELINE.PART.PARTITION`; None when unknown."""
    pipeline = transactional_id.removeprefix(f"streamd.{use.app}.").rsplit(".", 2)[0]
    if pipeline not in use.groups and pipeline in use.timeouts:
        return None  # it reads nothing from Kafka, so that there is no group to ask
    try:
        found = await inspection.group(use.groups.get(pipeline, group_name(use.app, pipeline)))
    except StreamdError:
        return None
    return found.members


def judge(held: list[Held]) -> list[Finding]:
    """A finding for each that hangs, and one that all is well when none does."""
    findings = []
    for one in held:
        if one.verdict == "open":
            findings += _deserted(one)
            continue
        why = "no coordinator knows of it" if one.verdict == "orphaned" else f"its timeout is {one.timeout:g} s"
        seen = f"open for {one.age:.0f} s, {why}; producer {one.producer_id}, epoch {one.epoch}, in {_places(one)}"
        remedy = "Readers of committed records stand still there. End it with `streamd doctor --abort`."
        findings.append(Finding("hanging transaction", "problem", one.name, seen, "ended by its timeout", remedy))
    if all(one.verdict == "open" for one in held):
        count = len(held)
        seen = f"none of {count} open" if count else "none open"
        findings.append(Finding("hanging transaction", "ok", "transactions of the app", seen, "none hangs"))
    return findings


def _deserted(one: Held) -> list[Finding]:
    """A warning for a transaction that its own producer will not end."""
    if one.live != ():
        return []
    seen = f"open for {one.age:.0f} s in {_places(one)}, and its pipeline has no member in its group"
    remedy = "It ends when a node runs the pipeline, at its timeout, or with `streamd doctor --abort`."
    return [Finding("open transaction", "warning", one.name, seen, f"ended within {one.timeout:g} s", remedy)]


async def abort(inspection: Inspection, topics: Mapping[str, Replicas], held: list[Held], force: bool) -> list[Finding]:
    """End open transactions: those that hang, and those of pipelines that nobody runs. With `force` all of them."""
    findings = []
    for one in held:
        if (reason := _spared(one)) and not force:
            remedy = "Its own producer ends it. With --yes it is aborted all the same: that task starts anew."
            findings.append(Finding("abort", "warning", one.name, f"left alone: {reason}", "", remedy))
            continue
        try:
            if isinstance(one.source, Transaction):
                await inspection.end_transaction(one.source)
            else:
                await inspection.write_abort_marker(topics, one.source)
        except StreamdError as error:
            remedy = "Ending one that no coordinator knows needs ClusterAction or Alter on the cluster."
            findings.append(Finding("abort", "problem", one.name, str(error), "aborted", remedy))
            continue
        seen = f"aborted, after {one.age:.0f} s, in {_places(one)}"
        findings.append(Finding("abort", "ok", one.name, seen))
    return findings


def _spared(one: Held) -> str | None:
    """Why a transaction is not to be aborted without being told twice."""
    if one.live:
        return f"its pipeline is run by {', '.join(one.live[:3])}"
    if one.live is None and one.verdict == "open":
        return "whether its pipeline runs cannot be told, and it is within its timeout"
    return None


def _places(one: Held) -> str:
    shown = ", ".join(f"{topic}[{partition}]" for topic, partition in one.places[:5])
    return f"{shown} and {len(one.places) - 5} more" if len(one.places) > 5 else shown or "no partition"

"""Transactions of an app that are open, which of them hang, how these are ended, and who else holds its topics back.

An open transaction holds back every reader of committed records. It hangs when nobody will end it: it is open for
longer than its timeout, or its coordinator knows nothing of it (which a broker or a producer with a bug leaves behind).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from streamd.clock import SYSTEM_CLOCK
from streamd.errors import StreamdError
from streamd.observability.finding import Finding
from streamd.transport.kafka.doctor import Use
from streamd.transport.kafka.inspection import Inspection, OpenProducer, Place, Probe, Replicas, Transaction
from streamd.transport.kafka.membership import group_name

Verdict = Literal["open", "overdue", "orphaned", "foreign"]
"""`foreign`: not of the app, or of nobody knows whom; never ended by us."""
GRACE: Final = 15.0
"""Seconds that a coordinator may take to abort what is open for longer than its timeout (it looks every 10 s)."""
_LONGEST_TIMEOUT: Final = 900.0


@dataclass(frozen=True, slots=True)
class Held:
    """One open transaction. `id`: None when no coordinator names it. `age`, `timeout`: seconds, -1 when not known.

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
    """The app's open transactions, and all others that hold the used topics back.

    `longest`: seconds that brokers let a transaction be open. Raises what the brokers refuse.
    """
    prefix = f"streamd.{use.app}."
    own = [one for one in await inspection.transactions(prefix) if not Probe.owns(use.app, one.id)]
    held = [await _judged(inspection, use, one) for one in own]
    unstable = await inspection.unstable(topics)
    producers = await inspection.open_producers(topics, unstable)
    known = await inspection.transactions(producer_ids={one.producer_id for one in producers}) if producers else []
    held += [_foreign(one, producers) for one in known if not one.id.startswith(prefix)]
    covered = {(one.producer_id, place) for one in known for place in one.places}
    unnamed = [one for one in producers if (one.producer_id, one.place) not in covered]
    if unnamed:
        # What is still open was open when coordinators were asked for it, so that it was not just ended.
        still = await inspection.open_producers(topics, {one.place for one in unnamed})
        begun = {(one.producer_id, one.place, one.start_offset) for one in still}
        unnamed = [one for one in unnamed if (one.producer_id, one.place, one.start_offset) in begun]
    held += [_unnamed(one, longest) for one in unnamed]
    return sorted(held, key=lambda one: -one.age)


def _foreign(one: Transaction, producers: Collection[OpenProducer]) -> Held:
    """Another program's transaction, with those of its partitions that concern us."""
    places = tuple(sorted(producer.place for producer in producers if producer.producer_id == one.producer_id))
    timeout = one.timeout_ms / 1000
    return Held("foreign", one.id, one.producer_id, one.epoch, _age(one.start_ms), timeout, places, None, one)


def _unnamed(producer: OpenProducer, longest: float) -> Held:
    """One that no coordinator names: it is lost, or of an id that we may not describe, which is not listed to us.

    Only one that is older than any transaction may be is surely lost.
    """
    age, at = _age(producer.last_ms), (producer.place,)
    lost = age > longest + GRACE
    verdict: Verdict = "orphaned" if lost else "foreign"
    return Held(verdict, None, producer.producer_id, producer.epoch, age, -1, at, () if lost else None, producer)


def _age(since_ms: int) -> float:
    return (SYSTEM_CLOCK.now_ms() - since_ms) / 1000 if since_ms > 0 else -1.0


async def _judged(inspection: Inspection, use: Use, one: Transaction) -> Held:
    age, timeout = _age(one.start_ms), one.timeout_ms / 1000
    verdict: Verdict = "overdue" if age > timeout + GRACE else "open"
    live = await _live(inspection, use, one.id)
    return Held(verdict, one.id, one.producer_id, one.epoch, age, timeout, one.places, live, one)


async def _live(inspection: Inspection, use: Use, transactional_id: str) -> tuple[str, ...] | None:
    """Who runs the pipeline of a transactional id, `streamd.APP.PIPELINE.PART.PARTITION`; None when unknown."""
    pipeline = transactional_id.removeprefix(f"streamd.{use.app}.").rsplit(".", 2)[0]
    known = pipeline in use.groups
    if not known and pipeline in use.timeouts:
        return None  # it reads nothing from Kafka, so that there is no group to ask
    try:
        found = await inspection.group(use.groups[pipeline] if known else group_name(use.app, pipeline))
    except StreamdError:
        return None
    # Without its file, it may have a group of another name: nobody in the usual one says nothing.
    return found.members if known or found.members else None


def judge(held: list[Held], use: Use, told: Collection[str] = ()) -> list[Finding]:
    """A finding for each that hangs or is another's, and one that all is well when none of the app hangs.

    `told`: names of those that something was said about already.
    """
    findings = []
    for one in held:
        if one.name in told:
            continue
        if one.verdict == "foreign":
            findings.append(_of_another(one, use))
            continue
        if one.verdict == "open":
            findings += _deserted(one)
            continue
        why = "no coordinator knows of it" if one.verdict == "orphaned" else f"its timeout is {one.timeout:g} s"
        seen = f"open for {one.age:.0f} s, {why}; producer {one.producer_id}, epoch {one.epoch}, in {_places(one)}"
        remedy = "Readers of committed records stand still there. End it with `streamd doctor --abort`."
        findings.append(Finding("hanging transaction", "problem", one.name, seen, "ended by its timeout", remedy))
    own = [one for one in held if one.verdict != "foreign"]
    if all(one.verdict == "open" for one in own):
        count = len(own)
        seen = f"none of {count} open" if count else "none open"
        findings.append(Finding("hanging transaction", "ok", "transactions of the app", seen, "none hangs"))
    return findings


def _of_another(one: Held, use: Use) -> Finding:
    """A warning that topics of the pipelines are held back by what is not the app's."""
    roles = {role for topic, _ in one.places for role in use.topics[topic].roles}
    pipelines = {name for topic, _ in one.places for name in use.topics[topic].pipelines}
    what = f"{' and '.join(sorted(roles))} of {', '.join(sorted(pipelines))}"
    seen = f"open for {one.age:.0f} s, not of app {use.app}; holds back {_places(one)}, {what}"
    if one.id is None:
        seen += ". Its transactional id is not shown to us, or no coordinator knows of it"
        remedy = (
            "Grant Describe on transactional ids to see whose it is. `--abort` leaves it alone until it is older than "
            "any transaction may be."
        )
        return Finding("open transaction", "warning", one.name, seen, "ended by its own program", remedy)
    remedy = "What is committed behind it waits. Look after the program with that transactional id"
    if (parts := one.id.split("."))[0] == "streamd" and len(parts) >= 3:
        remedy += f" (`streamd doctor --app {parts[1]}`)"
    remedy += "; `--abort` leaves it alone."
    return Finding(
        "open transaction", "warning", one.name, seen, f"ended by its own program, within {one.timeout:g} s", remedy
    )


def _deserted(one: Held) -> list[Finding]:
    """A warning for a transaction that its own producer will not end."""
    if one.live != ():
        return []
    seen = f"open for {one.age:.0f} s in {_places(one)}, and its pipeline has no member in its group"
    remedy = "It ends when a node runs the pipeline, at its timeout, or with `streamd doctor --abort`."
    return [Finding("open transaction", "warning", one.name, seen, f"ended within {one.timeout:g} s", remedy)]


async def abort(inspection: Inspection, topics: Mapping[str, Replicas], held: list[Held], force: bool) -> list[Finding]:
    """End the app's open transactions that hang or that nobody runs, with `force` all. Never those of others."""
    findings = []
    for one in held:
        if one.verdict == "foreign":
            continue
        if (reason := _spared(one)) and not force:
            remedy = "Its own producer ends it. With --yes it is aborted all the same: that task starts anew."
            if one.live is None:
                remedy += " Where the pipeline's file is given, the members of its group tell whether it runs."
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

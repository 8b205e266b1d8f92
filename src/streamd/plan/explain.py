"""What a pipeline will do, in words: graph, topics, keys, delivery of each sink, tasks, generated code. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamd.codecs import TEXT
from streamd.codecs.beside import key_format
from streamd.component.fields import duration_text
from streamd.config.pipeline import ChainUse, ComponentConfig, Delivery, ErrorPolicy
from streamd.plan.chain import Chain
from streamd.plan.graph import PartPlan, PipelinePlan, outputs_of

_CHECKPOINTS = {
    "kafka": "one Kafka transaction for outputs and positions",
    "embedded": "one SQLite transaction for outputs and positions",
}


def explain(plan: PipelinePlan, chains: Mapping[tuple[int, str], Chain], *, code: bool = False) -> str:
    """The plan as text. `chains` are the compiled ones, by (part, entry); with `code` their source is shown."""
    config = plan.config
    lines = [f"pipeline {plan.name}" + (f": {config.description}" if config.description else "")]
    lines.append(
        f"  delivery   {_delivery(plan)}, checkpoint at most every {duration_text(config.commit_interval, ' ')}"
    )
    lines.append(f"  on error   {_policy(config.on_error)}")
    if config.error_threshold is not None:
        limit = config.error_threshold
        lines.append(
            f"  stops      when more than {limit.rate:.2%} of records fail within {duration_text(limit.window, ' ')}"
        )
    lines += [f"  snapshots  {line}" for line in _snapshots(plan)]
    lines += [f"  standbys   {line}" for line in _standbys(plan)]
    lines += [f"  chain      {_chain(use)}" for use in config.chains]
    lines += [f"  exchange   {line}" for line in _exchanges(plan)]
    lines += [f"  table      {_table(table)}" for table in config.tables]
    lines += [f"  warning    {stage.id}: {what}" for stage in config.stages if (what := _growth(stage))]
    for part in plan.parts:
        lines += ["", *_part(part, plan)]
    if code:
        for (index, entry), chain in chains.items():
            lines += ["", _title(index, entry, chain, len(plan.parts)), "", chain.source.rstrip()]
        kernels = {name: stage for chain in chains.values() for name, stage in chain.keyed.items()}
        for name, stage in kernels.items():
            # What keeps the state of some stages is generated, too.
            source = getattr(stage, "source", None)
            lines += ["", f"# state of {name}", "", source.rstrip()] if source else []
    return "\n".join(lines) + "\n"


def _chain(use: ChainUse) -> str:
    """A chain that the pipeline uses: its parameters, and the stages that stand for it."""
    given = ", ".join(f"{name} {value}" for name, value in use.given.items())
    name = use.id if use.id == use.name else f"{use.id} ({use.name})"
    return f"{name}{': ' if given else ''}{given} → {', '.join(use.stages)}"


def _exchanges(plan: PipelinePlan) -> list[str]:
    """Where records move by key, and why; and where they need not."""
    found: list[Any] = [source.settings for source in plan.config.sources if source.name == "exchange"]
    ends = {settings.stage: settings for settings in found}
    lines = []
    for stage, why in plan.said.items():
        if stage in ends:
            settings = ends[stage]
            size = f"{settings.partitions} partitions" if settings.partitions else "a partition for each task before it"
            lines.append(f"{stage}: records move by {settings.by} through topic {settings.topic}, {size}; {why}")
        else:
            lines.append(f"{stage}: {why}")
    return lines


def _snapshots(plan: PipelinePlan) -> list[str]:
    """Where a restart has state from, or why there are no snapshots."""
    config = plan.config
    if not config.state_snapshots or not any(stage.spec.stateful for stage in config.stages):
        return []
    if any(part.copyable(config.delivery) for part in plan.parts):
        return ["a copy of each task's state in state_dir: a restart on the same node reads what came since"]
    return ["none: they are for state in Kafka with `delivery: exactly_once`; the embedded log is on this disk already"]


def _standbys(plan: PipelinePlan) -> list[str]:
    """Where copies of state are kept, or why there are none."""
    copies, delivery = plan.config.state_standbys, plan.config.delivery
    if not copies or not any(stage.spec.stateful for stage in plan.config.stages):
        return []
    if any(part.copyable(delivery) for part in plan.parts):
        nodes = f"{copies} other node{'' if copies == 1 else 's'} of the app"
        return [f"copies of each task's state on {nodes}, where there are so many"]
    return ["none: they need state in Kafka and `delivery: exactly_once`"]


def _table(source: ComponentConfig) -> str:
    """Where a table's rows are from, where they are, and what a lookup sees."""
    assert source.table is not None
    topic = getattr(source.settings, "topic", None)
    of = f"{source.name}, topic {topic}" if topic else source.name
    key = "the record's key" if source.table.key is None else str(source.table.key)
    return (
        f"{source.id} ({of}), key {key}: each worker holds all of it in memory, read before its tasks begin; "
        "lookups take the newest row at hand, also what is done again after a crash"
    )


def _delivery(plan: PipelinePlan) -> str:
    """What is promised, and whether that is less somewhere."""
    said = plan.config.delivery.replace("_", " ")
    exact = all(
        all(source.spec.replayable for source in part.sources)
        and all(delivery_of(sink, part, plan.config.delivery) == said for sink in part.all_sinks)
        for part in plan.parts
    )
    return said if exact or plan.config.delivery != "exactly_once" else f"{said} where source and sink can (see below)"


def _part(part: PartPlan, plan: PipelinePlan) -> list[str]:
    head = f"part {part.index}" if len(plan.parts) > 1 else "tasks"
    lines = [f"  {head}: one task for each partition of {' and '.join(s.id for s in part.sources)}"]
    checkpoint = "outputs first, then positions" if _loose(part, plan.config.delivery) else _CHECKPOINTS[part.transport]
    lines.append(f"  checkpoint: {checkpoint}")
    seen: set[str] = set()
    for source in part.sources:
        lines += _node(source, part, plan, 1, seen)
    for sink in part.dead_letters:
        lines.append(f"    {_label(sink, part, plan)}")
    return lines


def _node(component: ComponentConfig, part: PartPlan, plan: PipelinePlan, depth: int, seen: set[str]) -> list[str]:
    pad = "  " * (depth + 1)
    lines = [f"{pad}{_label(component, part, plan)}"]
    if component.id in seen:
        return [f"{pad}{component.id} (as above)"]
    seen.add(component.id)
    for output in outputs_of(component):
        readers = part.consumers.get(output, ())
        named = output != component.id
        if named:
            lines.append(
                f"{pad}  {output}" + ("" if readers else "  — read by nobody: its records are dropped, and counted")
            )
        for reader in readers:
            lines += _node(reader, part, plan, depth + 1 + named, seen)
    return lines


def _label(component: ComponentConfig, part: PartPlan, plan: PipelinePlan) -> str:
    settings = component.settings
    words = [component.kind, component.id if component.id == component.name else f"{component.id} ({component.name})"]
    for name in ("topic", "path", "paths", "file", "table"):
        value = getattr(settings, name, None)
        if value:
            words.append(f"{name} {', '.join(map(str, value)) if isinstance(value, list | tuple) else value}")
    if component.kind == "source":
        group = getattr(settings, "group", None)
        words.append(f"group {group}" if group else "")
        words.append(_key_format(settings, "keys {}"))
        words.append(_event_time(getattr(settings, "event_time", None)))
        words.append("" if component.spec.replayable else "— cannot be read again: what a crash interrupts is lost")
    if component.kind == "stage":
        words.append(_stage_text(component))
        words.append("[keyed]" if component.spec.keyed else "" if component.spec.fused else "[batches]")
        words.append(_state_text(component, part, plan) if component.spec.stateful else "")
    if component.kind == "sink":
        key = getattr(settings, "by" if component.name == "exchange" else "key", None)
        as_read = key is None and key_format(settings) == "bytes"
        words.append(f"key {key}" if key is not None else "key as read")
        words.append("" if as_read else _key_format(settings, "as {}"))
        words.append(f"— {delivery_of(component, part, plan.config.delivery)}")
    if component.on_error is not None:
        words.append(f"[on error: {_policy(component.on_error)}]")
    return "  ".join(word for word in words if word)


def _key_format(settings: Any, said: str) -> str:
    """What keys are, where they are no text."""
    form = key_format(settings)
    return "" if form == TEXT else said.format(form)


def _event_time(settings: Any) -> str:
    """Where the time of records is from, and what windows wait for."""
    if settings is None:
        return ""
    of = f"{settings.field} in ms" if settings.field is not None else "the record itself"
    words = [f"time of {'the processing' if settings.clock == 'processing' else of}"]
    words += [f"up to {duration_text(settings.out_of_order, ' ')} out of order"] if settings.out_of_order else []
    words += [f"left out when quiet for {duration_text(settings.idle, ' ')}"] if settings.idle is not None else []
    return ", ".join(words)


def _stage_text(component: ComponentConfig) -> str:
    """The setting that a stage is mostly about, as the user wrote it."""
    if component.spec.shorthand is None:
        return ""
    value = getattr(component.settings, _attribute(component, component.spec.shorthand), None)
    if component.name == "key_by" and value is not None:
        return ", ".join(map(str, value.values()))
    if isinstance(value, dict):
        return ", ".join(f"{name} = {expression}" for name, expression in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return "" if value is None else str(value)


def _state_text(component: ComponentConfig, part: PartPlan, plan: PipelinePlan) -> str:
    """What a stage remembers, for how long, and where that is durable."""
    topic = f"topic streamd.{plan.app}.{plan.name}.{component.id}.changelog"
    of = {"kafka": topic, "embedded": "the embedded log's changelog"}
    what = getattr(component.settings, "remembers", "each key for ever")
    return f"[remembers {what}; {of[part.transport]}]"


def _growth(component: ComponentConfig) -> str:
    """What of a stage's state grows without bound, by its own account."""
    return str(getattr(component.settings, "grows", ""))


def _attribute(component: ComponentConfig, name: str) -> str:
    fields = type(component.settings).model_fields
    return next((attribute for attribute, field in fields.items() if name in (attribute, field.alias)), name)


def delivery_of(sink: ComponentConfig, part: PartPlan, delivery: Delivery) -> str:
    """What a sink promises where it stands, with the pipeline's `delivery`.

    One that is not in the part's transaction promises less; and on Kafka there is none when at least once is enough.
    """
    if sink.spec.transport in (None, part.transport):
        return "at least once" if _loose(part, delivery) else sink.spec.delivery
    return f"at least once: the checkpoint is on {part.transport}, this sink is not part of it"


def _loose(part: PartPlan, delivery: Delivery) -> bool:
    """Whether outputs are durable before their positions are. The embedded log commits both at once in any case."""
    return delivery == "at_least_once" and part.transport == "kafka"


def _policy(policy: ErrorPolicy) -> str:
    end = {
        "fail": "stop the pipeline",
        "skip": "leave the record out, counted",
        "dead_letter": f"to {policy.dead_letter}",
    }
    if policy.action != "retry":
        return end[policy.action]
    tries = f", at most {policy.attempts} times" if policy.attempts else ""
    return f"try again for {duration_text(policy.deadline, ' ')}{tries}, then {end[policy.then]}"


def _title(index: int, entry: str, chain: Chain, parts: int) -> str:
    fields = f"; decodes only {', '.join(chain.decodes)}" if chain.decodes else ""
    place = f"part {index}, " if parts > 1 else ""
    return f"# {place}{entry} → {', '.join(chain.targets)}{fields}"

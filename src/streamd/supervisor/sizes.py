"""How many partitions exchanges get, and what cannot work with those that topics have. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamd.config.pipeline import ComponentConfig
from streamd.errors import FatalError
from streamd.plan.exchange import together
from streamd.plan.graph import PipelinePlan


def size_of(plan: PipelinePlan, source: ComponentConfig, known: Mapping[str, int]) -> int | None:
    """How many partitions an exchange is to have that says nothing itself; None when too little is known yet.

    As many as tasks write to it; beside others that a join needs to be as large, as many as these have. `known`:
    {source: its partitions}.
    """
    peers = {name for group in together(plan.config).values() if source.id in group for name in group}
    sources = {one.id: one for one in plan.config.sources if one.id in {*peers, source.id}}
    outer = [name for name, one in sources.items() if one.name != "exchange"]
    if any(name not in known for name in outer):
        return None
    if outer:
        return max(known[name] for name in outer)
    said = [settings.partitions for settings in _settings(sources) if settings.partitions is not None]
    if said:
        return int(max(said))
    writers = [writer for one in sources.values() if (writer := plan.writer_of(one)) is not None]
    if any(one.id not in known for writer in writers for one in writer.sources):
        return None
    return max(known[one.id] for writer in writers for one in writer.sources)


def with_exchanges(plan: PipelinePlan, known: Mapping[str, int]) -> dict[str, int]:
    """{source: its partitions}, of exchanges as they would be made. `known`: of the sources that are no exchanges."""
    sizes = dict(known)
    waiting = [source for source in plan.config.sources if source.name == "exchange"]
    while waiting:
        source = waiting.pop(0)
        size = size_of(plan, source, sizes)
        if size is None:
            waiting.append(source)
        else:
            sizes[source.id] = size
    return sizes


def refuse_sizes(plan: PipelinePlan, partitions: Mapping[str, int]) -> None:
    """Raise FatalError where records of a key could not meet. `partitions`: {source: how many it has}."""
    nodes = {one.id: one for one in (*plan.config.sources, *plan.config.stages)}
    for name in sorted(plan.single):
        if partitions[name] > 1:
            raise FatalError(
                f"{nodes[name].place}: source {name!r} has {partitions[name]} partitions, and the pipeline has stages "
                f"that work by key: say `partitions: {partitions[name]}` in its settings, so that records move to "
                "where their key belongs."
            )
    for stage, group in together(plan.config).items():
        counts = {name: partitions[name] for name in sorted(group)}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
            raise FatalError(
                f"{nodes[stage].place}: stage {stage!r} joins what does not have the same number of partitions: "
                f"{listed}. Records of a key would not meet. Give all the same number; or take `partitioned_by` from a "
                "source, so that its records move to where they belong."
            )


def _settings(sources: Mapping[str, ComponentConfig]) -> list[Any]:
    return [one.settings for one in sources.values() if one.name == "exchange"]

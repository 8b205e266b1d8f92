"""Refuses a part that reads what it writes itself: it would feed itself for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamd.config.pipeline import ComponentConfig
from streamd.errors import FatalError
from streamd.plan.graph import PartPlan
from streamd.record import TaskId
from streamd.transport.files.listing import find_files


def refuse_loops(part: PartPlan, pipeline: str, base_dir: Path) -> None:
    """Raise FatalError when a sink writes the topic of the embedded log, or the file, that a source of it reads."""
    for source in part.sources:
        for sink in part.all_sinks:
            if source.name == sink.name and (shared := _shared(source, sink, pipeline, part.index, base_dir)):
                raise FatalError(
                    f"{sink.place}: {sink.kind} {sink.id!r} writes {shared}, which source {source.id!r} of the same "
                    "pipeline reads: it would read its own output for ever; write to another one"
                )


def _shared(source: ComponentConfig, sink: ComponentConfig, pipeline: str, part: int, base_dir: Path) -> str | None:
    """What both name, in words."""
    reads: Any = source.settings
    writes: Any = sink.settings
    if source.spec.transport == sink.spec.transport == "embedded" and reads.topic == writes.topic:
        return f"topic {reads.topic}"
    if source.spec.transport is None and source.name == "file" and getattr(writes, "rotate", "") is None:
        base = base_dir.absolute()
        path = base / (sink.spec.alone(writes, TaskId("", pipeline, part, 0)) or "")
        return f"the file {path}" if path in find_files(reads.path, base) else None
    return None

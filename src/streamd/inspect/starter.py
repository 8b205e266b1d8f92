"""A pipeline to begin with, for what was inspected: YAML that is valid and runs."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

from streamd.codecs.format import format_of, written
from streamd.config.scalars import inline_yaml
from streamd.errors import ConfigError
from streamd.inspect.sample import Sample
from streamd.inspect.target import Target
from streamd.profile.candidates import Candidates
from streamd.profile.times import Times

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_MARGIN = 1000  # ms


def starter(target: Target, sample: Sample, found: Candidates, folder: Path) -> str:
    """The pipeline's text, for a file in `folder`. Raises ConfigError for a source that a pipeline has already."""
    if target.uri is None:
        raise ConfigError("--pipeline: what was inspected is the source of a pipeline; name its file or topic instead")
    name = target.name
    source: dict[str, Any] = _settings(target, folder)
    time_ = _event_time(found)
    lines = [f"name: {name}", "source:", f"  {target.source.name}:"]
    lines += [f"    {key}: {inline_yaml(value)}" for key, value in source.items()]
    if time_ is not None:
        lines.append(f"    event_time: {inline_yaml(time_)}")
    lines += ["stages:", *_stages(found, sample), "sink:", "  stdout: {}"]
    if sample.undecodable or sample.tombstones:
        lines += ["on_error:", "  dead_letter:", f"    file: {{path: {name}-errors.ndjson}}"]
    return "\n".join(lines) + "\n"


def _settings(target: Target, folder: Path) -> dict[str, Any]:
    settings: Any = target.source.settings
    if target.source.name == "file":
        made: dict[str, Any] = {"path": os.path.relpath(settings.path[0], folder)}
    else:
        made = {"topic": settings.topic}
    given = settings.model_fields_set - {"path", "topic", "format", "event_time", "start", "end", "span"}
    made |= {"format": written(format_of(settings))} if format_of(settings) != "json" else {}
    made |= settings.model_dump(mode="json", include=given)
    if getattr(settings, "types", None):
        made["types"] = dict(settings.types)
    return made


def _event_time(found: Candidates) -> dict[str, Any] | None:
    """The likeliest time that all records have, of none of which the future would be an error."""
    now = time.time() * 1000
    for path, times in found.times:
        if path in found.always and times.last <= now and _BARE.fullmatch(path):
            return {"field": times.expression(path), "out_of_order": bound(times)}
    return None


def bound(times: Times) -> str:
    """How far out of order times came, as a duration with a margin."""
    if not times.behind:
        return "0s"
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if times.behind >= length:
            return f"{-(-(times.behind + _MARGIN) // length)}{unit}"
    return f"{times.behind + _MARGIN}ms"


def _stages(found: Candidates, sample: Sample) -> list[str]:
    """What could come next, as comments: a pipeline without stages passes records on."""
    key = next((path for path in (*found.enums, *found.keys) if _BARE.fullmatch(path)), None)
    some = key or next((path for path in sample.values.fields if _BARE.fullmatch(path)), "name")
    return [f"  # - filter: {some} != null", f"  # - key_by: {some}"]

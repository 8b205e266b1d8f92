"""What only one task may write, such as a file: never two sinks, and no sink that serves two parts. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from streamd.config.diagnostics import Diagnostic, config_error
from streamd.config.pipeline import ComponentConfig
from streamd.record import TaskId

_APART = 'put {part} into the path, which tells them apart, and quote it: path: "failed-{part}.ndjson"'


def refuse_shared(pipeline: str, parts: Sequence[Sequence[ComponentConfig]]) -> None:
    """Raise ConfigError for sinks that would write the same. `parts` are the sinks of each part, in order."""
    # {what is written: the first sink that writes it, and in which part}
    known: dict[str, tuple[ComponentConfig, int]] = {}
    problems: dict[str, Diagnostic] = {}
    for part, sinks in enumerate(parts):
        for sink in sinks:
            name = sink.spec.alone(sink.settings, TaskId("", pipeline, part, 0))
            if name is None:
                continue
            first, where = known.setdefault(name, (sink, part))
            if (first, where) != (sink, part):
                problems.setdefault(sink.id, _problem(sink, first, name))
    if problems:
        raise config_error(problems.values())


def _problem(sink: ComponentConfig, first: ComponentConfig, name: str) -> Diagnostic:
    if first is sink:
        message = (
            f"sink `{sink.id}` is used by parts of the pipeline that share no record and run on their own, and all of "
            f"them would write {name}"
        )
        return Diagnostic("shared-file", message, sink.place, help=_APART)
    message = f"sinks `{first.id}` and `{sink.id}` would both write {name}"
    help_text = "give each a path of its own"
    if "dead_letter" in first.id and "dead_letter" in sink.id:
        help_text += ", or name the sink once, in the pipeline's `on_error`: `dead_letter:` without a sink is that one"
    return Diagnostic("shared-file", message, sink.place, help=help_text)

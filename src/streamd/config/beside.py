"""The keys that stand beside a component's own, and what is said of one that stands somewhere else."""

from __future__ import annotations

import re

from streamd.component.spec import Kind

RESERVED: dict[Kind, tuple[str, ...]] = {
    "source": ("id", "on_error", "table", "schema_drift"),
    "stage": ("id", "from", "on_error"),
    "sink": ("id", "from", "on_error", "validate"),
}
_SUBJECT = re.compile(r"(source|stage|sink) `([^`]+)`")


def misplaced(key: str, subject: str) -> str:
    """Where a key belongs that stands in the settings of a subject (sink `file`, the pipeline), or beside it; "" where
    it is none of these.
    """
    kinds = [kind for kind, keys in RESERVED.items() if key in keys]
    if not kinds:
        return ""
    component = _SUBJECT.fullmatch(subject)
    if component is not None and component[1] in kinds:
        return f"`{key}` stands beside `{component[2]}:`, not below it"
    if len(kinds) > 1:
        return f"`{key}` is for {' and '.join(f'{kind}s' for kind in kinds)}, and stands beside their own key"
    [kind] = kinds
    return f"`{key}` is for {kind}s: `{kind}: {{NAME: {{…}}, {key}: …}}`"

"""A window that names no key works by that of the `key_by` before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError
from streamd.plan.inherited_keys import with_inherited_keys

WINDOW = "{id: w, window: {tumbling: 1s, aggregate: {n: count()}}}"


def by_of(tmp_path: Path, *stages: str, window: str = WINDOW) -> Any:
    lines = "".join(f"- {stage}\n" for stage in (*stages, window))
    text = f"name: p\nsource: {{log: {{topic: in}}}}\nstages:\n{lines}sink: {{log: {{topic: out}}}}\n"
    config = load_pipeline_text(text, tmp_path / "p.yaml", Registry.default(), {}, ServiceConfig())
    [stage] = [stage for stage in with_inherited_keys(config).stages if stage.id == "w"]
    by = stage.settings.by  # type: ignore[attr-defined]
    return by and {name: str(expression) for name, expression in by.fields.items()}


@pytest.mark.parametrize(
    ("stages", "by"),
    [
        (["key_by: user"], {"user": "user"}),
        (["key_by: [region, product]"], {"region": "region", "product": "product"}),
        (["key_by: {by: {country: user.country}}"], {"country": "user.country"}),
        (["key_by: user", "filter: amount > 5"], {"user": "user"}),
        (["key_by: user", "set: {eur: amount * 1.1}"], {"user": "user"}),
        (["key_by: other", "key_by: user"], {"user": "user"}),
        (["key_by: user", "set: {user: upper(user)}"], None),
        (["key_by: user", "map: {n: amount}"], None),
        (["key_by: user", "window: {by: user, tumbling: 1s, aggregate: {n: count()}}"], None),
        (["filter: amount > 5"], None),
    ],
)
def test_the_key_is_that_in_force(stages, by, tmp_path):
    assert by_of(tmp_path, *stages) == by


def test_a_key_of_its_own_is_kept(tmp_path):
    window = "{id: w, window: {by: country, tumbling: 1s, aggregate: {n: count()}}}"
    assert by_of(tmp_path, "key_by: user", window=window) == {"country": "country"}


def test_one_name_for_two_things_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"takes that of the key_by before it: a result has the field 'n' twice"):
        by_of(tmp_path, "key_by: n")

"""A pipeline's text with components replaced: everything else means what it meant, and no secret is put in."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text, load_service
from streamd.verify.yaml_text import Replacement, rewritten

FOLDER = Path(__file__).resolve().parents[3] / "config" / "pipelines"
EXAMPLES = sorted(path for path in FOLDER.rglob("*.yaml") if not path.name.endswith(".test.yaml"))
ENV = {"EVENTS": "events", "OUT": "out"}


def load(text, file):
    return load_pipeline_text(text, file, Registry.default(), ENV, load_service(None, ENV))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda path: path.stem)
def test_a_text_without_replacements_is_the_same_pipeline(file):
    before, after = load(file.read_text(), file), load(rewritten(file.read_text(), {}), file)
    for one, other in zip(
        (*before.sources, *before.stages, *before.sinks, *before.dead_letters),
        (*after.sources, *after.stages, *after.sinks, *after.dead_letters),
        strict=True,
    ):
        assert (one.id, one.name, one.settings, one.inputs) == (other.id, other.name, other.settings, other.inputs)
    assert (before.on_error, before.error_threshold) == (after.on_error, after.error_threshold)


TEXT = """\
name: "quoted"
source: stdin
stages:
  - set: {a: "'x'", b: !!str 7, c: 'it''s', d: "${HOME:none}"}
sinks:
  one: {kafka: {topic: a, key: user, format: text}}
on_error: {dead_letter: {file: {path: lost.ndjson}, include_details: true}}
"""


def test_components_are_replaced_wherever_they_stand():
    text = rewritten(
        TEXT,
        {
            (2, 9): Replacement("log", {"topic": "in${X}"}),
            (6, 9): Replacement("log", {"topic": "b", "format": None}, frozenset({"key", "format"})),
            (7, 26): Replacement("file", {"path": "new", "tail": True}),
        },
    )
    found = yaml.safe_load(text)
    assert found["source"] == {"log": {"topic": "in$${X}"}}
    assert found["sinks"] == {"one": {"log": {"key": "user", "topic": "b"}}}
    assert found["on_error"]["dead_letter"] == {"file": {"path": "new", "tail": True}, "include_details": True}
    assert found["stages"] == [{"set": {"a": "'x'", "b": "7", "c": "it's", "d": "${HOME:none}"}}]

"""`validate` beside a sink: what is checked is the document about to be written, under the sink's own policy."""

from __future__ import annotations

import orjson
import pytest

from demo.inline_app import InlineApp
from streamd.component.registry import Registry
from streamd.config.diagnostics import Diagnostic
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError, FatalError

PIPELINE = """
name: p
source: {{log: {{topic: in}}}}
stages:
- set: {{w: v * 2}}
sinks:
- id: one
  log: {{topic: out}}
  validate: {checks}
  {more}
on_error: {{dead_letter: {{log: {{topic: dead}}}}}}
"""


@pytest.fixture
def app(tmp_path):
    return InlineApp(tmp_path)


def pipeline(checks, more=""):
    return PIPELINE.format(checks=checks, more=more)


async def test_what_stages_made_is_checked(app):
    await app.seed([{"v": 1}, {"v": 6}])
    await app.run(pipeline("{rules: [{field: w, range: [0, 10]}], schema: {json_schema: {required: [w]}}}"))
    assert await app.values() == [{"v": 1, "w": 2}]
    [dead] = await app.records("dead")
    headers = dict(dead.headers)
    assert (headers["streamd.phase"], headers["streamd.error"]) == (b"load", b"InvalidOutputError")
    assert headers["streamd.message"] == b"the record breaks the rule w_range"
    assert orjson.loads(dead.value) == {"v": 6}
    assert app.total("streamd_quality_checks_total", stage="one.validate", rule="w_range", result="failed") == 1


async def test_the_sinks_own_on_error_says_what_then(app):
    await app.seed([{"v": 1}, {"v": 6}])
    await app.run(pipeline("{rules: [{field: w, range: [0, 10]}]}", "on_error: skip"))
    assert await app.values() == [{"v": 1, "w": 2}]
    assert await app.records("dead") == []


async def test_without_a_policy_the_pipeline_stops(app):
    await app.seed([{"v": 6}])
    text = pipeline("{rules: [{field: w, range: [0, 10]}]}").replace("on_error", "description: x #")
    with pytest.raises(FatalError, match="InvalidOutputError: the record breaks the rule w_range"):
        await app.run(text)


async def test_records_are_tagged_and_dropped_for_that_sink_alone(app):
    await app.seed([{"v": 1}, {"v": 6}, {"v": 60}])
    checks = "{rules: [{name: a, field: w, range: [0, 10], action: tag}, {field: w, range: [0, 100], action: drop}]}"
    text = pipeline(checks).replace("on_error:", "- {id: two, log: {topic: all}}\non_error:")
    await app.run(text)
    assert await app.values() == [{"v": 1, "w": 2, "failed_rules": []}, {"v": 6, "w": 12, "failed_rules": ["a"]}]
    assert await app.values("all") == [{"v": 1, "w": 2}, {"v": 6, "w": 12}, {"v": 60, "w": 120}]


@pytest.mark.parametrize(
    ("checks", "message"),
    [
        ("{rules: [{unique: v, within: 1m}]}", "`unique` is not for the `validate` of a sink"),
        ("{rules: [{not_null: v}], score: {}}", "`score` is not for the `validate` of a sink"),
        ("{rules: [{field: v}]}", "it says nothing that is to hold"),
        ("{rulez: []}", "unknown key `rulez`"),
        ("5", "must be a mapping"),
    ],
)
def test_mistakes(tmp_path, checks, message):
    with pytest.raises(ConfigError) as caught:
        load_pipeline_text(pipeline(checks), tmp_path / "p.yaml", Registry.default(), {}, ServiceConfig())
    problems = [one for one in caught.value.diagnostics if isinstance(one, Diagnostic)]
    assert any(message in one.message for one in problems), problems
    assert all(one.place.line == 9 for one in problems)


def test_a_dead_letter_needs_a_sink(tmp_path):
    text = pipeline("{rules: [{not_null: v, action: dead_letter}]}").replace("on_error", "description: x #")
    with pytest.raises(ConfigError) as caught:
        load_pipeline_text(text, tmp_path / "p.yaml", Registry.default(), {}, ServiceConfig())
    [problem] = caught.value.diagnostics
    assert "sink `log` sends records to the dead letters, and the pipeline has none" in str(problem.message)

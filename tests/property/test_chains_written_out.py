"""A pipeline with chains is compiled to the same code as one with the same stages written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.pipeline import PipelineConfig
from streamd.config.service import ServiceConfig
from streamd.plan.graph import build_plan
from streamd.runtime.assembly import compile_chains

# (type, what is given, what it is in an expression)
values = st.sampled_from(
    [
        ("number", 5, "5"),
        ("number", -2.5, "(-2.5)"),
        ("text", 'it\'s "x" or True', repr('it\'s "x" or True')),
        ("text", "$a", "'$a'"),
        ("boolean", True, "True"),
        ("list", ["DE", 1], "['DE', 1]"),
        ("field", "b.c", "b.c"),
        ("expression", "a or b", "(a or b)"),
        ("expression", "get(c, 0) + 1", "(get(c, 0) + 1)"),
        ("expression", "[x for x in b if x]", "([x for x in b if x])"),
    ]
)
templates = st.sampled_from(
    [
        "a == $p",
        "$p == b",
        "[$p, a][0] == a",
        "not $p",
        "a if $p else b",
        "a in [$p]",
        "get(d, $p) == 1",
        "has(b) == $p",
    ]
)
conditions = st.recursive(
    templates,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"all": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"any": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"not": part}, inner),
    ),
    max_leaves=5,
)
stages = st.one_of(
    st.builds(lambda condition: {"filter": condition}, conditions),
    st.builds(lambda text: {"set": {"out": text}}, templates),
    st.builds(lambda text: {"map": {"a": "a", "b": text, "d": "d"}}, templates),
)


def written(condition: Any, value: str, around: str = "") -> str:
    """A condition by hand: brackets around everything but what `and` or `or` would join in any case."""
    if not isinstance(condition, dict):
        return f"({condition.replace('$p', value)})"
    [(word, below)] = condition.items()
    if word == "not":
        return f"(not {written(below, value)})"
    if len(below) == 1:
        return written(below[0], value, around)
    text = {"all": " and ", "any": " or "}[word].join(written(part, value, word) for part in below)
    return text if around == word else f"({text})"


def by_hand(stage: dict[str, Any], value: str) -> dict[str, Any]:
    [(name, body)] = stage.items()
    if name == "filter":
        return {name: written(body, value)}
    return {name: {key: text.replace("$p", value) for key, text in body.items()}}


def load(chains: dict[str, Any], stages: list[dict[str, Any]]) -> PipelineConfig:
    ends = {"name": "p", "source": {"log": {"topic": "in"}}, "sink": {"log": {"topic": "out"}}}
    text = yaml.safe_dump({**ends, "chains": chains, "stages": stages}, sort_keys=False)
    return load_pipeline_text(text, Path("p.yaml"), Registry.default(), {}, ServiceConfig())


def code(config: PipelineConfig) -> list[str]:
    part = build_plan(config).parts[0]
    context = PipelineContext("app", "p", Path(), Path())
    made = {c.id: c.spec.factory(c.settings, context) for c in part.stages}
    try:
        return [chain.source for chain in compile_chains(part, made).values()]
    except Exception as error:
        return [str(problem.message) for problem in getattr(error, "diagnostics", ())] or [str(error)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(inner=st.lists(stages, min_size=1, max_size=3), outer=st.lists(stages, max_size=2), value=values)
def test_the_code_is_that_of_the_stages_written_out(
    inner: list[dict[str, Any]], outer: list[dict[str, Any]], value: tuple[str, Any, str]
) -> None:
    kind, given_, source = value
    parameters = {"p": kind}
    use = {"chain": {"name": "inner", "with": {"p": "$p"}}}
    chains = {
        "outer": {"parameters": parameters, "stages": [*outer, use]},
        "inner": {"parameters": parameters, "stages": inner},
    }
    chained = load(chains, [{"chain": {"name": "outer", "with": {"p": given_}}}])
    ids = [stage.id for stage in chained.stages]
    plain = [{"id": id_, **by_hand(stage, source)} for id_, stage in zip(ids, [*outer, *inner], strict=True)]
    assert code(chained) == code(load({}, plain))

"""`all`, `any`, `not` and named filters become the expression that one would write by hand."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from streamd.component.registry import Registry
from streamd.config.diagnostics import Diagnostic
from streamd.config.load import load_pipeline_text
from streamd.config.pipeline import PipelineConfig
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError

ENDS = "name: p\nsource: {log: {topic: in}}\nsink: {log: {topic: out}}\n"
FILTERS = """\
filters:
  big: amount > 100
  either: {where: {any: [a, b]}}
  over:
    parameters: {least: number, field: {type: field, default: amount}}
    where: {all: [$field > $least, {name: either}]}
"""


def load(text: str) -> PipelineConfig:
    whole = ENDS + FILTERS + (textwrap.dedent(text) if text.startswith("    ") else text)
    return load_pipeline_text(whole, Path("p.yaml"), Registry.default(), {}, ServiceConfig())


def problems(text: str) -> list[Diagnostic]:
    with pytest.raises(ConfigError) as caught:
        load(text)
    return [problem for problem in caught.value.diagnostics if isinstance(problem, Diagnostic)]


@pytest.mark.parametrize(
    ("condition", "expression"),
    [
        ("{all: [a > 1, b]}", "a > 1 and b"),
        ("{any: [a > 1, {all: [b, c]}]}", "a > 1 or b and c"),
        ("{all: [a, {any: [b, c]}, {all: [d, {not: e}]}]}", "a and (b or c) and d and not e"),
        ("{all: [a or b, c if d else e]}", "(a or b) and (c if d else e)"),
        ("{not: {any: [a, b]}}", "not (a or b)"),
        ("{not: {not: a == b}}", "not not a == b"),
        ("{not: a and b}", "not (a and b)"),
        ("{all: [a]}", "a"),
        ("{any: ['a # not the rest', b]}", "a or b"),
        ("{all: [true, 1]}", "True and 1"),
        ("{name: big}", "amount > 100"),
        ("{all: [{name: big}, {name: either}]}", "amount > 100 and (a or b)"),
        ("{name: over, with: {least: 5}}", "amount > 5 and (a or b)"),
        ("{not: {name: over, with: {least: -5, field: x.y}}}", "not (x.y > (-5) and (a or b))"),
        ("{where: {any: [a, b]}}", "a or b"),
    ],
)
def test_a_condition_is_one_expression(condition: str, expression: str) -> None:
    [stage] = load(f"stages: [{{filter: {condition}}}]").stages
    assert str(stage.settings.where) == expression  # type: ignore[attr-defined]


def test_outputs_of_route_take_conditions() -> None:
    text = "stages: [{id: r, route: {outputs: {x: {all: [a, {name: big}]}, y: b}}}, {from: [r.x, r.y], drop: [q]}]"
    outputs = load(text).stages[0].settings.outputs  # type: ignore[attr-defined]
    assert {name: str(condition) for name, condition in outputs.items()} == {"x": "a and amount > 100", "y": "b"}


def test_each_part_has_its_own_place_and_all_are_told_at_once() -> None:
    text = """\
    stages:
      - filter:
          all:
            - amount >
            - any: [a, {not: foo(x)}]
            - {name: bog}
            - {name: over, with: {leest: 1}}
            - {any: []}
            - {al: [a]}
            - {all: [a], any: [b]}
            - [a]
            - null
    """
    found = [(problem.code, problem.place.line - 9) for problem in problems(text)]
    assert found == [
        ("bad-expression", 4),
        ("bad-expression", 5),
        ("unknown-filter", 6),
        ("missing-parameter", 7),
        ("unknown-parameter", 7),
        ("wrong-type", 8),
        ("unknown-key", 9),
        ("several-keys", 10),
        ("wrong-type", 11),
        ("wrong-type", 12),
    ]


def test_filters_that_nobody_uses_are_checked_and_may_not_use_each_other() -> None:
    codes = {problem.code for problem in problems("  x: a >\n  y: {name: z}\n  z: {name: y}\n  w: {where: }\n")}
    assert codes == {"bad-expression", "cycle", "missing-key"}


def test_too_long_together_is_told_where_it_is_used() -> None:
    part = "x in [" + ", ".join(["1000"] * 900) + "]"
    [problem] = problems(f"  long: {part}\nstages:\n  - filter: {{all: [{{name: long}}, {{name: long}}]}}\n")
    assert "characters" in problem.message
    assert problem.place.line == 12

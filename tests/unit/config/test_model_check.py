"""Settings against their models: every mistake once, at its place, with what would be right."""

from __future__ import annotations

import pytest

from demo.components import Load, Problems, Spots

WHOLE = """name: p
source: {{topic: {settings}}}
sink: discard
"""


def pipeline(settings: str) -> str:
    return WHOLE.format(settings=settings)


def test_an_unknown_key_has_a_suggestion(problems: Problems) -> None:
    """A misspelt key points at the key, lists the known ones and names the nearest."""
    (problem,) = problems(pipeline("{topic: x, formt: json}"))

    assert (problem.code, problem.place.line, problem.place.column) == ("unknown-key", 2, 28)
    assert problem.help == "did you mean `format`?"
    assert "format" in problem.expected
    assert "source `topic`" in problem.message


def test_an_unknown_key_of_a_nested_model_has_a_suggestion(problems: Problems) -> None:
    """Also where a field may be a text or a mapping: only what concerns the mapping is reported."""
    (problem,) = problems(pipeline("{topic: x, time: {feild: ts, field: a}}"))

    assert (problem.code, problem.place.column) == ("unknown-key", 35)
    assert problem.expected == "one of field, idle"
    assert problem.help == "did you mean `field`?"
    assert "`time` of source `topic`" in problem.message


def test_unknown_keys_in_items_of_a_list(problems: Problems) -> None:
    """The path names the item."""
    (problem,) = problems(
        """
        name: p
        source: {topic: {topic: x}}
        stages:
          - window:
              size: 10s
              names:
                - field: a
                - {field: b, idel: 1}
        sink: discard
        """
    )
    assert (problem.code, problem.place.line, problem.place.column) == ("unknown-key", 8, 22)
    assert "`names.1` of stage `window`" in problem.message
    assert problem.help == "did you mean `idle`?"


@pytest.mark.parametrize(
    ("settings", "column", "words"),
    [
        ("{topic: 5}", 25, ["`topic`", "must be text", "the number 5"]),
        ("{topic: x, limit: many}", 35, ["`limit`", "a whole number", "'many'"]),
        ("{topic: x, limit: 1.5}", 35, ["`limit`", "a whole number", "1.5"]),
        ("{topic: x, limit: 0}", 35, ["`limit`", "greater than or equal to 1", "the number 0"]),
        ("{topic: x, limit: [1]}", 28, ["`limit`", "a whole number", "a list"]),
        ("{topic: x, format: jsn}", 36, ["`format`", "one of json, text", "'jsn'"]),
        ("{topic: x, start: erliest}", 35, ["`start`", "one of earliest, latest or a whole number", "'erliest'"]),
        ("{topic: x, buffer: 5 XB}", 36, ["`buffer`", "a size", '"512KiB"', "'5 XB'"]),
        ("{topic: x, options: 3}", 37, ["`options`", "a mapping", "the number 3"]),
        ("{topic: x, time: [1]}", 28, ["`time`", "text or a mapping", "a list"]),
        ("{topic: null}", 25, ["`topic`", "text", "nothing"]),
    ],
)
def test_a_wrong_value_says_what_is_wrong(problems: Problems, settings: str, column: int, words: list[str]) -> None:
    """What was wrong, the value got, what would be right."""
    (problem,) = problems(pipeline(settings))

    assert problem.code in ("wrong-type", "wrong-value")
    assert (problem.place.line, problem.place.column) == (2, column)
    for word in words:
        assert word in problem.message


def test_help_for_wrong_values(problems: Problems) -> None:
    """A number where text is wanted needs quotes; a misspelt choice gets a suggestion."""
    assert problems(pipeline("{topic: 5}"))[0].help == 'put it in quotes: "5"'
    assert problems(pipeline("{topic: x, format: jsn}"))[0].help == "did you mean `json`?"
    assert problems(pipeline("{topic: x, start: erliest}"))[0].help == "did you mean `earliest`?"


def test_a_missing_setting_shows_an_example(problems: Problems) -> None:
    """The field's own docs say what is expected; the place is the component's name."""
    (problem,) = problems(pipeline("{}"))

    assert (problem.code, problem.place.line, problem.place.column) == ("missing-key", 2, 10)
    assert problem.message == "`topic` of source `topic` is missing"
    assert problem.expected == "Topic to read. Example: `topic: orders`"


def test_a_check_of_a_component_says_what_it_says(problems: Problems) -> None:
    """ValueErrors of a component's own checks come out with their text and the place of the field."""
    (problem,) = problems(
        """
        name: p
        source: {topic: {topic: x}}
        stages: [{window: {size: 2h}}]
        sink: discard
        """
    )
    assert (problem.place.line, problem.place.column) == (3, 26)
    assert "a window of 7200 s is too long" in problem.message


def test_all_mistakes_of_all_components_at_once(spots: Spots) -> None:
    """One run shows everything, in the order of the file."""
    found = spots(
        """
        name: 5
        source: {topic: {topc: x, limit: no}}
        stages:
          - filter: a >
          - set: {b: nope(1), c: "1 +"}
          - windw: {size: 10s}
        sink: {file: {path: x, quota: lots}}
        delivry: exactly_once
        """
    )
    assert found == [
        ("wrong-type", 1, 7),
        ("missing-key", 2, 10),
        ("unknown-key", 2, 18),
        ("wrong-type", 2, 34),
        ("bad-expression", 4, 16),
        ("bad-expression", 5, 14),
        ("bad-expression", 5, 30),
        ("unknown-component", 6, 5),
        ("wrong-type", 7, 31),
        ("unknown-key", 8, 1),
    ]


@pytest.mark.parametrize(
    ("stage", "at"),
    [
        ("filter: a > 1 and nope(a)", "nope"),
        ("filter: 'a == ''x'' and nope(a)'", "nope"),
        ('filter: "a == \\"\\u00e9\\" and nope(a)"', "nope"),
        ("filter: |\n      a > 1\n      and nope(a)", "nope"),
        ("filter: >-\n      a > 1\n\n      and nope(a)", "nope"),
        ("filter:\n      where: a and\n        nope(a)", "nope"),
        ("set: {b: 1, c: 'nope(a)'}", "nope"),
    ],
)
def test_an_expression_error_points_into_the_scalar(problems: Problems, stage: str, at: str) -> None:
    """Line and column are those of the character in the file, whatever the style of the scalar."""
    text = f"name: p\nsource: {{topic: {{topic: x}}}}\nstages:\n  - {stage}\nsink: discard\n"

    (problem,) = problems(text)

    assert problem.code == "bad-expression"
    line = text.split("\n")[problem.place.line - 1]
    assert line[problem.place.column - 1 :].startswith(at)
    assert "function" in problem.message


def test_shorthands_and_bare_names(load: Load) -> None:
    """A scalar or list is the one field it stands for; a name alone has no settings; `true` is an expression."""
    config = load(
        """
        name: p
        source: {topic: {topic: x}}
        stages:
          - filter: true
          - filter: {where: a > 1}
          - set: {a: 1, where: b}
          - drop: [a, b.c]
        sinks: [discard, {file: out.txt}]
        """
    )
    first, second, third, fourth = config.stages
    assert str(first.settings.where) == "True"  # type: ignore[attr-defined]
    assert str(second.settings.where) == "a > 1"  # type: ignore[attr-defined]
    assert set(third.settings.fields) == {"a", "where"}  # type: ignore[attr-defined]
    assert fourth.settings.fields == (("a",), ("b", "c"))  # type: ignore[attr-defined]
    assert [sink.name for sink in config.sinks] == ["discard", "file"]


def test_an_empty_expression_is_missing(spots: Spots) -> None:
    """`filter:` with nothing behind it is a mistake, not null."""
    text = "name: p\nsource: {topic: {topic: x}}\nstages:\n  - filter:\n  - set: {a: }\nsink: discard\n"

    assert spots(text) == [("missing-key", 4, 5), ("wrong-value", 5, 11)]


def test_a_nested_component_is_resolved_by_the_registry(load: Load, problems: Problems) -> None:
    """`late:` holds a sink: the settings get it checked, with an id; its mistakes have their own places."""
    text = """
        name: p
        source: {{topic: {{topic: x}}}}
        stages: [{{id: w, window: {{size: 10s, late: {late}}}}}]
        sink: discard
        """
    late = load(text.format(late="{file: late.txt}")).stages[0].settings.late  # type: ignore[attr-defined]
    assert (late.id, late.kind, late.name, str(late.settings.path)) == ("w_late", "sink", "file", "late.txt")

    (unknown,) = problems(text.format(late="{flie: late.txt}"))
    assert (unknown.code, unknown.help) == ("unknown-component", "did you mean `file`?")
    (wrong,) = problems(text.format(late="{file: {path: x, quota: y}}"))
    assert (wrong.code, wrong.place.column) == ("wrong-type", 68)
    (no_component,) = problems(text.format(late="5"))
    assert no_component.code == "wrong-type"


def test_a_key_that_belongs_elsewhere_says_where(problems: Problems) -> None:
    text = """name: p
schema_drift: warn
source: {topic: {topic: x, schema_drift: warn}}
stages:
- {filter: a > 1, schema_drift: warn}
sink: {discard: {on_error: skip}, table: {}}
"""
    assert [problem.help for problem in problems(text)] == [
        "`schema_drift` is for sources: `source: {NAME: {…}, schema_drift: …}`",
        "`schema_drift` stands beside `topic:`, not below it",
        "`schema_drift` is for sources: `source: {NAME: {…}, schema_drift: …}`",
        "`on_error` stands beside `discard:`, not below it",
        "`table` is for sources: `source: {NAME: {…}, table: …}`",
    ]

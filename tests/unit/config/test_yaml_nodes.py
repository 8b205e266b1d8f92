"""YAML text → nodes: limits, duplicate keys, and the places of what is broken."""

from __future__ import annotations

import pytest

from streamd.config.file_text import FileText
from streamd.config.model_check import plain_value
from streamd.config.yaml_nodes import MAX_DEPTH, Document, parse_document


def parse(text: str) -> Document:
    return parse_document(FileText("x.yaml", text))


def found(text: str) -> list[tuple[str, int, int]]:
    return [(d.code, d.place.line, d.place.column) for d in parse(text).problems]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: b: c\n", (1, 5)),
        ("a: [1, 2\n", (2, 1)),
        ("a: 'x\n", (2, 1)),
        ("a: 1\n  b: 2\n", (2, 4)),
        ("- a\nb: c\n", (2, 1)),
        ("a: @x\n", (1, 4)),
        ('a: "x" == y\n', (1, 8)),
        ("a: \x01\n", (1, 4)),
    ],
)
def test_broken_yaml_is_one_problem_at_its_place(text: str, place: tuple[int, int]) -> None:
    """Whatever the parser stumbles over gets file, line and column."""
    document = parse(text)

    assert [(d.code, d.place.line, d.place.column) for d in document.problems] == [("broken-yaml", *place)]
    assert document.root is None
    assert document.problems[0].place.file == "x.yaml"


@pytest.mark.parametrize("text", ["a:\n\t- x\n", "a:\n  b: 1\n\tc: 2\n", "\ta: 1\n"])
def test_a_tab_is_called_a_tab(text: str) -> None:
    """Tabs are the commonest invisible mistake: the message names them."""
    (problem,) = parse(text).problems

    assert problem.code == "broken-yaml"
    assert "a tab" in problem.message
    assert "spaces" in problem.help
    assert text.split("\n")[problem.place.line - 1][problem.place.column - 1] == "\t"


def test_an_alias_bomb_is_refused_without_being_expanded() -> None:
    """A billion laughs cost as much as their text."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]

    (problem,) = parse("\n".join(lines)).problems

    assert problem.code == "too-large"


def test_an_alias_shares_the_value_of_its_anchor() -> None:
    """Plain aliases work."""
    document = parse("a: &x {b: 1}\nc: *x\n")

    assert document.problems == []
    assert document.root is not None
    assert plain_value(document.root) == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "code"),
    [("a: &x [*x]\n", "recursive-alias"), ("a: *nope\n", "unknown-alias"), ("a: &x 1\nb: {<<: *x}\n", "merge-key")],
)
def test_aliases_that_cannot_be(text: str, code: str) -> None:
    """An alias of itself, of nothing, and a merge each have a problem of their own."""
    assert [spot[0] for spot in found(text)] == [code]


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 200_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    """No nesting exhausts the stack."""
    assert found("[" * depth) == [("too-deep", 1, MAX_DEPTH + 1)]


def test_a_duplicate_key_says_where_the_first_is() -> None:
    """YAML parsers silently take the last one; here it is a problem, on every level."""
    problems = parse("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n").problems

    assert [(d.place.line, d.place.column) for d in problems] == [(4, 3), (5, 1)]
    assert "line 3" in problems[0].message
    assert "line 1" in problems[1].message


def test_tags_of_the_core_schema_only() -> None:
    """`!!str` is fine, anything that would build an object is not."""
    assert found("a: !!python/object/apply:os.system [ls]\n") == [("unknown-tag", 1, 4)]
    document = parse("a: !!str 5\nb: ! 6\nc: !!int 7\n")
    assert document.root is not None
    assert plain_value(document.root) == {"a": "5", "b": "6", "c": 7}


def test_one_document_per_file() -> None:
    """A second document is not silently dropped."""
    assert found("a: 1\n---\nb: 2\n") == [("several-documents", 2, 1)]


def test_a_key_must_be_text() -> None:
    """Lists and mappings as keys are refused; numbers are texts."""
    assert found("? [a]\n: 1\n") == [("bad-key", 1, 3)]
    document = parse("1: x\ntrue: y\n")
    assert document.root is not None
    assert plain_value(document.root) == {"1": "x", "true": "y"}


@pytest.mark.parametrize("text", ["a: {b: ${X}}\n", "a: [${X}]\n", "a: {b: x${X:1}, c: 1}\n"])
def test_a_substitution_without_quotes_in_braces(text: str) -> None:
    """YAML ends a plain text at a brace there; the help says what to do."""
    (problem,) = parse(text).problems

    assert problem.code == "broken-yaml"
    assert '"${NAME}"' in problem.help

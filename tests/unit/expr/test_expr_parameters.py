"""What a parameter is in an expression: a value of its own, whatever stands around it."""

from __future__ import annotations

import pytest

from streamd.expr import Argument, ExpressionError, Scope, parse, written_out
from streamd.expr.errors import UnknownError
from streamd.expr.parameters import read


def out(text: str, **arguments: str) -> str:
    return written_out(text, {name: Argument(source) for name, source in arguments.items()})


@pytest.mark.parametrize(
    ("text", "arguments", "written"),
    [
        ("amount > $limit", {"limit": "50"}, "amount > 50"),
        ("$x * 2", {"x": "a + b"}, "(a + b) * 2"),
        ("not $x", {"x": "a or b"}, "not (a or b)"),
        ("2 ** $x", {"x": "-1"}, "2 ** (-1)"),
        ("$x.y", {"x": "a.b"}, "a.b.y"),
        ("$x[0]", {"x": "[1, 2]"}, "[1, 2][0]"),
        ("a < $x", {"x": "b < c"}, "a < (b < c)"),
        ("$x == '$x' and f'{a} $x'", {"x": "1"}, "1 == '$x' and f'{a} $x'"),
        ("$x and b # $x", {"x": "a # c"}, "a and b # $x"),
        ("$x + 1", {"x": "a\n+ b"}, "(a + b) + 1"),
        ("$x", {"x": "'a' 'b'"}, "('a' 'b')"),
        ("[v for v in $x]", {"x": "items"}, "[v for v in items]"),
    ],
)
def test_it_is_written_out_as_a_value(text: str, arguments: dict[str, str], written: str) -> None:
    assert out(text, **arguments) == written
    parse(written)


@pytest.mark.parametrize(
    ("text", "arguments", "offset", "message"),
    [
        ("a > $limt", {"limit": "1"}, 4, "no parameter"),
        ("a.$x", {"x": "b"}, 2, "cannot stand here"),
        ("'a' $x", {"x": "'b'"}, 0, "side by side"),
        ("$x 'a'", {"x": "'b'"}, 3, "not an expression"),
        ("a $x", {"x": "b"}, 0, "side by side"),
        ("[v for $x in a]", {"x": "b"}, 7, "cannot stand here"),
        ("[v for v in a if v > $x]", {"x": "v"}, 21, "loop variable"),
        ("nobody(1) + $x", {"x": "'a'"}, 0, "nobody"),
        ("a + 1 + $x + nobody(1)", {"x": "long_name + 1"}, 13, "nobody"),
        ("b and matches(a, $x)", {"x": "'('"}, 17, ""),
    ],
)
def test_what_is_wrong_has_its_place_in_the_text_with_parameters(
    text: str, arguments: dict[str, str], offset: int, message: str
) -> None:
    given = {name: Argument(source) for name, source in arguments.items()}
    with pytest.raises(ExpressionError) as caught:
        read(text, given, parse)
    assert caught.value.offset == offset
    assert message in caught.value.message
    assert "ǂ" not in str(caught.value)


def test_nothing_is_concluded_of_what_nobody_has_given() -> None:
    with pytest.raises(UnknownError):
        read("matches(a, $x)", {"x": Argument("'('", known=False)}, parse)
    with pytest.raises(ExpressionError) as caught:
        read("nobody(1) + $x", {"x": Argument("1", known=False)}, parse)
    assert not isinstance(caught.value, UnknownError)


def test_a_value_that_is_none_says_why() -> None:
    with pytest.raises(ExpressionError, match="a duration is a setting"):
        read("$x + 1", {"x": Argument("", "a duration is a setting")}, parse)


def test_it_means_what_the_names_for_it_would_mean() -> None:
    scope = Scope({"a": 2, "b": 3, "c": 5})
    for template in ("$p * $q", "-$p ** 2", "$p if $q > 4 else $q", "[$p, $q][1]", "$p - $q - $p", "not $p == $q"):
        with_names = template.replace("$p", "p").replace("$q", "q")
        named = parse(with_names).interpret(Scope({"p": 2 + 3, "q": 5 - 3}))
        assert parse(out(template, p="a + b", q="c - b")).interpret(scope) == named

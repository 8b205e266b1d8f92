"""Nothing but ExpressionError comes out of `parse`, and it points into the text."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from streamd.expr import Expression, ExpressionError, parse

PIECES = [
    "a",
    "b",
    "x.y",
    "_key",
    "_value",
    "__class__",
    "ä",
    "1",
    "2.5",
    "1e9",
    "'t'",
    '"',
    "'",
    "f'{",
    "f'{a}'",
    "}",
    "{",
    "(",
    ")",
    "[",
    "]",
    ",",
    ":",
    ".",
    "+",
    "-",
    "*",
    "**",
    "/",
    "%",
    "<",
    "==",
    "=",
    "!",
    "&&",
    "?",
    "|",
    "~",
    " and ",
    " or ",
    " not ",
    " in ",
    " is ",
    " if ",
    " else ",
    " for ",
    " x ",
    "lambda ",
    "yield ",
    "await ",
    ":=",
    "lower(",
    "get(",
    "has(",
    "matches(",
    "round(a,",
    "'(a+)+'",
    "null",
    "true",
    "\n",
    "\r",
    "\t",
    "#",
    "\\",
    ";",
    "\x0c",
    "\x00",
    "\ud800",
    "...",
    "1j",
    "b'x'",
    "from",
]


def check(text: str) -> None:
    found = read(text)
    if isinstance(found, Expression):
        assert found.required <= found.fields
    else:
        assert found.message
        assert 0 <= found.offset <= len(text)
        assert 0 <= found.length <= len(text) - found.offset + 1


def read(text: str) -> Expression | ExpressionError:
    try:
        return parse(text)
    except ExpressionError as error:
        return error


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
@settings(max_examples=600, deadline=None, derandomize=True)
def test_pieces_of_expressions(text: str) -> None:
    check(text)


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_text(text: str) -> None:
    check(text)


@given(st.text(alphabet="()[]{}'\"f:!,ab.+-*= \n", max_size=200))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_brackets_and_quotes(text: str) -> None:
    check(text)

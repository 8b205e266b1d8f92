"""Hints for text that is not an expression: the habits people bring from other languages."""

from __future__ import annotations

import keyword
import re
from typing import NamedTuple

# Text literals, so that nothing inside of them is taken for a slip; an unfinished one reaches to the end.
_TOKEN = re.compile(
    r"""
    (?P<text>[rRfFbBuU]{0,2}(?:'''.*?(?:'''|\Z)|\"\"\".*?(?:\"\"\"|\Z)
        |'(?:\\.|[^'\\\n])*(?:'|\Z)?|"(?:\\.|[^"\\\n])*(?:"|\Z)?))
    |(?P<comment>\#[^\n]*)
    |(?P<name>[^\W\d]\w*)
    |(?P<number>\d[\w.]*)
    |(?P<operator>===|!==|&&|\|\||<=>|<>|=>|=<|==|!=|<=|>=|:=|\*\*|//|<<|>>|->|\?\?|\?\.|\?|\+\+|[^\s\w])
    """,
    re.VERBOSE | re.DOTALL,
)
_OPERATORS = {
    "&&": "use and, not &&",
    "||": "use or, not ||",
    "===": "use ==, not ===",
    "!==": "use !=, not !==",
    "<>": "use !=, not <>",
    "=>": "use >= for 'at least'",
    "=<": "use <= for 'at most'",
    "<=>": "compare with <, ==, or >",
    "=": "use == to compare, not =",
    "!": "use not x, not !x",
    ":=": "there is no assignment in an expression",
    "??": "use get(a.b, default) for a missing field, coalesce(a, b) for a null",
    "?.": "use get(a.b, default) for a field that may be missing",
    "?": "use x if condition else y, not condition ? x : y",
    ";": "an expression is one value: there are no statements",
    "$": "a field is written by its name alone: amount, order.items[0]",
    "`": 'a text is written "in quotes", a field by its name alone',
    "++": "write x + 1",
}
_WORDS = {
    "AND": "use and",
    "OR": "use or",
    "NOT": "use not",
    "IN": "use in",
    "LIKE": 'use matches(text, "pattern"), starts_with, ends_with or contains',
    "like": 'use matches(text, "pattern"), starts_with, ends_with or contains',
    "BETWEEN": "use low <= x <= high",
    "between": "use low <= x <= high",
    "then": "use x if condition else y",
    "THEN": "use x if condition else y",
    "xor": "use a != b for bools",
}
_SPOKEN = frozenset({"and", "or", "not", "in", "is", "if", "else", "for", "True", "False", "None"})
_BRACKETS = {")": "(", "]": "[", "}": "{"}


class Slip(NamedTuple):
    """Something wrong at a place in the text. `hint` says what would be right."""

    message: str
    offset: int
    length: int
    hint: str | None


class Token(NamedTuple):
    kind: str
    text: str
    offset: int


def tokens(text: str) -> list[Token]:
    """The text cut into texts, names, numbers and operators; only as exact as hints need."""
    found = (match for match in _TOKEN.finditer(text))
    return [Token(match.lastgroup or "", match[0], match.start()) for match in found if match.lastgroup != "comment"]


def depth(text: str) -> int:
    """How deep brackets are nested, whether or not they match."""
    deepest = level = 0
    for token in tokens(text):
        if token.kind == "operator":
            level += (token.text in "([{") - (token.text in ")]}")
            deepest = max(deepest, level)
    return deepest


def unbalanced(text: str) -> Slip | None:
    """The first bracket that is never closed or was never opened."""
    opened: list[Token] = []
    for token in tokens(text):
        if token.kind == "text" and not _finished(token.text):
            return Slip("the text is never closed", token.offset, len(token.text), f"end it with {_quote(token.text)}")
        if token.kind != "operator":
            continue
        if token.text in "([{":
            opened.append(token)
        elif token.text in _BRACKETS:
            if not opened or opened[-1].text != _BRACKETS[token.text]:
                return Slip(f"{token.text!r} closes nothing", token.offset, 1, None)
            opened.pop()
    if opened:
        hint = "a comma ends a text within { } or [ ] of YAML: put it in quotes there"
        return Slip(f"{opened[-1].text!r} is never closed", opened[-1].offset, 1, hint)
    return None


def _quote(text: str) -> str:
    return next(character for character in text if character in "'\"")


def _finished(text: str) -> bool:
    body = text.lstrip("rRfFbBuU")
    quote = body[:3] if body[:3] in ("'''", '"""') else body[0]
    return len(body) >= 2 * len(quote) and body.endswith(quote)


def slip(text: str) -> Slip | None:
    """The first known slip in a text that Python refuses."""
    found = tokens(text)
    for number, token in enumerate(found):
        before = found[number - 1] if number else None
        after = found[number + 1] if number + 1 < len(found) else None
        if token.kind == "operator" and token.text in _OPERATORS:
            if token.text == "=" and _is_argument(found, number):
                continue
            return Slip(
                f"{token.text!r} is not an operator here", token.offset, len(token.text), _OPERATORS[token.text]
            )
        if token.kind != "name":
            continue
        if token.text in _WORDS and before and before.kind != "operator":
            return Slip(f"{token.text!r} cannot stand here", token.offset, len(token.text), _WORDS[token.text])
        if keyword.iskeyword(token.text) and token.text not in _SPOKEN:
            return _reserved(token, before, after)
    return None


def _reserved(token: Token, before: Token | None, after: Token | None) -> Slip:
    """A word of Python that expressions have no use for: most likely a field's name."""
    hint: str | None = f'for a field of that name write _value["{token.text}"]'
    if before and before.text == ".":
        hint = f'write ["{token.text}"] in place of .{token.text}'
    elif token.text == "lambda":
        hint = "there are no functions of one's own; use a comprehension: [f(x) for x in items]"
    elif token.text in ("import", "def", "class", "return") and after and after.kind == "name":
        hint = "an expression is one value: there are no statements"
    return Slip(f"{token.text!r} is a reserved word", token.offset, len(token.text), hint)


def _is_argument(found: list[Token], number: int) -> bool:
    """Whether an `=` is that of `name=value` in a call."""
    return number >= 2 and found[number - 1].kind == "name" and found[number - 2].text in ("(", ",")

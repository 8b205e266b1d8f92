"""YAML scalars: what a plain one means in the YAML 1.2 core schema, and where in the file each character stands."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

import yaml

ScalarValue: TypeAlias = str | int | float | bool | None

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o(?P<oct>[0-7]+)|0x(?P<hex>[0-9a-fA-F]+)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"(?P<sign>[-+]?)\.(inf|Inf|INF)")
_NAN = frozenset((".nan", ".NaN", ".NAN"))
_MAX_DIGITS = 300

_BREAKS = "\r\n\x85\u2028\u2029"
_BLANKS = " \t" + _BREAKS
_ESCAPE_DIGITS = {"x": 2, "u": 4, "U": 8}
_ESCAPES = {
    "0": "\0",
    "a": "\a",
    "b": "\b",
    "t": "\t",
    "\t": "\t",
    "n": "\n",
    "v": "\v",
    "f": "\f",
    "r": "\r",
    "e": "\x1b",
    " ": " ",
    '"': '"',
    "/": "/",
    "\\": "\\",
    "N": "\x85",
    "_": "\xa0",
    "L": "\u2028",
    "P": "\u2029",
}


def resolve_plain(text: str) -> ScalarValue:
    """The value of a plain scalar. `yes`, `no`, `on`, `off` are texts, 010 is ten, as YAML 1.2 has it."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if text[0] not in "+-.0123456789" or len(text) > _MAX_DIGITS:
        return text
    if _INT.fullmatch(text):
        return int(text)
    based = _BASED.fullmatch(text)
    if based is not None:
        return int(based["oct"], 8) if based["oct"] else int(based["hex"], 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    infinite = _INFINITE.fullmatch(text)
    if infinite is not None:
        return float("-inf") if infinite["sign"] == "-" else float("inf")
    return float("nan") if text in _NAN else text


def inline_yaml(value: Any) -> str:
    """A value as YAML on one line, for examples: {ca: /etc/ca.pem}."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def character_index(raw: str, text: str, style: str | None, offset: int) -> int:
    """Where in `raw`, the scalar as it stands in the file, character `offset` of its value `text` is written.

    Folding and indentation only change blanks, so the other characters are found in order; quotes and escapes are
    undone. An offset at or past the end gives the place after the last character.
    """
    at = _content_start(raw, style)
    for character in text[:offset]:
        at = _find(raw, at, character, style)[1]
    if offset >= len(text):
        return min(at, len(raw))
    return min(_find(raw, at, text[offset], style)[0], max(len(raw) - 1, 0))


def _content_start(raw: str, style: str | None) -> int:
    if style in ("|", ">"):
        return raw.find("\n") + 1
    if style in ("'", '"'):
        return raw.find(style) + 1
    return 0


def _find(raw: str, at: int, character: str, style: str | None) -> tuple[int, int]:
    """Where the next character of the value begins and ends in `raw`, from `at` on."""
    if character in _BLANKS:
        found, end = _piece(raw, at, style)
        # A folded line break stands for this blank, or for none: the next character skips what is left of it.
        return (at, end) if found == character else (at, at)
    while at < len(raw):
        found, end = _piece(raw, at, style)
        if found == character:
            return at, end
        at = end
    return len(raw), len(raw)


def _piece(raw: str, at: int, style: str | None) -> tuple[str, int]:
    """What is written at `at` (one character, or one escape): the character it stands for, and its end."""
    if at >= len(raw):
        return "", at
    if style == "'" and raw.startswith("''", at):
        return "'", at + 2
    if style != '"' or raw[at] != "\\" or at + 1 >= len(raw):
        return raw[at], at + 1
    letter = raw[at + 1]
    digits = _ESCAPE_DIGITS.get(letter)
    if digits is not None:
        return chr(int(raw[at + 2 : at + 2 + digits], 16)), at + 2 + digits
    return _ESCAPES.get(letter, ""), at + 2

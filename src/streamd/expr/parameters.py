"""Parameters in an expression: `amount > $limit` and what stands for `$limit` → the expression written out.

A parameter is a value of its own: it stands where a name may stand, in brackets where it is more than one word, and is
an expression of its own before. So it cannot change what is around it. `$` inside a text literal is only a character.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from streamd.expr.errors import ExpressionError, UnknownError
from streamd.expr.parse import Place, syntax
from streamd.expr.slips import tokens
from streamd.expr.suggest import closest

REFERENCE = re.compile(r"\$([A-Za-z_]\w*)")
# Stands for `$` while the syntax around it is checked: a letter that nobody writes, one character as `$` is.
_MARK = "ǂ"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Argument:
    """What stands for a parameter. `source` is a checked expression's text; "" where it can be none, and `why` then.

    Not `known`: a stand-in for what the user of a chain will give, of which nothing may be concluded.
    """

    source: str
    why: str = ""
    known: bool = True


@dataclass(frozen=True, slots=True)
class _Piece:
    """Where [start, end) of the text written out comes from: [offset, offset + length) of the text with parameters."""

    start: int
    end: int
    offset: int
    length: int
    argument: Argument | None = None


def read(text: str, arguments: Mapping[str, Argument], parse: Callable[[str], T]) -> T:
    """`parse` of the text with its parameters written out. Raises ExpressionError with places in `text`."""
    written, pieces = _written(text, arguments)
    try:
        return parse(written)
    except ExpressionError as error:
        raise _moved(error, pieces) from None


def written_out(text: str, arguments: Mapping[str, Argument]) -> str:
    """The text with its parameters written out, which is an expression where the text with names for them is one."""
    return _written(text, arguments)[0]


def _written(text: str, arguments: Mapping[str, Argument]) -> tuple[str, list[_Piece]]:
    found = _references(text)
    for name, offset in found:
        _check(name, offset, arguments)
    _check_syntax(text, found, arguments)
    pieces: list[_Piece] = []
    written = ""
    at = 0
    for name, offset in found:
        pieces.append(_Piece(len(written), len(written) + offset - at, at, offset - at))
        written += text[at:offset]
        argument = arguments[name]
        source = _one_line(argument.source)
        source = source if _atom(source) else f"({source})"
        pieces.append(_Piece(len(written), len(written) + len(source), offset, len(name) + 1, argument))
        written += source
        at = offset + len(name) + 1
    pieces.append(_Piece(len(written), len(written) + len(text) - at, at, len(text) - at))
    return written + text[at:], pieces


def _references(text: str) -> list[tuple[str, int]]:
    """(name, offset of its `$`) of every parameter outside of text literals."""
    found = []
    for dollar, name in pairwise(tokens(text)):
        apart = name.offset != dollar.offset + 1
        if dollar.text == "$" and name.kind == "name" and not apart and REFERENCE.fullmatch(f"${name.text}"):
            found.append((name.text, dollar.offset))
    return found


def _check(name: str, offset: int, arguments: Mapping[str, Argument]) -> None:
    argument = arguments.get(name)
    if argument is None:
        near = closest(name, arguments)
        hint = f"did you mean ${near}?" if near else "parameters are declared below `parameters:`"
        raise ExpressionError(f"there is no parameter {name!r}", offset, len(name) + 1, hint)
    if not argument.source:
        raise ExpressionError(f"${name} cannot stand in an expression: {argument.why}", offset, len(name) + 1)


def _check_syntax(text: str, found: list[tuple[str, int]], arguments: Mapping[str, Argument]) -> None:
    """Every parameter stands where a name may, and no loop variable catches a field that it reads."""
    if not found:
        return
    marked = list(text)
    for _, offset in found:
        marked[offset] = _MARK
    template = "".join(marked)
    try:
        tree = syntax(template)
    except ExpressionError as error:
        hint = error.hint.replace(_MARK, "$") if error.hint else None
        raise ExpressionError(error.message.replace(_MARK, "$"), error.offset, error.length, hint) from None
    places = {offset: name for name, offset in found}
    of = Place(template).of
    stand = {of(node)[0] for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    for offset, name in places.items():
        if offset not in stand:
            raise ExpressionError(f"${name} cannot stand here: a parameter is a value", offset, len(name) + 1)
    for loop in ast.walk(tree):
        if isinstance(loop, ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp):
            targets = [node for each in loop.generators for node in ast.walk(each.target)]
            variables = {node.id for node in targets if isinstance(node, ast.Name)}
            for node in ast.walk(loop):
                name = places.get(of(node)[0], "") if isinstance(node, ast.Name) else ""
                if name and (caught := variables & _names(arguments[name].source)):
                    message = f"${name} reads the field {min(caught)!r}, which is a loop variable here"
                    raise ExpressionError(message, of(node)[0], len(name) + 1, "give the loop variable another name")


def _one_line(source: str) -> str:
    """The same without comments, which would reach over what comes behind, and without ends of lines."""
    return ast.unparse(syntax(source)) if any(character in source for character in "#\\\n\r\f") else source.strip()


def _atom(source: str) -> bool:
    """Whether it needs no brackets, whatever stands around it."""
    tree = syntax(source)
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        return source == repr(tree.value)  # and no literals beside each other
    return isinstance(tree, ast.Name | ast.Attribute | ast.Subscript | ast.Call | ast.Constant | ast.List)


def _names(source: str) -> set[str]:
    return {node.id for node in ast.walk(syntax(source)) if isinstance(node, ast.Name)}


def _moved(error: ExpressionError, pieces: list[_Piece]) -> ExpressionError:
    """The error with its place in the text with parameters."""
    for piece in pieces:
        if piece.argument is not None and piece.start <= error.offset < piece.end:
            kind = ExpressionError if piece.argument.known else UnknownError
            return kind(error.message, piece.offset, piece.length, error.hint)
    unknown = any(piece.argument is not None and not piece.argument.known for piece in pieces)
    inside = [piece for piece in pieces if piece.argument is None and piece.start <= error.offset <= piece.end]
    piece = inside[0] if inside else pieces[-1]
    offset = piece.offset + min(error.offset - piece.start, piece.length)
    # What reaches over a stand-in may be wrong because of it.
    reaches = unknown and any(
        other.argument is not None and error.offset <= other.start < error.offset + error.length for other in pieces
    )
    kind = UnknownError if reaches else ExpressionError
    return kind(error.message, offset, min(error.length, max(piece.length - (offset - piece.offset), 1)), error.hint)

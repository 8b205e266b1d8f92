"""From text to a checked expression. Nothing but ExpressionError comes out of `parse`, whatever goes in."""

from __future__ import annotations

import ast
import warnings
from typing import NoReturn

from streamd.expr import slips
from streamd.expr.check import Checker
from streamd.expr.errors import ExpressionError
from streamd.expr.expression import Expression

MAX_LENGTH = 10_000
MAX_BRACKETS = 64  # within one another; Python's own parser stops at 200
MAX_DEPTH = 80  # of the syntax tree: what walks it recurses up to six frames for each level


def parse(text: str) -> Expression:
    """Read and check an expression: syntax, allow-list, names and arguments of functions. Pure.

    Raises ExpressionError with the place in the text and, where it can be told, what would be right.
    """
    tree = syntax(text)
    return Expression(text, Checker(Place(text).of).check(tree))


def syntax(text: str) -> ast.expr:
    """The syntax tree of a text that is one value of Python, not too long and not too deep. Raises ExpressionError."""
    if not isinstance(text, str):
        raise ExpressionError(f"an expression is a text, not a {type(text).__name__}", 0, 0)
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the expression has {len(text):,} characters, at most {MAX_LENGTH:,} are allowed", 0, 1)
    if "\0" in text:
        raise ExpressionError("the expression has a character that no text can have", text.index("\0"), 1)
    if not text.strip():
        raise ExpressionError("the expression is empty", 0, 0, "write a value, such as a field's name")
    if slips.depth(text) > MAX_BRACKETS:
        raise ExpressionError(f"the expression is nested deeper than {MAX_BRACKETS} brackets", 0, len(text))
    tree = _syntax(text)
    _check_depth(tree, text)
    return tree


class Place:
    """Turns the parser's lines and UTF-8 columns into characters of the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.split("\n")
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line) + 1)

    def of(self, node: ast.AST) -> tuple[int, int]:
        """A node's offset and length."""
        start = self.at(getattr(node, "lineno", 2), getattr(node, "col_offset", 0))
        end = self.at(getattr(node, "end_lineno", None) or 2, getattr(node, "end_col_offset", None) or 0)
        return start, max(end - start, 0 if start == len(self.text) else 1)

    def at(self, line: int, column: int) -> int:
        """The offset of a place in the text that was parsed, which has one line more at its start."""
        index = min(max(line - 2, 0), len(self.lines) - 1)
        encoded = self.lines[index].encode("utf-8", "surrogatepass")[: max(column, 0)]
        return min(self.starts[index] + len(encoded.decode("utf-8", "ignore")), len(self.text))


def _syntax(text: str) -> ast.expr:
    """Parse the text between parentheses, so that it may go over several lines."""
    # One space for each carriage return keeps every offset as it is.
    wrapped = "(\n" + text.replace("\r\n", " \n").replace("\r", "\n").replace("\f", " ") + "\n)"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in a pattern is what people write, and means what they mean
            tree = ast.parse(wrapped, mode="eval").body
    except SyntaxError as error:
        _refuse(text, error)
    except (RecursionError, MemoryError):
        raise ExpressionError("the expression is nested too deeply", 0, len(text)) from None
    except (ValueError, OverflowError):
        raise ExpressionError("the expression has characters that no text can have", 0, len(text)) from None
    if tree.lineno == 1:  # our own parentheses belong to the value: the text is no single expression
        _refuse_parts(text, tree)
    return tree


def _refuse(text: str, error: SyntaxError) -> NoReturn:
    found = slips.unbalanced(text) or slips.slip(text)
    if found is not None:
        raise ExpressionError(found.message, found.offset, found.length, found.hint) from None
    place = Place(text)
    line = error.lineno or 2
    offset = (
        min(place.at(line, 0) + max((error.offset or 1) - 1, 0), len(text))
        if line - 2 < len(place.lines)
        else len(text)
    )
    end = error.end_offset or 0
    length = end - (error.offset or 0) if error.end_lineno == error.lineno and end > (error.offset or 0) else 1
    message = error.msg or ""
    if offset >= len(text.rstrip()):
        raise ExpressionError("the expression ends too early: a value is missing", len(text.rstrip()), 1) from None
    if "digits" in message:
        raise ExpressionError("the number has too many digits", offset, length) from None
    if "forgot a comma" in message:
        message = "two values stand side by side without an operator"
    elif message.startswith(("invalid syntax", "f-string: invalid", "cannot assign", "expression cannot contain")):
        message = "this is not an expression"
    raise ExpressionError(message[:200], offset, max(1, min(length, len(text) - offset))) from None


def _refuse_parts(text: str, tree: ast.expr) -> NoReturn:
    found = slips.unbalanced(text)
    if found is not None:
        raise ExpressionError(found.message, found.offset, found.length, found.hint)
    if isinstance(tree, ast.Tuple) and not tree.elts:
        raise ExpressionError("the expression is empty", 0, len(text), "write a value, such as a field's name")
    if isinstance(tree, ast.Tuple):
        raise ExpressionError("these are several values", 0, len(text), "write [a, b] for a list")
    raise ExpressionError("a loop has to be in brackets", 0, len(text), "write [… for x in items]")


def _check_depth(tree: ast.expr, text: str) -> None:
    level: list[ast.AST] = [tree]
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ExpressionError(f"the expression is nested deeper than {MAX_DEPTH} levels", 0, len(text))
        level = [child for node in level for child in ast.iter_child_nodes(node)]

"""What is known of the type of a value before there is a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamd.expr.nodes import NUMERIC, Kind, Node

NO_ITEMS: frozenset[Kind] = frozenset({"int", "float", "number", "bool", "null"})
NO_LOOP: frozenset[Kind] = NO_ITEMS
WORDS: Mapping[Kind, str] = {"int": "number", "float": "number"}
_WITHOUT: Mapping[str, frozenset[Kind]] = {
    "+": frozenset({"object", "null"}),
    "*": frozenset({"object", "null"}),
}
_NOT_NUMERIC: frozenset[Kind] = frozenset({"text", "list", "object", "null"})


def of_value(value: object) -> Kind | None:
    """The kind of a literal; None for one that expressions don't have."""
    if value is None:
        return "null"
    kinds: dict[type, Kind] = {bool: "bool", int: "int", float: "float", str: "text"}
    return kinds.get(type(value))


def common(nodes: Sequence[Node]) -> Kind:
    """The kind of a value that is one of several."""
    kinds = {node.kind for node in nodes}
    if len(kinds) == 1:
        return kinds.pop()
    return "number" if kinds <= {"int", "float", "number"} else "any"


def word(node: Node) -> str:
    """The kind as users say it."""
    return WORDS.get(node.kind, node.kind)


def mismatch(operator: str, left: Node, right: Node) -> str | None:
    """Why an operator can never have a value for these operands."""
    for node in (left, right):
        if node.kind in _WITHOUT.get(operator, _NOT_NUMERIC):
            return f"{operator} does not work on {_with_article(word(node))}"
    kinds = {left.kind, right.kind}
    if operator == "+" and "any" not in kinds and len(kinds - NUMERIC) + bool(kinds & NUMERIC) > 1:
        return f"{_with_article(word(left))} and {_with_article(word(right))} cannot be added"
    if operator == "*" and kinds <= {"text", "list"}:
        return f"{_with_article(word(left))} cannot be multiplied with {_with_article(word(right))}"
    return None


def _with_article(name: str) -> str:
    return name if name == "null" else f"an {name}" if name[0] in "aeiou" else f"a {name}"


def number_or_any(node: Node) -> Kind:
    return node.kind if node.kind in ("int", "float", "number") else "number"


def of_binary(operator: str, left: Node, right: Node) -> Kind:
    """The kind of what an operator gives, if it gives anything."""
    kinds = {left.kind, right.kind}
    if operator == "**":
        return "number"
    if operator in ("+", "*"):
        if operator == "+" and "text" in kinds:
            return "text"
        if operator == "+" and "list" in kinds:
            return "any" if kinds != {"list"} else "list"
        numbers = kinds & NUMERIC
        certain = len(numbers) == len(kinds) or "float" in kinds or (operator == "+" and bool(numbers))
        if not certain:
            return "text" if operator == "*" and "text" in kinds else "any"
    if operator == "/" or "float" in kinds:
        return "float"
    return "int" if kinds <= {"int", "bool"} else "number"

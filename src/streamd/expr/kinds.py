"""What is known of the type of a value before there is a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamd.expr.nodes import NUMERIC, Kind, Node

NO_ITEMS: frozenset[Kind] = frozenset({"int", "float", "number", "bool", "null"})
NO_LOOP: frozenset[Kind] = NO_ITEMS
WORDS: Mapping[Kind, str] = {"int": "number", "float": "number", "number": "number", "bool": "bool", "null": "null"}


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

"""What can be told of an expression before there is a record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamd.expr.nodes import (
    Call,
    Choice,
    Compare,
    Document,
    Field,
    Get,
    Has,
    Item,
    Kind,
    Literal,
    Logic,
    Loop,
    Metadata,
    Node,
    children,
    walk,
)

if TYPE_CHECKING:
    from streamd.expr.expression import StaticType

_NOTHING: frozenset[str] = frozenset()
_STATIC: dict[Kind, StaticType] = {"int": "number", "float": "number", "null": "any"}


@dataclass(frozen=True, slots=True)
class Facts:
    """See `Expression`, whose attributes these become."""

    fields: frozenset[str]
    required: frozenset[str]
    metadata: frozenset[str]
    headers: frozenset[str] | None
    names: frozenset[str]
    whole_document: bool
    constant: bool
    static_type: StaticType


def facts_of(node: Node) -> Facts:
    fields: set[str] = set()
    metadata: set[str] = set()
    names: set[str] = set()
    whole_document = False
    constant = True
    for part in walk(node):
        match part:
            case Field(name):
                fields.add(name)
            case Metadata(name):
                metadata.add(name)
            case Document():
                whole_document = True
            case Item(_, Literal(str() as name)):
                names.add(name)
            case Call(function, _) if not function.deterministic:
                constant = False
    constant = constant and not (fields or metadata or whole_document)
    static_type = _STATIC.get(node.kind, node.kind)
    return Facts(
        frozenset(fields),
        required(node),
        frozenset(metadata),
        headers(node),
        frozenset(names | fields),
        whole_document,
        constant,
        static_type,  # type: ignore[arg-type]
    )


def headers(node: Node) -> frozenset[str] | None:
    """The headers that may be read, None where they are not only read by a name that stands there."""
    parts = list(walk(node))
    named: list[str] = []
    uses = 0
    for part in parts:
        match part:
            case Metadata("_headers"):
                uses += 1
            case Item(Metadata("_headers"), Literal(str() as name)):
                named.append(name)
            case Has(Metadata("_headers"), (Literal(str() as name), *_)):
                named.append(name)
            case Get(Metadata("_headers"), (Literal(str() as name), *_)):
                named.append(name)
            case Compare(_, (("in" | "not in", Metadata("_headers")),)):
                named.append("")
    return frozenset(named) if len(named) == uses else None


def required(node: Node) -> frozenset[str]:
    """Fields that are read whenever the node is evaluated without an error."""
    match node:
        case Field(name):
            return frozenset((name,))
        case Has() | Get():
            return _NOTHING
        case Logic(_, values):
            return required(values[0])
        case Compare(first, rest):
            return required(first) | required(rest[0][1])
        case Choice(test, yes, no):
            return required(test) | (required(yes) & required(no))
        case Loop(_, sources):
            return required(sources[0].iterable)
        case _:
            return _NOTHING.union(*(required(child) for child in children(node)))

"""What a checked expression is made of. What has no node here cannot be said in an expression."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal as OneOf
from typing import TypeAlias

from streamd.expr.functions.catalogue import Function

# What is known of a value before there is a record. "int", "float" and "bool" are numbers to Python's operators.
Kind: TypeAlias = OneOf["int", "float", "number", "text", "bool", "list", "object", "null", "any"]
NUMERIC: frozenset[Kind] = frozenset({"int", "float", "number", "bool"})


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant; also an argument made ready when the expression was read (a checked pattern, a time unit)."""

    value: object
    kind: Kind


@dataclass(frozen=True, slots=True)
class Field:
    """A top-level field of the document."""

    name: str
    kind: Kind = "any"


@dataclass(frozen=True, slots=True)
class Metadata:
    """`_key`, `_timestamp`, …: `name` with its underscore."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Document:
    """`_value`: the whole document."""

    kind: Kind = "object"


@dataclass(frozen=True, slots=True)
class Variable:
    """A loop variable. `number` tells apart variables of the same name in one expression."""

    name: str
    number: int
    kind: Kind = "any"


@dataclass(frozen=True, slots=True)
class Item:
    """`value.key`, `value["key"]`, `value[0]`."""

    value: Node
    key: Node
    kind: Kind = "any"


@dataclass(frozen=True, slots=True)
class Slice:
    """`value[start:stop:step]`."""

    value: Node
    bounds: tuple[Node | None, Node | None, Node | None]
    kind: Kind = "any"


@dataclass(frozen=True, slots=True)
class Unary:
    operator: str  # "-", "+", "not"
    operand: Node
    kind: Kind


@dataclass(frozen=True, slots=True)
class Binary:
    operator: str  # "+", "-", "*", "/", "//", "%", "**"
    left: Node
    right: Node
    kind: Kind


@dataclass(frozen=True, slots=True)
class Logic:
    operator: str  # "and", "or"
    values: tuple[Node, ...]
    kind: Kind


@dataclass(frozen=True, slots=True)
class Compare:
    first: Node
    rest: tuple[tuple[str, Node], ...]
    kind: Kind = "bool"


@dataclass(frozen=True, slots=True)
class Choice:
    """`yes if test else no`."""

    test: Node
    yes: Node
    no: Node
    kind: Kind


@dataclass(frozen=True, slots=True)
class Display:
    """`[a, b]`, `(a, b)`, and `{a, b}` to the right of `in`."""

    shape: OneOf["list", "tuple", "set"]
    items: tuple[Node, ...]
    kind: Kind = "list"


@dataclass(frozen=True, slots=True)
class Object:
    """`{key: value}`."""

    entries: tuple[tuple[Node, Node], ...]
    kind: Kind = "object"


@dataclass(frozen=True, slots=True)
class Piece:
    """`{value!conversion:spec}` inside an f-string. `conversion` is "s", "r", "a" or None."""

    value: Node
    conversion: str | None
    spec: str


@dataclass(frozen=True, slots=True)
class Text:
    """An f-string."""

    parts: tuple[str | Piece, ...]
    kind: Kind = "text"


@dataclass(frozen=True, slots=True)
class Each:
    """`for target in iterable if condition …`. With `unpack` the items are taken apart into several variables."""

    targets: tuple[Variable, ...]
    unpack: bool
    iterable: Node
    conditions: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """A list comprehension; with `lazy` the generator argument of a function that stops when it knows enough."""

    element: Node
    sources: tuple[Each, ...]
    lazy: bool
    kind: Kind = "list"


@dataclass(frozen=True, slots=True)
class Call:
    """Arguments are positional, in the order of the function's signature, with defaults filled in where needed."""

    function: Function
    arguments: tuple[Node, ...]
    kind: Kind


@dataclass(frozen=True, slots=True)
class Has:
    """`has(base.key[key])`; without keys `base` is a field."""

    base: Node
    keys: tuple[Node, ...]
    kind: Kind = "bool"


@dataclass(frozen=True, slots=True)
class Get:
    """`get(base.key[key], default)`; without keys `base` is a field. The default is read only when it is needed."""

    base: Node
    keys: tuple[Node, ...]
    default: Node
    kind: Kind = "any"


Node: TypeAlias = (
    Literal
    | Field
    | Metadata
    | Document
    | Variable
    | Item
    | Slice
    | Unary
    | Binary
    | Logic
    | Compare
    | Choice
    | Display
    | Object
    | Text
    | Loop
    | Call
    | Has
    | Get
)


def children(node: Node) -> Iterator[Node]:
    """The nodes right below, in the order in which they are read."""
    match node:
        case Item(value, key):
            yield from (value, key)
        case Slice(value, bounds):
            yield value
            yield from (bound for bound in bounds if bound is not None)
        case Unary(_, operand):
            yield operand
        case Binary(_, left, right):
            yield from (left, right)
        case Logic(_, values):
            yield from values
        case Compare(first, rest):
            yield first
            yield from (value for _, value in rest)
        case Choice(test, yes, no):
            yield from (test, yes, no)
        case Display(_, items):
            yield from items
        case Object(entries):
            for key, value in entries:
                yield from (key, value)
        case Text(parts):
            yield from (part.value for part in parts if isinstance(part, Piece))
        case Loop(element, sources):
            for each in sources:
                yield each.iterable
                yield from each.conditions
            yield element
        case Call(_, arguments):
            yield from arguments
        case Has(base, keys):
            yield base
            yield from keys
        case Get(base, keys, default):
            yield base
            yield from keys
            yield default
        case _:
            pass


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(children(node))

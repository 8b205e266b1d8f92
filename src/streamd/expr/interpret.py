"""What an expression means, by walking its nodes one at a time. Slow: what `source` writes is tested against it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from streamd.errors import MissingFieldError
from streamd.expr import limits
from streamd.expr.expression import METADATA
from streamd.expr.loops import is_plain
from streamd.expr.nodes import (
    NUMERIC,
    Binary,
    Call,
    Choice,
    Compare,
    Display,
    Document,
    Each,
    Field,
    Get,
    Has,
    Item,
    Literal,
    Logic,
    Loop,
    Metadata,
    Node,
    Object,
    Piece,
    Slice,
    Text,
    Unary,
    Variable,
)
from streamd.expr.paths import MISSING, find

if TYPE_CHECKING:
    from streamd.expr.expression import Scope

_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": limits.times,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": limits.power,
}
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda item, container: item in container,
    "not in": lambda item, container: item not in container,
    "is": operator.is_,
    "is not": operator.is_not,
}
_UNARY: dict[str, Callable[[Any], Any]] = {"-": operator.neg, "+": operator.pos, "not": operator.not_}
_CONVERSIONS: dict[str | None, Callable[[Any], Any]] = {
    None: lambda value: value,
    "s": limits.as_text,
    "r": repr,
    "a": ascii,
}


def evaluate(node: Node, scope: Scope) -> Any:
    """The node's value. Raises what Python's operators raise, MissingFieldError and TransformError."""
    return _Interpreter(scope).value(node)


class _Interpreter:
    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.variables: dict[int, Any] = {}
        self.budget: limits.Budget | None = None
        self.built: list[int] | None = None  # by products of a loop without a budget

    def value(self, node: Node) -> Any:
        match node:
            case Literal(value):
                return value
            case Field(name):
                return self._field(name)
            case Metadata(name):
                return getattr(self.scope, METADATA[name])
            case Document():
                return self.scope.document
            case Variable(_, number):
                return self.variables[number]
            case Item(value, key):
                return self.value(value)[self.value(key)]
            case Slice(value, bounds):
                cut = self._paid(self.value(value))
                start, stop, step = (None if bound is None else self.value(bound) for bound in bounds)
                return cut[start:stop:step]
            case Unary(sign, operand):
                return _UNARY[sign](self.value(operand))
            case Binary():
                return self._binary(node)
            case Logic(word, values):
                return self._logic(word, values)
            case Compare(first, rest):
                return self._compare(self.value(first), rest)
            case Choice(test, yes, no):
                return self.value(yes) if self.value(test) else self.value(no)
            case Display(shape, items):
                shapes: dict[str, Callable[[Any], Any]] = {"list": list, "tuple": tuple, "set": set}
                return shapes[shape]([self.value(item) for item in items])
            case Object(entries):
                pairs = [(self.value(key), self.value(value)) for key, value in entries]
                return dict(pairs)  # all are read before one of them proves to be no key
            case Text(parts):
                return self._paid("".join(part if isinstance(part, str) else self._piece(part) for part in parts))
            case Loop():
                return self._loop(node)
            case Call():
                return self._call(node)
            case Has() | Get():
                return self._find(node)

    def _field(self, name: str) -> Any:
        if name not in self.scope.document:
            raise MissingFieldError(f"field {name!r} is missing")
        return self.scope.document[name]

    def _paid(self, value: Any) -> Any:
        return value if self.budget is None else self.budget.scan(value)

    def _binary(self, node: Binary) -> Any:
        left = self.value(node.left)
        if node.operator == "%":  # of numbers only: a text to the left would be a format
            left = +left
        right = self.value(node.right)
        if node.operator == "+" and self.budget is not None:
            result = limits.plus(left, right)
        elif node.operator == "*" and self.built is not None:
            result = limits.product(left, right, self.built)
        else:
            result = _BINARY[node.operator](left, right)
        pays = node.operator in "+*" and not {node.left.kind, node.right.kind} & NUMERIC
        return self._paid(result) if pays else result

    def _logic(self, word: str, values: tuple[Node, ...]) -> Any:
        for node in values[:-1]:
            value = self.value(node)
            if bool(value) is (word == "or"):
                return value
        return self.value(values[-1])

    def _compare(self, left: Any, rest: tuple[tuple[str, Node], ...]) -> Any:
        result: Any = True
        for sign, node in rest:
            right = self.value(node)
            if sign in ("in", "not in") and not isinstance(node, Display):
                self._paid(right)
            result = _COMPARE[sign](left, right)
            if not result:
                return result
            left = right
        return result

    def _piece(self, piece: Piece) -> str:
        conversion = piece.conversion if piece.spec else piece.conversion or "s"
        return format(_CONVERSIONS[conversion](self.value(piece.value)), piece.spec)

    def _call(self, node: Call) -> Any:
        function = node.function
        arguments = [self.value(argument) for argument in node.arguments]
        if self.budget is None or function.cheap or any(isinstance(value, Iterator) for value in arguments):
            return function.callable(*arguments)
        return self.budget.call(function.callable, *arguments)

    def _find(self, node: Has | Get) -> Any:
        if isinstance(node.base, Field):
            found = self.scope.document.get(node.base.name, MISSING)
        else:
            found = self.value(node.base)
        found = find(found, *[self.value(key) for key in node.keys])
        if isinstance(node, Has):
            return found is not MISSING
        return self.value(node.default) if found is MISSING else found

    def _loop(self, node: Loop) -> Any:
        if self.budget is not None:
            values = self._rounds(node, 0)
            return values if node.lazy else limits.collect(values)
        if is_plain(node):
            values = self._ending(self._plain_rounds(node))
            return values if node.lazy else list(values)
        self.budget = limits.Budget()
        values = self._ending(self._rounds(node, 0))
        return values if node.lazy else limits.collect(values)

    def _ending(self, values: Iterator[Any]) -> Iterator[Any]:
        """The values; budget and count end with them."""
        try:
            yield from values
        finally:
            self.budget = self.built = None

    def _plain_rounds(self, node: Loop) -> Iterator[Any]:
        [each] = node.sources
        iterable = self.value(each.iterable)
        self.built = [0]
        yield from self._items(node, 0, iterable)

    def _rounds(self, node: Loop, level: int) -> Iterator[Any]:
        if level == len(node.sources):
            yield self.value(node.element)
            return
        each: Each = node.sources[level]
        iterable = self.value(each.iterable)
        if self.budget is not None:
            iterable = self.budget(iterable)
        yield from self._items(node, level, iterable)

    def _items(self, node: Loop, level: int, iterable: Any) -> Iterator[Any]:
        each = node.sources[level]
        for item in iterable:
            if each.unpack:
                items = list(item)
                if len(items) != len(each.targets):
                    raise ValueError("an item does not have as many values as there are loop variables")
                self.variables.update((target.number, value) for target, value in zip(each.targets, items, strict=True))
            else:
                self.variables[each.targets[0].number] = item
            if all(self.value(condition) for condition in each.conditions):
                yield from self._rounds(node, level + 1)

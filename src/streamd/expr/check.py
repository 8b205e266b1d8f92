"""The allow-list: turns Python's syntax tree into our own nodes. What is not turned does not exist in expressions."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from typing import NoReturn

from streamd.expr import kinds
from streamd.expr.calls import Calls
from streamd.expr.errors import ExpressionError
from streamd.expr.expression import METADATA
from streamd.expr.limits import MAX_BITS
from streamd.expr.nodes import (
    Binary,
    Choice,
    Compare,
    Display,
    Document,
    Each,
    Field,
    Item,
    Kind,
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
from streamd.expr.refusals import BINARY_HINTS, REFUSED
from streamd.expr.suggest import closest

MAX_LOOPS = 2  # loops in one comprehension, and comprehensions inside one another
MAX_WIDTH = 1_000  # of a padded value in an f-string
_WORDS = {"true": True, "false": False, "null": None}
_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
}
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
}
_METADATA_KINDS: dict[str, Kind] = {
    "_key": "any",
    "_timestamp": "int",
    "_topic": "text",
    "_partition": "int",
    "_offset": "int",
    "_headers": "object",
}
_SPEC = re.compile(
    r"(?:.?[<>=^])?[-+ ]?z?#?0?(?P<width>\d*)[,_]?(?:\.(?P<precision>\d+))?[bcdeEfFgGnosxX%]?", re.DOTALL
)


class Checker(Calls):
    """One use for one text. `place` gives a node's offset and length in it."""

    def __init__(self, place: Callable[[ast.AST], tuple[int, int]]) -> None:
        self.place = place
        self.variables: list[dict[str, Variable]] = []
        self.made = 0
        self.nesting = 0

    def refuse(self, node: ast.AST, message: str, hint: str | None = None) -> NoReturn:
        raise ExpressionError(message, *self.place(node), hint)

    def check(self, node: ast.expr) -> Node:
        match node:
            case ast.Constant():
                return self._literal(node)
            case ast.Name():
                return self._name(node)
            case ast.Attribute() | ast.Subscript():
                return self._item(node)
            case ast.UnaryOp():
                return self._unary(node)
            case ast.BinOp():
                return self._binary(node)
            case ast.BoolOp(operator, values):
                checked = tuple(self.check(value) for value in values)
                return Logic("and" if isinstance(operator, ast.And) else "or", checked, kinds.common(checked))
            case ast.Compare():
                return self._compare(node)
            case ast.IfExp(test, body, orelse):
                asked, yes, no = self.check(test), self.check(body), self.check(orelse)
                return Choice(asked, yes, no, kinds.common((yes, no)))
            case ast.List(items):
                return Display("list", self._items(items))
            case ast.Tuple(items):
                return Display("tuple", self._items(items))
            case ast.Dict(keys, values):
                return self._object(node, keys, values)
            case ast.JoinedStr():
                return self._text(node)
            case ast.ListComp(element, generators):
                return self._loop(node, element, generators, lazy=False)
            case ast.Call():
                return self.call(node)
            case _:
                message, hint = REFUSED.get(type(node), ("this cannot be said in an expression", None))
                return self.refuse(node, message, hint)

    def generator(self, node: ast.GeneratorExp, *, lazy: bool) -> Node:
        return self._loop(node, node.elt, node.generators, lazy=lazy)

    def _literal(self, node: ast.Constant) -> Node:
        value = node.value
        if isinstance(value, float) and not math.isfinite(value):
            self.refuse(node, "the number is too large")
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            self.refuse(node, "the number has too many digits")
        kind = kinds.of_value(value)
        if kind is None:
            self.refuse(node, f"a literal of Python's {type(value).__name__} cannot be used", "use a text or a number")
        return Literal(value, kind)

    def _name(self, node: ast.Name) -> Node:
        name = node.id
        for scope in reversed(self.variables):
            if name in scope:
                return scope[name]
        if name in _WORDS:
            value = _WORDS[name]
            return Literal(value, "null" if value is None else "bool")
        if name == "_value":
            return Document()
        if name in METADATA:
            return Metadata(name, _METADATA_KINDS[name])
        if name.startswith("__"):
            self.refuse(node, f"the name {name!r} is not allowed", f'for a field of that name write _value["{name}"]')
        if name.startswith("_") and (near := closest(name, [*METADATA, "_value"], 0.85)):
            self.refuse(node, f"there is no {name!r}", f'did you mean {near}? A field of that name is _value["{name}"]')
        return Field(name)

    def _item(self, node: ast.Attribute | ast.Subscript) -> Node:
        value = self.check(node.value)
        if value.kind in kinds.NO_ITEMS:
            self.refuse(node, f"a {kinds.word(value)} has no items or fields")
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            bounds = (node.slice.lower, node.slice.upper, node.slice.step)
            start, stop, step = (None if bound is None else self.check(bound) for bound in bounds)
            return Slice(value, (start, stop, step), value.kind if value.kind in ("text", "list") else "any")
        return self._select(node, value, self.step(node))

    def step(self, node: ast.Attribute | ast.Subscript) -> Node:
        """The key of `a.b`, `a["b"]` or `a[0]`; never a name that Python itself gives a meaning."""
        if isinstance(node, ast.Subscript):
            key = self.check(node.slice)
            if isinstance(key, Display) and key.shape == "tuple":
                self.refuse(node, "an index is one value", "write a[0][1] for an item of an item")
            return key
        if node.attr.startswith("__"):
            self.refuse(
                node, f"the name {node.attr!r} is not allowed", f'for a field of that name write ["{node.attr}"]'
            )
        return Literal(node.attr, "text")

    def _select(self, node: ast.expr, value: Node, key: Node) -> Node:
        if isinstance(value, Document) and isinstance(key, Literal) and isinstance(key.value, str):
            return Field(key.value)
        if value.kind in ("text", "list") and key.kind not in ("int", "number", "bool", "any"):
            self.refuse(node, f"the items of a {kinds.word(value)} have numbers, not names")
        return Item(value, key)

    def _unary(self, node: ast.UnaryOp) -> Node:
        if isinstance(node.op, ast.Invert):
            self.refuse(node, "~ is not an operator here", "use not for a condition")
        operand = self.check(node.operand)
        if isinstance(node.op, ast.Not):
            return Unary("not", operand, "bool")
        operator = "-" if isinstance(node.op, ast.USub) else "+"
        wrong = kinds.mismatch("-", operand, operand)
        if wrong is not None:
            self.refuse(node, wrong)
        if isinstance(operand, Literal) and type(operand.value) in (int, float):
            number = operand.value
            assert isinstance(number, int | float)
            return Literal(-number if operator == "-" else number, operand.kind)
        return Unary(operator, operand, "int" if operand.kind == "bool" else kinds.number_or_any(operand))

    def _binary(self, node: ast.BinOp) -> Node:
        operator = _BINARY.get(type(node.op))
        if operator is None:
            sign, hint = BINARY_HINTS[type(node.op)]
            self.refuse(node, f"{sign} is not an operator here", hint)
        left, right = self.check(node.left), self.check(node.right)
        wrong = kinds.mismatch(operator, left, right)
        if wrong is not None:
            texts = "text" in (left.kind, right.kind) and operator in "+%"
            self.refuse(node, wrong, 'use an f-string: f"{a}{b}"' if texts else None)
        return Binary(operator, left, right, kinds.of_binary(operator, left, right))

    def _compare(self, node: ast.Compare) -> Node:
        first = self.check(node.left)
        rest: list[tuple[str, Node]] = []
        for operator, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(operator, ast.Is | ast.IsNot):
                checked = self.check(right)
                if not (isinstance(checked, Literal) and checked.value is None):
                    self.refuse(node, "only null can stand to the right of 'is'", "use == or !=")
                rest.append(("is" if isinstance(operator, ast.Is) else "is not", checked))
            elif isinstance(operator, ast.In | ast.NotIn) and isinstance(right, ast.Set):
                rest.append((_COMPARE[type(operator)], Display("set", self._items(right.elts))))
            else:
                rest.append((_COMPARE[type(operator)], self.check(right)))
        return Compare(first, tuple(rest))

    def _items(self, items: list[ast.expr]) -> tuple[Node, ...]:
        return tuple(self.check(item) for item in items)

    def _object(self, node: ast.Dict, keys: list[ast.expr | None], values: list[ast.expr]) -> Node:
        entries = []
        for key, value in zip(keys, values, strict=True):
            if key is None:
                self.refuse(node, "** is not allowed", "use merge(a, b)")
            entries.append((self.check(key), self.check(value)))
        return Object(tuple(entries))

    def _text(self, node: ast.JoinedStr) -> Node:
        parts: list[str | Piece] = []
        for value in node.values:
            if isinstance(value, ast.Constant):
                parts.append(str(value.value))
            elif isinstance(value, ast.FormattedValue):
                conversion = None if value.conversion == -1 else chr(value.conversion)
                parts.append(Piece(self.check(value.value), conversion, self._spec(value)))
            else:
                self.refuse(node, "this cannot be said in a text")
        return Text(tuple(parts))

    def _spec(self, node: ast.FormattedValue) -> str:
        if node.format_spec is None:
            return ""
        values = node.format_spec.values if isinstance(node.format_spec, ast.JoinedStr) else [node.format_spec]
        if not all(isinstance(value, ast.Constant) for value in values):
            self.refuse(node, "a format has to be written out: it cannot come from a field")
        spec = "".join(str(value.value) for value in values if isinstance(value, ast.Constant))
        return self._checked_spec(node, spec)

    def _checked_spec(self, node: ast.AST, spec: str) -> str:
        """The format itself, if it is one that cannot make a value wide."""
        found = _SPEC.fullmatch(spec)
        if found is None:
            self.refuse(node, f"{spec[:20]!r} is not a format", "right would be .2f, >10, 05d, or , for thousands")
        if any(len(found[part] or "") > 4 or int(found[part] or 0) > MAX_WIDTH for part in ("width", "precision")):
            self.refuse(node, f"the format {spec[:20]!r} is wider than {MAX_WIDTH:,} characters")
        return spec

    def _loop(self, node: ast.expr, element: ast.expr, generators: list[ast.comprehension], *, lazy: bool) -> Node:
        if len(generators) > MAX_LOOPS:
            self.refuse(node, f"a comprehension has at most {MAX_LOOPS} 'for'")
        if self.nesting == MAX_LOOPS:
            self.refuse(node, f"comprehensions can stand at most {MAX_LOOPS} deep in one another")
        self.nesting += 1
        scope: dict[str, Variable] = {}
        sources: list[Each] = []
        for number, generator in enumerate(generators):
            if generator.is_async:
                self.refuse(node, "there is no async in an expression")
            iterable = self.check(generator.iter)
            if number == 0:  # its variables do not hold in the first iterable, as in Python
                self.variables.append(scope)
            if iterable.kind in kinds.NO_LOOP:
                self.refuse(generator.iter, f"cannot loop over a {kinds.word(iterable)}")
            targets, unpack = self._targets(generator.target, scope)
            conditions = tuple(self.check(condition) for condition in generator.ifs)
            sources.append(Each(targets, unpack, iterable, conditions))
        body = self.check(element)
        self.variables.pop()
        self.nesting -= 1
        return Loop(body, tuple(sources), lazy)

    def _targets(self, node: ast.expr, scope: dict[str, Variable]) -> tuple[tuple[Variable, ...], bool]:
        unpack = isinstance(node, ast.Tuple | ast.List)
        names = node.elts if isinstance(node, ast.Tuple | ast.List) else [node]
        made = []
        for name in names:
            if not isinstance(name, ast.Name):
                self.refuse(name, "a loop variable is a plain name")
            if name.id.startswith("_") or name.id in _WORDS:
                self.refuse(name, f"{name.id!r} cannot be a loop variable", "choose a name that starts with a letter")
            made.append(Variable(name.id, self.made))
            self.made += 1
        scope.update((variable.name, variable) for variable in made)
        return tuple(made), unpack

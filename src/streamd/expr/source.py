"""Writes an expression as Python source for generated code: the same that a person would write by hand.

Guards stand only where sizes could multiply (see `limits`): everything else is Python's own operator on the resolver's
names. Text is put together by `ast.unparse`, so that precedence and quoting are right whatever the resolver gives.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable
from operator import getitem
from typing import TYPE_CHECKING

from streamd.expr import limits
from streamd.expr.loops import Loops, is_plain
from streamd.expr.nodes import (
    NUMERIC,
    Binary,
    Call,
    Choice,
    Compare,
    Display,
    Document,
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
    walk,
)
from streamd.expr.paths import MISSING, get_path, has_path

if TYPE_CHECKING:
    from streamd.expr.expression import Resolver

BUILTINS = frozenset({"abs", "all", "any", "ascii", "format", "len", "max", "min", "repr", "round", "sum"})
MAX_ADDITIONS = 16  # of values of unknown type: more of them could make a text many times as long as the record
_OPERATORS: dict[str, type[ast.operator]] = {
    "+": ast.Add,
    "-": ast.Sub,
    "*": ast.Mult,
    "/": ast.Div,
    "//": ast.FloorDiv,
    "%": ast.Mod,
}
_COMPARE: dict[str, type[ast.cmpop]] = {
    "==": ast.Eq,
    "!=": ast.NotEq,
    "<": ast.Lt,
    "<=": ast.LtE,
    ">": ast.Gt,
    ">=": ast.GtE,
    "in": ast.In,
    "not in": ast.NotIn,
    "is": ast.Is,
    "is not": ast.IsNot,
}
_CONVERSIONS = {"r": "repr", "a": "ascii"}
_UNARY: dict[str, type[ast.unaryop]] = {"-": ast.USub, "+": ast.UAdd, "not": ast.Not}


def write(node: Node, resolver: Resolver) -> str:
    """The node as one Python expression."""
    writer = _Writer(resolver, node)
    tree = writer.write(node)
    writer.name_variables(tree)
    return ast.unparse(ast.fix_missing_locations(tree))


def write_loop(node: Node, resolver: Resolver, collected: str, fresh: Callable[[str], str]) -> list[str] | None:
    """The node's list, made in the variable `collected` by a `for` of its own: where it is a plain comprehension with
    products, which can tell numbers from texts in place there. None for any other node.
    """
    if not (isinstance(node, Loop) and is_plain(node)) or node.lazy:
        return None
    writer = _Writer(resolver, node, fresh)
    lines = writer.plain_loop(node, collected)
    return None if lines is None else ast.unparse(ast.fix_missing_locations(lines)).splitlines()


def load(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


class _Writer(Loops):
    def __init__(self, resolver: Resolver, root: Node, fresh: Callable[[str], str] | None = None) -> None:
        super().__init__(fresh)
        self.resolver = resolver
        additions = sum(
            isinstance(part, Binary) and part.operator == "+" and not _adds_numbers(part) for part in walk(root)
        )
        self.many_additions = additions > MAX_ADDITIONS

    def write(self, node: Node) -> ast.expr:
        match node:
            case Literal(value):
                return self._literal(value)
            case Field(name):
                return self._resolved(self.resolver.field(name))
            case Metadata(name):
                return self._resolved(self.resolver.metadata(name))
            case Document():
                return self._resolved(self.resolver.document())
            case Variable():
                return self.variable(node)
            case Item():
                return self._item(node)
            case Slice():
                return self._slice(node)
            case Unary(operator, operand):
                return ast.UnaryOp(_UNARY[operator](), self.write(operand))
            case Binary():
                return self._binary(node)
            case Logic(operator, values):
                return ast.BoolOp(ast.And() if operator == "and" else ast.Or(), [self.write(value) for value in values])
            case Compare():
                return self._compare(node)
            case Choice(test, yes, no):
                return ast.IfExp(self.write(test), self.write(yes), self.write(no))
            case Display(shape, items):
                return self._display(shape, [self.write(item) for item in items])
            case Object(entries):
                keys: list[ast.expr | None] = [self.write(key) for key, _ in entries]
                return ast.Dict(keys, [self.write(value) for _, value in entries])
            case Text():
                return self._text(node)
            case Loop():
                return self.loop(node)
            case Call():
                return self._call(node)
            case Has():
                return self._has(node)
            case Get():
                return self._get(node)

    def bound(self, hint: str, value: object) -> ast.expr:
        return self._resolved(self.resolver.constant(hint, value))

    def _resolved(self, source: str) -> ast.expr:
        tree = ast.parse(source, mode="eval").body
        self.taken.update(name.id for name in ast.walk(tree) if isinstance(name, ast.Name))
        return tree

    def _literal(self, value: object) -> ast.expr:
        if value is None or isinstance(value, bool | int | float | str):
            if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
                return ast.UnaryOp(ast.USub(), ast.Constant(-value))
            return ast.Constant(value)
        return self.bound(type(value).__name__.lower(), value)

    def _display(self, shape: str, items: list[ast.expr]) -> ast.expr:
        if shape == "tuple":
            return ast.Tuple(items, ast.Load())
        return ast.Set(items) if shape == "set" and items else ast.List(items, ast.Load())

    def _item(self, node: Item) -> ast.expr:
        value, key = self.write(node.value), self.write(node.key)
        plain = isinstance(node.value, Object) or isinstance(node.key, Literal) or not _is_closed(node.key)
        if plain and (isinstance(node.value, Display | Object) or not _is_closed(node.value)):
            return ast.Subscript(value, key, ast.Load())
        # Python works such constants out while it compiles, and warns where that fails.
        return ast.Call(self.bound("getitem", getitem), [value, key], [])

    def _slice(self, node: Slice) -> ast.expr:
        lower, upper, step = (None if bound is None else self.write(bound) for bound in node.bounds)
        value = self.write(node.value)
        return ast.Subscript(self.paid(value), ast.Slice(lower, upper, step), ast.Load())

    def _compare(self, node: Compare) -> ast.expr:
        operators, operands = [], []
        left = node.first
        for operator, right in node.rest:
            if operator in ("is", "is not") and _is_closed(left):  # Python warns of `5 is None`
                operator = "==" if operator == "is" else "!="
            operators.append(_COMPARE[operator]())
            operands.append(self._operand(operator, right))
            left = right
        return ast.Compare(self.write(node.first), operators, operands)

    def _operand(self, operator: str, node: Node) -> ast.expr:
        """The right side of a comparison; `in` reads it from end to end."""
        written = self.write(node)
        return self.paid(written) if operator in ("in", "not in") and not isinstance(node, Display) else written

    def _binary(self, node: Binary) -> ast.expr:
        left, right = self.write(node.left), self.write(node.right)
        operator = node.operator
        kinds = {node.left.kind, node.right.kind}
        if operator == "**":
            return self._guarded("power", limits.power, left, right)
        if operator == "*" and not ("float" in kinds or kinds <= NUMERIC):
            return self.product(left, right)
        if operator == "+" and (self.in_loop or self.many_additions) and not _adds_numbers(node):
            return self.paid(self._guarded("plus", limits.plus, left, right))
        if operator == "%" and node.left.kind not in NUMERIC:
            # The sign lets only numbers pass: a text to the left of % would be a format, as wide as it likes.
            left = ast.UnaryOp(ast.UAdd(), left)
        return ast.BinOp(left, _OPERATORS[operator](), right)

    def _guarded(self, hint: str, guard: object, left: ast.expr, right: ast.expr) -> ast.expr:
        return ast.Call(self.bound(hint, guard), [left, right], [])

    def _text(self, node: Text) -> ast.expr:
        pieces = [part for part in node.parts if isinstance(part, Piece)]
        values = [self._piece(piece) for piece in pieces]
        if all(isinstance(part, str) for part in node.parts):
            return ast.Constant("".join(str(part) for part in node.parts))
        if _fits_f_string(node, values):
            remaining = iter(values)
            parts: list[ast.expr] = []
            for part in node.parts:
                if isinstance(part, str):
                    parts.append(ast.Constant(part))
                else:
                    spec = ast.JoinedStr([ast.Constant(part.spec)]) if part.spec else None
                    conversion = ord(part.conversion) if part.conversion in _CONVERSIONS else -1
                    parts.append(ast.FormattedValue(next(remaining), conversion, spec))
            return self.paid(ast.JoinedStr(parts))
        template = ast.Constant("".join(_template(part) for part in node.parts))
        values = [_formatted(piece, value) for piece, value in zip(pieces, values, strict=True)]
        return self.paid(ast.Call(ast.Attribute(template, "format", ast.Load()), values, []))

    def _piece(self, piece: Piece) -> ast.expr:
        """A value in braces: as text, where nothing says another form. Texts and numbers are by themselves."""
        value = self.write(piece.value)
        plain = piece.conversion is None and piece.spec
        if plain or piece.conversion in _CONVERSIONS or piece.value.kind in ("text", "int", "float"):
            return value
        return ast.Call(self.bound("as_text", limits.as_text), [value], [])

    def _call(self, node: Call) -> ast.expr:
        function = node.function
        arguments = [self.write(argument) for argument in node.arguments]
        if function.name == "is_null" and not isinstance(node.arguments[0], Literal):
            return ast.Compare(arguments[0], [ast.Is()], [ast.Constant(None)])
        if function.name == "contains":
            return ast.Compare(arguments[1], [ast.In()], [self.paid(arguments[0])])
        literals = tuple(argument.value if isinstance(argument, Literal) else argument for argument in node.arguments)
        if function.builtin is not None and function.plain(literals):
            called: ast.expr = load(function.builtin)
            while arguments and len(arguments) > 1 and literals[-1] is None:  # a default filled in
                arguments, literals = arguments[:-1], literals[:-1]
        else:
            shadows = hasattr(builtins, function.name)  # generated code keeps its builtins
            called = self.bound(function.name + "_" if shadows else function.name, function.callable)
        return self.paid_call(function, called, arguments)

    def _has(self, node: Has) -> ast.expr:
        if not node.keys:
            assert isinstance(node.base, Field)
            return self._resolved(self.resolver.has_field(node.base.name))
        keys = [self.write(key) for key in node.keys]
        return ast.Call(self.bound("has_path", has_path), [self._base(node.base), *keys], [])

    def _get(self, node: Get) -> ast.expr:
        default = self.write(node.default)
        if not _cannot_fail(node.default):  # read only where it is needed
            return ast.IfExp(self._has(Has(node.base, node.keys)), self._found(node), default)
        if not node.keys:
            assert isinstance(node.base, Field)
            return self._resolved(self.resolver.field_or(node.base.name, _parenthesised(default)))
        keys = [self.write(key) for key in node.keys]
        return ast.Call(self.bound("get_path", get_path), [self._base(node.base), default, *keys], [])

    def _found(self, node: Get) -> ast.expr:
        value: Node = node.base
        for key in node.keys:
            value = Item(value, key)
        return self.write(value)

    def _base(self, node: Node) -> ast.expr:
        if not isinstance(node, Field):
            return self.write(node)
        missing = self.resolver.constant("MISSING", MISSING)
        return self._resolved(self.resolver.field_or(node.name, missing))


def _is_closed(node: Node) -> bool:
    """Whether the node is made of literals and operators only."""
    open_nodes = (Field, Metadata, Document, Variable, Call, Loop)
    return not any(isinstance(part, open_nodes) for part in walk(node))


def _adds_numbers(node: Binary) -> bool:
    return node.left.kind in NUMERIC or node.right.kind in NUMERIC


def _cannot_fail(node: Node) -> bool:
    """Whether a default may be written where it is always read."""
    return isinstance(node, Literal) or (isinstance(node, Display | Object) and not any(True for _ in _parts(node)))


def _parts(node: Display | Object) -> tuple[object, ...]:
    return node.items if isinstance(node, Display) else node.entries


def _parenthesised(tree: ast.expr) -> str:
    return ast.unparse(ast.fix_missing_locations(tree))


def _fits_f_string(node: Text, values: list[ast.expr]) -> bool:
    """Whether Python 3.11 can write it as an f-string: no quotes, braces or backslashes but those it needs."""
    constants = [part.value for value in values for part in ast.walk(value) if isinstance(part, ast.Constant)]
    texts = [text for text in constants if isinstance(text, str)]
    inner = [part for value in values for part in ast.walk(value)]
    if any(isinstance(part, ast.JoinedStr | ast.Dict | ast.Set | ast.Lambda) for part in inner):
        return False
    outer = [part if isinstance(part, str) else part.spec for part in node.parts]
    return all(text.isprintable() and not set(text) & set("'\"\\{}") for text in (*texts, *outer))


def _template(part: str | Piece) -> str:
    if isinstance(part, str):
        return part.replace("{", "{{").replace("}", "}}")
    return "{}" if part.spec or part.conversion not in _CONVERSIONS else f"{{!{part.conversion}}}"


def _formatted(piece: Piece, value: ast.expr) -> ast.expr:
    """A value formatted before the next one is read, as in an f-string."""
    if not piece.spec:
        return value
    if piece.conversion in _CONVERSIONS:
        value = ast.Call(load(_CONVERSIONS[piece.conversion]), [value], [])
    return ast.Call(load("format"), [value, ast.Constant(piece.spec)], [])

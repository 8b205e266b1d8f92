"""Writes comprehensions: as they stand where they are plainly cheap, under a budget where they are not."""

from __future__ import annotations

import ast
import re
from abc import abstractmethod
from collections.abc import Callable

from streamd.expr import limits
from streamd.expr.functions import Function
from streamd.expr.nodes import (
    NUMERIC,
    Binary,
    Call,
    Choice,
    Compare,
    Display,
    Each,
    Get,
    Item,
    Literal,
    Logic,
    Loop,
    Node,
    Object,
    Slice,
    Text,
    Variable,
    walk,
)

_BUDGET = "$budget"
_BUILT = "$built"
_NARROW = 20  # characters


class Loops:
    """The half of the writer that knows comprehensions.

    Inside one that has a budget, whatever reads or builds much pays for it. `fresh` gives names of new variables, where
    there is room for lines.
    """

    def __init__(self, fresh: Callable[[str], str] | None = None) -> None:
        self.fresh = fresh
        self.taken: set[str] = set()  # names that the resolver uses
        self.in_loop = False
        self.in_plain = False
        self.multiplies = False  # the plain loop at hand has a product of values that may be text

    @abstractmethod
    def write(self, node: Node) -> ast.expr: ...

    @abstractmethod
    def bound(self, hint: str, value: object) -> ast.expr: ...

    def variable(self, node: Variable) -> ast.expr:
        """A placeholder: its name is found when all the resolver's names are known."""
        return ast.Name(f"${node.number}:{node.name}", ast.Load())

    def loop(self, node: Loop) -> ast.expr:
        if self.in_loop:
            return self._generated(node, self._sources(node, []))
        if is_plain(node):
            return self._plain(node)
        budget = ast.Call(self.bound("budget", limits.budget), [], [])
        first = ast.comprehension(ast.Name(_BUDGET, ast.Store()), budget, [], 0)
        self.in_loop = True
        written = self._generated(node, self._sources(node, [first]))
        self.in_loop = False
        return written

    def _plain(self, node: Loop) -> ast.expr:
        [each] = node.sources
        iterable = self.write(each.iterable)
        self.in_plain = True
        sources = [self._over(each, iterable)]
        element = self.write(node.element)
        self.in_plain = False
        if self.multiplies:
            zero = ast.Tuple([ast.List([ast.Constant(0)], ast.Load())], ast.Load())
            sources.insert(0, ast.comprehension(ast.Name(_BUILT, ast.Store()), zero, [], 0))
            self.multiplies = False
        return ast.GeneratorExp(element, sources) if node.lazy else ast.ListComp(element, sources)

    def plain_loop(self, node: Loop, collected: str) -> ast.Module | None:
        """The lines of a plain loop that has products; None where it has none."""
        [each] = node.sources
        iterable = self.write(each.iterable)
        self.in_plain = True
        over = self._over(each, iterable)
        append = ast.Attribute(ast.Name(collected, ast.Load()), "append", ast.Load())
        inner: ast.stmt = ast.Expr(ast.Call(append, [self.write(node.element)], []))
        if not self.multiplies:
            return None
        for condition in reversed(over.ifs):
            inner = ast.If(condition, [inner], [])
        built = ast.Assign([ast.Name(_BUILT, ast.Store())], ast.List([ast.Constant(0)], ast.Load()))
        start = ast.Assign([ast.Name(collected, ast.Store())], ast.List([], ast.Load()))
        lines = ast.Module([start, built, ast.For(over.target, iterable, [inner], [])], [])
        self.name_variables(lines)
        return lines

    def product(self, left: ast.expr, right: ast.expr) -> ast.expr:
        """A product of values that may be text or lists, which it would repeat."""
        if self.in_plain:
            self.multiplies = True
            if self.fresh is not None:
                return self._product_in_place(left, right, self.fresh)
            return self._counted_product(left, right)
        return self.paid(ast.Call(self.bound("times", limits.times), [left, right], []))

    def _counted_product(self, left: ast.expr, right: ast.expr) -> ast.expr:
        return ast.Call(self.bound("product", limits.product), [left, right, ast.Name(_BUILT, ast.Load())], [])

    def _product_in_place(self, left: ast.expr, right: ast.expr, fresh: Callable[[str], str]) -> ast.expr:
        """A product that is multiplied here where both are of one type: then neither can repeat the other."""
        kinds: list[ast.expr] = []
        values: list[ast.expr] = []
        for operand in (left, right):
            if isinstance(operand, ast.Constant):
                kinds.append(ast.Name(type(operand.value).__name__, ast.Load()))
                values.append(operand)
                continue
            name = fresh(_hint(operand))
            named = ast.NamedExpr(ast.Name(name, ast.Store()), operand)
            kinds.append(ast.Attribute(named, "__class__", ast.Load()))
            values.append(ast.Name(name, ast.Load()))
        same = ast.Compare(kinds[0], [ast.Is()], [kinds[1]])
        return ast.IfExp(same, ast.BinOp(values[0], ast.Mult(), values[1]), self._counted_product(*values))

    def paid(self, value: ast.expr) -> ast.expr:
        """The value, paid for by its length."""
        if not self.in_loop:
            return value
        return ast.Call(ast.Attribute(ast.Name(_BUDGET, ast.Load()), "scan", ast.Load()), [value], [])

    def paid_call(self, function: Function, called: ast.expr, arguments: list[ast.expr]) -> ast.expr:
        lazy = any(isinstance(argument, ast.GeneratorExp) for argument in arguments)
        if not self.in_loop or function.cheap or lazy:
            return ast.Call(called, arguments, [])
        call = ast.Attribute(ast.Name(_BUDGET, ast.Load()), "call", ast.Load())
        return ast.Call(call, [called, *arguments], [])

    def name_variables(self, tree: ast.AST) -> None:
        """Give each loop variable its name, and none that the resolver uses."""
        chosen: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id.startswith("$"):
                if node.id not in chosen:
                    chosen[node.id] = self._free("each_" + node.id.rpartition(":")[2].lstrip("$"))
                node.id = chosen[node.id]

    def _free(self, name: str) -> str:
        if self.fresh is not None:
            return self.fresh(name)
        number, free = 1, name
        while free in self.taken:
            number += 1
            free = f"{name}_{number}"
        self.taken.add(free)
        return free

    def _generated(self, node: Loop, sources: list[ast.comprehension]) -> ast.expr:
        generator = ast.GeneratorExp(self.write(node.element), sources)
        return generator if node.lazy else ast.Call(self.bound("collect", limits.collect), [generator], [])

    def _sources(self, node: Loop, sources: list[ast.comprehension]) -> list[ast.comprehension]:
        for each in node.sources:
            paid = ast.Call(ast.Name(_BUDGET, ast.Load()), [self.write(each.iterable)], [])
            sources.append(self._over(each, paid))
        return sources

    def _over(self, each: Each, iterable: ast.expr) -> ast.comprehension:
        names: list[ast.expr] = [ast.Name(f"${target.number}:{target.name}", ast.Store()) for target in each.targets]
        target = ast.Tuple(names, ast.Store()) if each.unpack else names[0]
        return ast.comprehension(target, iterable, [self.write(condition) for condition in each.conditions], 0)


def _hint(operand: ast.expr) -> str:
    """The name of what an operand reads."""
    match operand:
        case ast.Subscript(_, ast.Constant(str(name))) | ast.Attribute(_, name):
            return name
    return "factor"


def is_plain(node: Loop) -> bool:
    """Whether one pass over the iterable, at a small cost for each item, is all the work, and its result no larger."""
    if len(node.sources) > 1:
        return False
    source = node.sources[0]
    if any(isinstance(part, Loop) for part in walk(source.iterable)):
        return False
    inside = [part for top in (node.element, *source.conditions) for part in walk(top)]
    return not any(_costs(part) for part in inside) and (node.lazy or _is_small(node.element))


def _costs(node: Node) -> bool:
    """Whether it may take more than a step, other than to read or build what is no larger than the item at hand."""
    match node:
        case Loop():
            return True
        case Slice(value, _):
            return not _is_small(value)
        case Text() | Object():
            return not _is_small(node)
        case Call(function, arguments):
            return not (function.cheap or (function.linear and all(map(_is_small, arguments))))
        case Binary(operator, left, right):
            return operator == "**" or (
                operator == "+" and not {left.kind, right.kind} & NUMERIC and not _is_small(node)
            )
        case Compare(_, rest):
            return any(operator in ("in", "not in") and not _is_small(value) for operator, value in rest)
        case Display():
            return not _is_small(node)
        case _:
            return False


def _is_small(node: Node) -> bool:
    """Whether it is a scalar, a part of the item at hand, or put together of such: all of them, over the items, are no
    larger than the iterable times the length of the expression. Products that are not count what they build.
    """
    if node.kind in NUMERIC or node.kind == "null":
        return True
    match node:
        case Literal() | Variable():
            return True
        case Item(value, _) | Slice(value, _):
            return _is_small(value)
        case Choice(_, yes, no):
            return _is_small(yes) and _is_small(no)
        case Get(base, _, default):
            return _is_small(base) and _is_small(default)
        case Display(_, items) | Logic(_, items):
            return all(map(_is_small, items))
        case Object(entries):
            return all(_is_small(part) for entry in entries for part in entry)
        case Binary("*", _, _):
            return True
        case Binary("+", left, right):
            return _is_small(left) and _is_small(right)
        case Text(parts):
            return all(isinstance(part, str) or (_is_small(part.value) and _is_narrow(part.spec)) for part in parts)
        case Call(function, arguments):
            return function.linear and all(map(_is_small, arguments))
        case _:
            return False


def _is_narrow(spec: str) -> bool:
    """Whether a format makes nothing much wider than the value is by itself."""
    return all(int(width) <= _NARROW for width in re.findall(r"[0-9]+", spec))

"""Writes comprehensions: as they stand where they are plainly cheap, under a budget where they are not."""

from __future__ import annotations

import ast
from abc import abstractmethod

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
    Item,
    Literal,
    Loop,
    Node,
    Object,
    Slice,
    Text,
    Variable,
    walk,
)

_BUDGET = "$budget"


class Loops:
    """The half of the writer that knows comprehensions.

    Inside one that has a budget, whatever reads or builds much pays for it.
    """

    def __init__(self) -> None:
        self.taken: set[str] = set()  # names that the resolver uses
        self.in_loop = False

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
            sources = [self._source(each, paid=False) for each in node.sources]
            element = self.write(node.element)
            return ast.GeneratorExp(element, sources) if node.lazy else ast.ListComp(element, sources)
        budget = ast.Call(self.bound("budget", limits.budget), [], [])
        first = ast.comprehension(ast.Name(_BUDGET, ast.Store()), budget, [], 0)
        self.in_loop = True
        written = self._generated(node, self._sources(node, [first]))
        self.in_loop = False
        return written

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

    def name_variables(self, tree: ast.expr) -> None:
        """Give each loop variable its name, and none that the resolver uses."""
        chosen: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id.startswith("$"):
                if node.id not in chosen:
                    chosen[node.id] = self._free("each_" + node.id.rpartition(":")[2].lstrip("$"))
                node.id = chosen[node.id]

    def _free(self, name: str) -> str:
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
        return sources + [self._source(each, paid=True) for each in node.sources]

    def _source(self, each: Each, *, paid: bool) -> ast.comprehension:
        iterable = self.write(each.iterable)
        if paid:
            iterable = ast.Call(ast.Name(_BUDGET, ast.Load()), [iterable], [])
        names: list[ast.expr] = [ast.Name(f"${target.number}:{target.name}", ast.Store()) for target in each.targets]
        target = ast.Tuple(names, ast.Store()) if each.unpack else names[0]
        return ast.comprehension(target, iterable, [self.write(condition) for condition in each.conditions], 0)


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
    match node:
        case Loop() | Slice() | Text() | Object():
            return True
        case Call(function, _):
            return not function.cheap
        case Binary(operator, left, right):
            kinds = {left.kind, right.kind}
            if operator == "**":
                return True
            if operator == "+":
                return not kinds & NUMERIC
            return operator == "*" and not ("float" in kinds or kinds <= NUMERIC)
        case Compare(_, rest):
            return any(operator in ("in", "not in") and not _is_constant(value) for operator, value in rest)
        case Display(_, items):
            return not all(isinstance(item, Literal) for item in items)
        case _:
            return False


def _is_constant(node: Node) -> bool:
    return isinstance(node, Display) and all(isinstance(item, Literal) for item in node.items)


def _is_small(node: Node) -> bool:
    """Whether an element is a scalar, or a part of the item at hand: then the list is no larger than the iterable."""
    if node.kind in NUMERIC or node.kind == "null" or isinstance(node, Literal):
        return True
    if isinstance(node, Choice):
        return _is_small(node.yes) and _is_small(node.no)
    while isinstance(node, Item):
        node = node.value
    return isinstance(node, Variable)

"""Compiles the syntax tree of a JSONPath query to Python source: one list of values for each segment.

    $.book[?@.price < 10].title

    def nodes(root):
        budget = Budget()
        v = root
        v = v['book'] if v.__class__ is dict and 'book' in v else NOTHING
        n = [v] if v is not NOTHING else []
        n = [x for v in n for x in children(v, budget) if keep(x, root, budget)]
        n = [v['title'] for v in n if v.__class__ is dict and 'title' in v]
        return n

What reads or builds much pays for it: a query takes a bounded time on any value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from jsonpath_rfc9535 import filter_expressions as tree
from jsonpath_rfc9535.segments import JSONPathRecursiveDescentSegment, JSONPathSegment
from jsonpath_rfc9535.selectors import (
    FilterSelector,
    IndexSelector,
    JSONPathSelector,
    NameSelector,
    SliceSelector,
    WildcardSelector,
)

from streamd.expr.limits import Budget
from streamd.transform import nodes, regexp

# The budget of a query that is run by itself is its own; the queries in its filters spend the same one.
Nodes: TypeAlias = Callable[[Any], list[Any]]
_NAMES: dict[str, Any] = {
    name: getattr(nodes, name)
    for name in ("NOTHING", "NUMBERS", "children", "section", "descendants", "equal", "less", "at_most", "length")
} | {"Budget": Budget, "only": nodes.only, "match": regexp.match, "search": regexp.search}
_MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "==": "==", "!=": "!="}


def steps_of(segments: Sequence[JSONPathSegment]) -> tuple[str | int, ...] | None:
    """The names and indexes of a query that finds at most one value; None of any other."""
    found: list[str | int] = []
    for segment in segments:
        step = _step(segment)
        if step is None:
            return None
        found.append(step)
    return tuple(found)


def _step(segment: JSONPathSegment) -> str | int | None:
    if isinstance(segment, JSONPathRecursiveDescentSegment) or len(segment.selectors) != 1:
        return None
    match segment.selectors[0]:
        case NameSelector(name=name):
            return str(name)
        case IndexSelector(index=index):
            return int(index)
    return None


def source_of(segments: Sequence[JSONPathSegment]) -> tuple[str, dict[str, Any]]:
    """Python source with a function `nodes(root)`, and the names that it refers to."""
    writer = _Writer()
    writer.query("nodes", segments, top=True)
    return "\n\n\n".join("\n".join(lines) for lines in writer.functions) + "\n", writer.names


def compile_query(segments: Sequence[JSONPathSegment]) -> Nodes:
    """The function from a value to the list of the values that the query finds in it, in its order."""
    source, names = source_of(segments)
    exec(compile(source, "<streamd JSONPath>", "exec"), names)
    found: Nodes = names["nodes"]
    return found


def compile_filter(selector: FilterSelector) -> Callable[[Any, Any, Budget], bool]:
    """The function from (child, root, budget) to whether the filter selects the child."""
    writer = _Writer()
    name = writer.keep(selector)
    exec(
        compile("\n\n\n".join("\n".join(lines) for lines in writer.functions), "<streamd JSONPath>", "exec"),
        writer.names,
    )
    found: Callable[[Any, Any, Budget], bool] = writer.names[name]
    return found


def step_source(value: str, step: str | int, nothing: str = "NOTHING") -> str:
    """One step of plain access; `value` is a name. `nothing`, the name of NOTHING, where there is no such part."""
    return f"{value}[{step!r}] if {_has(value, step)} else {nothing}"


def _has(value: str, step: str | int) -> str:
    if isinstance(step, str):
        return f"{value}.__class__ is dict and {step!r} in {value}"
    return f"{value}.__class__ is list and " + (f"len({value}) > {step}" if step >= 0 else f"len({value}) >= {-step}")


class _Writer:
    def __init__(self) -> None:
        self.functions: list[list[str]] = []
        self.names = dict(_NAMES)
        self.made = 0

    def query(self, name: str, segments: Sequence[JSONPathSegment], *, top: bool = False) -> None:
        """Write a function that gives the nodes of a query: `name(root)`, or `name(at, root, budget)` in a filter."""
        lines = [f"def {name}(root):", "    budget = Budget()"] if top else [f"def {name}(at, root, budget):"]
        lines.append(f"    v = {'root' if top else 'at'}")
        rest = list(segments)
        while rest and (step := _step(rest[0])) is not None:
            lines.append(f"    v = {step_source('v', step)}")
            rest.pop(0)
        lines.append("    n = [v] if v is not NOTHING else []")
        for segment in rest:
            if isinstance(segment, JSONPathRecursiveDescentSegment):
                lines.append("    n = descendants(n, budget)")
            if len(segment.selectors) == 1:
                lines.append(f"    n = {self.selected(segment.selectors[0], 'n')}")
                continue
            lines += ["    m = []", "    for v in n:"]
            lines += [f"        m += {self.selected(selector, '(v,)')}" for selector in segment.selectors]
            lines += ["    budget.spend(len(m))", "    n = m"]
        self.functions.append([*lines, "    return n"])

    def selected(self, selector: JSONPathSelector, values: str) -> str:
        """What a selector takes of each of the values."""
        match selector:
            case NameSelector(name=name):
                return f"[v[{name!r}] for v in {values} if {_has('v', name)}]"
            case IndexSelector(index=index):
                return f"[v[{index}] for v in {values} if {_has('v', index)}]"
            case SliceSelector(slice=part):
                written = f"slice({part.start}, {part.stop}, {part.step})"
                return f"[x for v in {values} if v.__class__ is list for x in section(v, {written}, budget)]"
            case WildcardSelector():
                return f"[x for v in {values} for x in children(v, budget)]"
            case FilterSelector():
                kept = f"{self.keep(selector)}(x, root, budget)"
                return f"[x for v in {values} for x in children(v, budget) if {kept}]"
        raise AssertionError(f"there is no selector {type(selector).__name__}")

    def keep(self, selector: FilterSelector) -> str:
        """Write the function of a filter; returns its name."""
        name = self.fresh("keep")
        condition = self.test(selector.expression.expression)
        self.functions.append([f"def {name}(at, root, budget):", f"    return {condition}"])
        return name

    def fresh(self, hint: str) -> str:
        self.made += 1
        return f"{hint}_{self.made}"

    def test(self, node: tree.Expression) -> str:
        match node:
            case tree.LogicalExpression(left=left, operator=operator, right=right):
                return f"({self.test(left)} {'and' if operator == '&&' else 'or'} {self.test(right)})"
            case tree.PrefixExpression(right=right):
                return f"(not {self.test(right)})"
            case tree.ComparisonExpression(left=left, operator=operator, right=right):
                return self.compare(left, operator, right)
            case tree.FilterQuery() if node.query.singular_query():
                return f"({self.value(node)} is not NOTHING)"
            case tree.FilterQuery():
                return f"({self.nodes(node)} != [])"
            case tree.FunctionExtension():
                return self.value(node)
        raise AssertionError(f"{type(node).__name__} is no condition")

    def value(self, node: tree.Expression) -> str:
        match node:
            case tree.FilterExpressionLiteral(value=value):
                if isinstance(value, float) and math.isinf(value):
                    return "1e999" if value > 0 else "-1e999"
                return repr(value)
            case tree.FilterQuery():
                return self.single(node)
            case tree.FunctionExtension(name="count", args=[query]):
                return f"len({self.nodes(query)})"
            case tree.FunctionExtension(name="value", args=[query]):
                return f"only({self.nodes(query)})"
            case tree.FunctionExtension(name=name, args=arguments):
                if name in ("match", "search") and isinstance(arguments[1], tree.StringLiteral):
                    regexp.compiled(arguments[1].value)
                return f"{name}({', '.join(self.value(argument) for argument in arguments)})"
        raise AssertionError(f"{type(node).__name__} is no value")

    def single(self, node: tree.FilterQuery) -> str:
        """The value that a query leads to, NOTHING where it leads nowhere: plain access."""
        written = "root" if isinstance(node, tree.RootFilterQuery) else "at"
        for step in steps_of(node.query.segments) or ():
            name = self.fresh("v")
            has = _has(name, step).replace(name, f"({name} := {written})", 1)
            written = f"({name}[{step!r}] if {has} else NOTHING)"
        return written

    def nodes(self, node: tree.Expression) -> str:
        assert isinstance(node, tree.FilterQuery)
        name = self.fresh("nodes")
        self.query(name, node.query.segments)
        return f"{name}({'root' if isinstance(node, tree.RootFilterQuery) else 'at'}, root, budget)"

    def compare(self, left: tree.Expression, operator: str, right: tree.Expression) -> str:
        if isinstance(left, tree.FilterExpressionLiteral) and not isinstance(right, tree.FilterExpressionLiteral):
            left, operator, right = right, _MIRRORED[operator], left
        if operator == "!=":
            return f"(not {self.compare(left, '==', right)})"
        value = self.value(left)
        if isinstance(right, tree.FilterExpressionLiteral) and not isinstance(left, tree.FilterExpressionLiteral):
            return self.compare_literal(value, operator, right)
        other = self.value(right)
        if operator in (">", ">="):
            value, other, operator = other, value, _MIRRORED[operator]
        function = {"==": "equal", "<": "less", "<=": "at_most"}[operator]
        return f"{function}({value}, {other})"

    def compare_literal(self, value: str, operator: str, literal: tree.FilterExpressionLiteral[Any]) -> str:
        """A comparison with what is written out: Python's own, where no bool can be taken for a number."""
        written, constant = self.value(literal), literal.value
        name = self.fresh("v")
        if constant is None or isinstance(constant, bool):
            return f"({value} is {written})" if "=" in operator else "False"
        if operator == "==":
            if isinstance(constant, str) or constant not in (0, 1):
                return f"({value} == {written})"
            return f"(({name} := {value}) == {written} and {name}.__class__ is not bool)"
        ordered = "is str" if isinstance(constant, str) else "in NUMBERS"
        return f"(({name} := {value}).__class__ {ordered} and {name} {operator} {written})"

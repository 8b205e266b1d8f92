"""From a text such as `sum(amount, where=paid)` to an aggregate, or to an error that says what would be right."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final, NoReturn

from streamd.expr.aggregates.aggregate import Aggregate
from streamd.expr.aggregates.catalogue import AGGREGATES, AggregateFunction, Parameter
from streamd.expr.aggregates.picked import Order
from streamd.expr.aggregates.sketches import NEEDED, has_library
from streamd.expr.errors import ExpressionError
from streamd.expr.expression import Expression
from streamd.expr.functions import FUNCTIONS
from streamd.expr.parse import Place, parse, syntax
from streamd.expr.suggest import closest

MAX_SIZE: Final = 100_000
MAX_PARTS: Final = 1_000  # bounds, quantiles, places of an order
_REFERENCE: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
# What others call our aggregates.
_ALIASES: Final[Mapping[str, str]] = {
    "any_value": "first",
    "approx_distinct": "approx_count_distinct",
    "approx_percentile": "quantile",
    "approx_quantile": "quantile",
    "array_agg": "collect",
    "average": "mean",
    "avg": "mean",
    "best": "top_k",
    "count_if": "count",
    "countif": "count",
    "distinct": "count_distinct",
    "first_value": "first",
    "hll": "approx_count_distinct",
    "last_value": "last",
    "list": "collect",
    "max_by": "argmax",
    "maximum": "max",
    "min_by": "argmin",
    "minimum": "min",
    "percentile": "quantile",
    "std": "stddev",
    "stddev_samp": "stddev",
    "top": "top_k",
    "total": "sum",
    "uniq": "count_distinct",
    "var": "variance",
    "var_pop": "variance_pop",
    "var_samp": "variance",
}
_WRONG_TYPES: Final = {"text": "a text", "list": "a list", "object": "an object", "bool": "a boolean"}


def parse_aggregate(text: str) -> Aggregate:
    """The aggregate of a text. Raises ExpressionError with its place in the text."""
    tree = syntax(text)
    return _Reader(text).aggregate(tree, ())


class _Reader:
    """One use for one text. Conditions are texts of expressions that have been read already."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = Place(text).of

    def refuse(self, node: ast.AST, message: str, hint: str | None = None) -> NoReturn:
        raise ExpressionError(message, *self.place(node), hint)

    def source(self, node: ast.AST) -> str:
        offset, length = self.place(node)
        return self.text[offset : offset + length]

    def aggregate(self, node: ast.expr, conditions: tuple[str, ...]) -> Aggregate:
        """The aggregate of a call, for the records for which the conditions hold."""
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} & AGGREGATES.keys()
            hint = "write ratio(sum(a), count()), or compute with results in a stage behind this one"
            self.refuse(node, "expected an aggregate such as count() or sum(amount)", hint if names else None)
        function = self._function(node.func)
        given = self._bind(node, function)
        where = given.pop("where", None)
        if where is not None:
            self._expression(where)
            conditions = (*conditions, self.source(where))
        arguments = {
            parameter.name: self._argument(function, parameter, given[parameter.name], conditions)
            for parameter in function.parameters
            if parameter.name in given
        }
        if function.name == "count" and conditions:
            arguments["where"] = self._joined(where or node, conditions)
        if function.name == "approx_count_distinct" and not has_library():
            self.refuse(node, "approx_count_distinct needs the package `datasketches`, which is not installed", NEEDED)
        inner = {id(given[name]): found.text for name, found in arguments.items() if isinstance(found, Aggregate)}
        parts = [inner.get(id(argument)) or self.source(argument) for argument in node.args]
        parts += [f"{one.arg}={inner.get(id(one.value)) or self.source(one.value)}" for one in node.keywords]
        return function.make(f"{function.name}({', '.join(parts)})", arguments)

    def _function(self, called: ast.Name) -> AggregateFunction:
        name = called.id
        if name in AGGREGATES:
            return AGGREGATES[name]
        alias = _ALIASES.get(name.lower())
        if alias == "count":
            self.refuse(called, f"there is no aggregate {name!r}", "write count(where=amount > 50)")
        if alias is None and name in FUNCTIONS:
            hint = f"write it inside, as in sum({name}(amount)), or in a stage behind this one"
            self.refuse(called, f"{name!r} is a function, not an aggregate", hint)
        near = alias or closest(name, AGGREGATES)
        known = f"did you mean {near}?" if near else f"there are {', '.join(AGGREGATES)}"
        return self.refuse(called, f"there is no aggregate {name!r}", known)

    def _bind(self, node: ast.Call, function: AggregateFunction) -> dict[str, Any]:
        """{parameter: node}, a list of nodes for the one that takes the rest, and the condition as `where`."""
        places = [parameter for parameter in function.parameters if not parameter.keyword]
        bound: dict[str, Any] = {}
        for number, argument in enumerate(node.args):
            if isinstance(argument, ast.Starred):
                self.refuse(argument, "* is not allowed before an argument")
            if number < len(places) and places[number].kind != "values":
                bound[places[number].name] = argument
            elif places and places[-1].kind == "values":
                bound.setdefault(places[-1].name, []).append(argument)
            else:
                self._too_many(function, argument, len(places))
        for given in node.keywords:
            self._bind_keyword(function, given, bound)
        for parameter in function.parameters:
            if parameter.name not in bound and not parameter.optional:
                what = f"{function.name} has the wrong number of arguments: it is {function.signature}"
                offset, length = self.place(node)
                start = self.text.index("(", offset) + 1
                hint = f"write {function.example}"
                raise ExpressionError(what, start, max(1, offset + length - 1 - start), hint)
        return bound

    def _bind_keyword(self, function: AggregateFunction, given: ast.keyword, bound: dict[str, Any]) -> None:
        if given.arg is None:
            self.refuse(given, "** is not allowed before an argument")
        names = [*(parameter.name for parameter in function.parameters if parameter.kind != "values"), "where"]
        if given.arg not in names:
            known = "where" if given.arg in ("when", "if_", "filter", "condition") else closest(given.arg, names)
            right = f"did you mean {known}=?" if known else f"it is {function.signature}, and where="
            self.refuse(given, f"{function.name} has no argument {given.arg!r}", right)
        if given.arg in bound:
            self.refuse(given, f"the argument {given.arg!r} is given twice")
        bound[given.arg] = given.value

    def _too_many(self, function: AggregateFunction, argument: ast.expr, most: int) -> NoReturn:
        inner = self.source(argument)
        if function.name == "count":
            condition = inner if isinstance(argument, ast.Compare | ast.BoolOp) else f"{inner} != null"
            self.refuse(argument, "count counts records and takes no value", f"write count(where={condition})")
        if isinstance(argument, ast.Compare | ast.BoolOp):
            self.refuse(argument, f"{function.name} takes a condition by its name", f"write where={inner}")
        keyword = next((parameter.name for parameter in function.parameters if parameter.keyword), None)
        right = f"write {keyword}={inner}" if keyword else f"write {function.example}"
        self.refuse(argument, f"{function.name} takes at most {most} argument{'' if most == 1 else 's'}", right)

    def _argument(
        self, function: AggregateFunction, parameter: Parameter, node: Any, conditions: tuple[str, ...]
    ) -> Any:
        match parameter.kind:
            case "value":
                return self._value(node, conditions)
            case "number":
                wrong = _WRONG_TYPES.get(self._expression(node).static_type)
                if wrong:
                    self.refuse(node, f"{function.name} needs a number, and this is {wrong}")
                return self._value(node, conditions)
            case "values":
                return [self._value(one, conditions) for one in node]
            case "order":
                return self._order(node, conditions)
            case "aggregate":
                inner = self.aggregate(node, conditions)
                if not inner.numeric:
                    what = f"{function.name} is of two numbers, and {inner.name} may give something else"
                    self.refuse(node, what, f"write {function.example}")
                return inner
        value = self._literal(node)
        hint = f"write {function.example}"
        if parameter.kind == "size":
            if type(value) is not int or not 1 <= value <= MAX_SIZE:
                what = f"{parameter.name!r} is how many to keep: a whole number from 1 to {MAX_SIZE:,}, written out"
                self.refuse(node, what, hint)
        elif parameter.kind == "rank":
            ranks = value if isinstance(value, tuple) else (value,)
            if not ranks or not all(_is_number(rank) and 0 <= rank <= 1 for rank in ranks):
                what = f"{parameter.name!r} is a number from 0 to 1, or a list of such, written out"
                self.refuse(node, what, hint)
        elif parameter.kind == "bounds":
            if not isinstance(value, tuple) or not _ascends(value):
                self.refuse(node, f"{parameter.name!r} is a list of numbers that ascend, written out", hint)
        elif not isinstance(value, str) or not _REFERENCE.fullmatch(value):
            self.refuse(node, f"{parameter.name!r} is a text, the module and the class of your own code", hint)
        return value

    def _order(self, node: ast.expr, conditions: tuple[str, ...]) -> list[Order]:
        places = node.elts if isinstance(node, ast.List | ast.Tuple) else [node]
        if not 1 <= len(places) <= MAX_PARTS:
            self.refuse(node, "an order is one value or a list of some", "write [desc(price), date_time]")
        order = []
        for place in places:
            name = place.func.id if isinstance(place, ast.Call) and isinstance(place.func, ast.Name) else None
            if name in ("desc", "asc") and isinstance(place, ast.Call):
                if len(place.args) != 1 or place.keywords:
                    self.refuse(place, f"{name} takes one value", f"write {name}(price)")
                order.append(Order(self._value(place.args[0], conditions), name == "desc"))
            else:
                order.append(Order(self._value(place, conditions), False))
        return order

    def _literal(self, node: ast.expr) -> Any:
        """A number, a text, or a tuple of numbers for a list; None for what is not written out."""
        try:
            value = ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return None
        if isinstance(value, list | tuple):
            return tuple(value) if len(value) <= MAX_PARTS and all(map(_is_number, value)) else None
        return value if _is_number(value) or isinstance(value, str) else None

    def _expression(self, node: ast.expr) -> Expression:
        """The expression of a part of the text; errors in it have their place in the whole text."""
        offset, _ = self.place(node)
        try:
            return parse(self.source(node))
        except ExpressionError as error:
            raise ExpressionError(error.message, offset + error.offset, error.length, error.hint) from None

    def _value(self, node: ast.expr, conditions: tuple[str, ...]) -> Expression:
        """A value, which is null where the conditions do not hold."""
        value = self._expression(node)
        if not conditions:
            return value
        condition = " and ".join(f"({one})" for one in conditions)
        return self._made(node, f"({value.text}) if {condition} else null")

    def _joined(self, node: ast.expr, conditions: tuple[str, ...]) -> Expression:
        return self._made(
            node, " and ".join(f"({one})" for one in conditions) if len(conditions) > 1 else conditions[0]
        )

    def _made(self, node: ast.expr, text: str) -> Expression:
        try:
            return parse(text)
        except ExpressionError as error:  # too long or too deep, each part for itself being neither
            self.refuse(node, error.message, error.hint)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _ascends(numbers: tuple[Any, ...]) -> bool:
    return len(numbers) > 0 and all(one < two for one, two in pairwise(numbers))

"""Checks calls of functions, and the special forms `has(path)` and `get(path, default)`."""

from __future__ import annotations

import ast
from abc import abstractmethod
from typing import NoReturn

from streamd.expr import kinds
from streamd.expr.functions import FUNCTIONS, Function
from streamd.expr.functions.catalogue import MAX_ARGUMENTS, REQUIRED
from streamd.expr.nodes import Call, Document, Field, Get, Has, Kind, Literal, Node, Variable
from streamd.expr.suggest import closest, did_you_mean


class Calls:
    """The half of the checker that knows functions."""

    @abstractmethod
    def refuse(self, node: ast.AST, message: str, hint: str | None = None) -> NoReturn: ...

    @abstractmethod
    def check(self, node: ast.expr) -> Node: ...

    @abstractmethod
    def generator(self, node: ast.GeneratorExp, *, lazy: bool) -> Node: ...

    @abstractmethod
    def step(self, node: ast.Attribute | ast.Subscript) -> Node: ...

    def call(self, node: ast.Call) -> Node:
        function = self._function(node)
        if len(node.args) > MAX_ARGUMENTS:
            self.refuse(node, f"{function.name} has more than {MAX_ARGUMENTS} arguments")
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                self.refuse(argument, "* is not allowed before an argument")
        arguments = self._bind(node, function)
        if function.name in ("has", "get"):
            return self._path_form(node, function, arguments)
        checked = tuple(
            self._argument(function, number, value, len(arguments)) for number, value in enumerate(arguments)
        )
        return Call(function, checked, self._kind(function, checked))

    def _function(self, node: ast.Call) -> Function:
        called = node.func
        if isinstance(called, ast.Attribute):
            name = called.attr if called.attr in FUNCTIONS else closest(called.attr, FUNCTIONS)
            self.refuse(called, "values have no methods", f"write {name}(value)" if name else None)
        if not isinstance(called, ast.Name):
            self.refuse(called, "only a function can be called", None)
        function = FUNCTIONS.get(called.id)
        if function is None:
            self.refuse(called, f"there is no function {called.id!r}", did_you_mean(called.id, FUNCTIONS))
        return function

    def _bind(self, node: ast.Call, function: Function) -> list[ast.expr | Literal]:
        """The arguments in the order of the signature, defaults filled in up to the last one given."""
        names = [parameter.name for parameter in function.parameters]
        bound: dict[int, ast.expr] = dict(enumerate(node.args))
        for given in node.keywords:
            if given.arg is None:
                self.refuse(given, "** is not allowed before an argument")
            if given.arg not in names:
                known = did_you_mean(given.arg, names) or f"right would be {function.signature}"
                self.refuse(given, f"{function.name} has no argument {given.arg!r}", known)
            if names.index(given.arg) in bound:
                self.refuse(given, f"the argument {given.arg!r} is given twice")
            bound[names.index(given.arg)] = given.value
        least, most = function.arity
        if len(bound) > most:
            self.refuse(
                node,
                f"{function.name} takes at most {_arguments(most)}, not {len(bound)}",
                f"right would be {function.signature}",
            )
        for number, parameter in enumerate(function.parameters):
            if parameter.default is REQUIRED and number not in bound:
                what = f"{function.name} takes at least {_arguments(least)}: {parameter.name!r} is missing"
                self.refuse(node, what, f"right would be {function.signature}")
        # A function of streamd's own has no defaults in its code: it gets every argument of its signature.
        count = max(bound) + 1 if bound else 0
        if not _takes_defaults(function):
            count = max(count, len(function.parameters))
        return [bound[number] if number in bound else self._default(function, number) for number in range(count)]

    def _default(self, function: Function, number: int) -> Literal:
        value = function.parameters[number].default
        return Literal(value, kinds.of_value(value) or "any")

    def _argument(self, function: Function, number: int, node: ast.expr | Literal, count: int) -> Node:
        if isinstance(node, Literal):
            return node
        parameters = function.parameters
        name = parameters[min(number, len(parameters) - 1)].name if parameters else ""
        ready = function.literals.get(name)
        if ready is not None:
            return self._literal_argument(function, name, node)
        if isinstance(node, ast.GeneratorExp):
            lazy = function.lazy and number == 0
            return self.generator(node, lazy=lazy and count == 1)
        value = self.check(node)
        if function.lazy and number == 0 and value.kind in kinds.NO_LOOP and function.name not in ("min", "max"):
            self.refuse(node, f"{function.name} takes a list, not a {kinds.word(value)}")
        return value

    def _literal_argument(self, function: Function, name: str, node: ast.expr) -> Node:
        """An argument that is made ready now."""
        optional = any(parameter == (name, None) for parameter in function.parameters)
        if optional and (isinstance(node, ast.Constant | ast.Name)) and self.check(node) == Literal(None, "null"):
            return Literal(None, "null")
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            self.refuse(
                node, f"the {name} of {function.name} has to be written out as a text: it cannot come from a field"
            )
        try:
            value = function.literals[name](node.value)
        except ValueError as error:
            self.refuse(node, f"{name} {node.value[:40]!r}: {error}")
        return Literal(value, kinds.of_value(value) or "any")

    def _kind(self, function: Function, arguments: tuple[Node, ...]) -> Kind:
        if function.name in ("min", "max", "clamp") and len(arguments) > 1:
            return kinds.common(arguments)
        if function.name == "abs" and arguments[0].kind in ("int", "float"):
            return arguments[0].kind
        if function.name == "power":
            return "number"
        return function.result

    def _path_form(self, node: ast.Call, function: Function, arguments: list[ast.expr | Literal]) -> Node:
        path = arguments[0]
        base, keys = self._path(path) if isinstance(path, ast.expr) else (path, ())
        if not keys and not isinstance(base, Field):
            hint = f"right would be {function.signature}, such as {function.name}(order.items[0]" + (
                ")" if function.name == "has" else ", 0)"
            )
            what = "a loop variable is always there" if isinstance(base, Variable) else "this is no path to a field"
            self.refuse(path if isinstance(path, ast.AST) else node, what, hint)
        if function.name == "has":
            return Has(base, keys)
        default = arguments[1]
        return Get(base, keys, default if isinstance(default, Literal) else self.check(default))

    def _path(self, node: ast.expr) -> tuple[Node, tuple[Node, ...]]:
        """A path's start, and the keys that lead on from there."""
        steps: list[ast.Attribute | ast.Subscript] = []
        while isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(
            getattr(node, "slice", None), ast.Slice
        ):
            steps.append(node)
            node = node.value
        base = self.check(node)
        keys: list[Node] = []
        for step in reversed(steps):
            key = self.step(step)
            if isinstance(base, Document) and not keys and isinstance(key, Literal) and isinstance(key.value, str):
                base = Field(key.value)
            else:
                keys.append(key)
        return base, tuple(keys)


def _takes_defaults(function: Function) -> bool:
    """Whether the code behind a function is Python's own, with the same defaults as the signature."""
    return not hasattr(function.callable, "__code__")


def _arguments(count: int) -> str:
    return "1 argument" if count == 1 else f"{count} arguments"

"""What is known of a function, and how the modules beside this one make theirs known."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple, TypeVar

Category = Literal["text", "number", "time", "collection", "type"]
Result = Literal["int", "float", "number", "text", "bool", "list", "object", "any"]
MAX_ARGUMENTS = 64


class Parameter(NamedTuple):
    """One parameter of a function. A `default` of REQUIRED means that there is none."""

    name: str
    default: object


REQUIRED: Final = object()


@dataclass(frozen=True)
class Function:
    """A function of the expression language.

    `signature` is what users read, `pad_start(text, width, fill=" ")`; arguments' names and defaults are taken from it.
    `examples` are (expression, result) pairs; the test suite runs each. `callable` takes its arguments by position.
    `deterministic` is False for what gives another result each time: clocks, randomness.
    `builtin`: the Python builtin that generated code calls by name, where `plain` says that the literals among the
    arguments allow it. `literals` maps a parameter, whose argument has to be a literal text, to what makes it ready
    when the expression is read; that raises ValueError for a text it refuses. `lazy` functions take a generator.
    `cheap` ones do the same work however large their argument is; the work and the result of `linear` ones are as large
    as their arguments.
    """

    name: str
    category: Category
    signature: str
    doc: str
    examples: tuple[tuple[str, Any], ...]
    callable: Callable[..., Any]
    deterministic: bool = True
    result: Result = "any"
    builtin: str | None = None
    plain: Callable[[tuple[Any, ...]], bool] = field(default=lambda arguments: True)
    literals: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)
    lazy: bool = False
    cheap: bool = False
    linear: bool = False

    @cached_property
    def _arguments(self) -> ast.arguments:
        definition = ast.parse(f"def {self.signature}: pass").body[0]
        assert isinstance(definition, ast.FunctionDef)
        return definition.args

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        arguments = self._arguments
        names = [argument.arg for argument in arguments.args]
        defaults = [_constant(default) for default in arguments.defaults]
        without = [REQUIRED] * (len(names) - len(defaults))
        return tuple(Parameter(name, default) for name, default in zip(names, [*without, *defaults], strict=True))

    @cached_property
    def repeats(self) -> bool:
        """Whether more arguments may follow the named ones."""
        return self._arguments.vararg is not None

    @property
    def arity(self) -> tuple[int, int]:
        """The least and the most number of arguments."""
        least = sum(parameter.default is REQUIRED for parameter in self.parameters)
        return least, MAX_ARGUMENTS if self.repeats else len(self.parameters)


def _constant(node: ast.expr) -> object:
    if isinstance(node, ast.Name) and node.id == "null":
        return None
    return ast.literal_eval(node)


F = TypeVar("F", bound=Callable[..., Any])


class Catalogue:
    """The functions of one category, collected while their module is imported."""

    def __init__(self, category: Category) -> None:
        self.category: Category = category
        self.functions: dict[str, Function] = {}

    def add(
        self,
        signature: str,
        doc: str,
        callable: Callable[..., Any],  # noqa: A002 - the field's name
        *examples: tuple[str, Any],
        **traits: Any,
    ) -> None:
        """Make a function known that exists already, such as a method of str."""
        name = signature.partition("(")[0]
        if name in self.functions:
            raise ValueError(f"function {name!r} is there twice")
        self.functions[name] = Function(name, self.category, signature, doc, examples, callable, **traits)

    def function(self, signature: str, *examples: tuple[str, Any], **traits: Any) -> Callable[[F], F]:
        """Decorator: make a function known; its docstring is the users' doc."""

        def decorate(callable: F) -> F:  # noqa: A002
            self.add(signature, (callable.__doc__ or "").strip(), callable, *examples, **traits)
            return callable

        return decorate


def combine(catalogues: Iterable[Catalogue]) -> dict[str, Function]:
    """All functions by name, in the order of the categories."""
    functions: dict[str, Function] = {}
    for catalogue in catalogues:
        twice = functions.keys() & catalogue.functions.keys()
        if twice:
            raise ValueError(f"functions in two categories: {', '.join(sorted(twice))}")
        functions.update(catalogue.functions)
    return functions

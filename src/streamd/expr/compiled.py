"""An expression compiled by itself, for the few places that evaluate one outside of a chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamd.expr.errors import failure
from streamd.expr.expression import METADATA, Expression, Scope


class DictResolver:
    """Reads fields from a `Scope`'s dict. `namespace` holds what the source refers to."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {}

    def field(self, name: str) -> str:
        return f"scope.document[{name!r}]"

    def field_or(self, name: str, default: str) -> str:
        return f"scope.document.get({name!r}, {default})"

    def has_field(self, name: str) -> str:
        return f"({name!r} in scope.document)"

    def metadata(self, name: str) -> str:
        return f"scope.{METADATA[name]}"

    def document(self) -> str:
        return "scope.document"

    def constant(self, hint: str, value: object) -> str:
        number, name = 1, hint
        while self.namespace.setdefault(name, value) is not value:
            number += 1
            name = f"{hint}_{number}"
        return name


def compile_expression(expression: Expression) -> Callable[[Scope], Any]:
    """A function from a `Scope` to the expression's value.

    It raises RecordError (MissingFieldError, TransformError), whose message holds no record contents, where the
    expression has no value.
    """
    resolver = DictResolver()
    source = expression.source(resolver)
    run = eval(f"lambda scope: {source}", resolver.namespace)
    names = expression.names

    def evaluate(scope: Scope) -> Any:
        try:
            return run(scope)
        except Exception as error:
            raise failure(error, names) from error

    return evaluate

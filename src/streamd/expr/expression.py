"""A checked expression, and the ends at which generated code and records meet it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol

from streamd.expr.nodes import Node

StaticType = Literal["number", "text", "bool", "list", "object", "any"]

METADATA: Mapping[str, str] = MappingProxyType(
    {
        "_key": "key",
        "_timestamp": "timestamp",
        "_topic": "topic",
        "_partition": "partition",
        "_offset": "offset",
        "_headers": "headers",
    }
)


class Resolver(Protocol):
    """Where generated code finds what an expression reads. All results are sources of Python expressions.

    They must not use names that start with `each_`: loop variables have those. Generated code calls the builtins in
    `streamd.expr.source.BUILTINS` by name, so these names must not be local variables of the generated function.
    """

    def field(self, name: str) -> str:
        """The field's value. Raises MissingFieldError, KeyError or AttributeError at run time when it is absent.

        `name` is a top-level one, and any text: `_value["x-y"]` reads a field whose name is no identifier.
        """

    def field_or(self, name: str, default: str) -> str:
        """The field's value, or `default`, a source that cannot fail, where the field is absent."""

    def has_field(self, name: str) -> str:
        """Whether the field is there; a null is."""

    def metadata(self, name: str) -> str:
        """`_key`, `_timestamp` (int, ms), `_topic`, `_partition`, `_offset`, `_headers` (of str, or as they are read).

        `_key` is a str or None, or any JSON value where keys have a format.
        """

    def document(self) -> str:
        """The whole document, a dict."""

    def constant(self, hint: str, value: object) -> str:
        """Bind an object (a function, a checked pattern) in the generated namespace; returns its name there.

        The same hint may come with different objects.
        """


@dataclass(slots=True)
class Scope:
    """What an expression reads of one record when it is evaluated by itself. `timestamp` is in ms since the epoch."""

    document: dict[str, Any]
    key: Any = None
    timestamp: int = 0
    topic: str = ""
    partition: int = 0
    offset: int = -1
    headers: dict[str, Any] = field(default_factory=dict)


class Expression:
    """An expression that has been read and checked. Immutable; equal, hashed and pickled by its text.

    `fields`: top-level fields it may read; `required` ⊆ `fields`: those that every evaluation reads, which are not
    behind `and`, `or`, `if`, in a comprehension's body, or only inside `has()` and `get()`. `metadata`: of `_key` …
    `_headers`; `headers`: those that it reads by a name, None where it may read any.
    `whole_document`: uses `_value` other than for a single field. `constant`: reads no record, clock or randomness.
    `names`: field names and keys that stand in the text, which error messages may therefore tell.
    `static_type`: the type of every value it can have, where that can be told.
    """

    __slots__ = (
        "constant",
        "fields",
        "headers",
        "metadata",
        "names",
        "node",
        "required",
        "static_type",
        "text",
        "whole_document",
    )

    text: str
    node: Node
    fields: frozenset[str]
    required: frozenset[str]
    metadata: frozenset[str]
    headers: frozenset[str] | None
    names: frozenset[str]
    whole_document: bool
    constant: bool
    static_type: StaticType

    def __init__(self, text: str, node: Node) -> None:
        from streamd.expr.facts import facts_of

        facts = facts_of(node)
        values: dict[str, object] = {
            "text": text,
            "node": node,
            "fields": facts.fields,
            "required": facts.required,
            "metadata": facts.metadata,
            "headers": facts.headers,
            "names": facts.names,
            "whole_document": facts.whole_document,
            "constant": facts.constant,
            "static_type": facts.static_type,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def source(self, resolver: Resolver) -> str:
        """One Python expression for generated code. Put parentheses around it inside a larger expression."""
        from streamd.expr.source import write

        return write(self.node, resolver)

    def loop_lines(self, resolver: Resolver, collected: str, fresh: Callable[[str], str]) -> list[str] | None:
        """Lines that make the list of a comprehension in the variable `collected`, by a loop, where that costs less.

        `fresh` gives new names of variables that look like a hint.
        """
        from streamd.expr.source import write_loop

        return write_loop(self.node, resolver, collected, fresh)

    def interpret(self, scope: Scope) -> Any:
        """The expression's meaning, by walking its tree: slow, and what `source` is tested against.

        Raises RecordError (MissingFieldError, TransformError) where it has no value.
        """
        from streamd.expr.errors import failure
        from streamd.expr.interpret import evaluate

        try:
            return evaluate(self.node, scope)
        except Exception as error:
            raise failure(error, self.names) from error

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an expression cannot be changed: {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"an expression cannot be changed: {name}")

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, Expression) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        from streamd.expr.parse import parse

        return parse, (self.text,)

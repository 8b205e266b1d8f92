"""JSONPath (RFC 9535): a query that has been read and checked, and compiled.

`jsonpath-rfc9535` reads the text and checks it, its types as well; `query` compiles what it says. A query finds a list
of nodes, in the order of the RFC; the members of objects have the order in which they stand in the record.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeAlias

from streamd.errors import TransformError
from streamd.expr.errors import ExpressionError
from streamd.expr.limits import Budget
from streamd.transform import nodes

MAX_LENGTH = 10_000  # characters of a query
_DEEPEST = 64  # brackets within one another: the library's parser recurses
Location: TypeAlias = tuple[str | int, ...]
_ESCAPES = {"'": "\\'", "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ESCAPED = re.compile(r"['\\\x00-\x1f]")


class JsonPath:
    """A checked query. Equal and hashed by its text.

    `steps`: names and indexes of one that finds at most one value, None of any other. `reads_root`: a filter in it
    starts at `$`.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._query: Any = _read(text)
        from streamd.transform.query import compile_query, steps_of

        self.steps = steps_of(self._query.segments)
        self.reads_root = "$" in text[1:]
        self.nodes = compile_query(self._query.segments)

    def beyond(self, steps: int) -> Callable[[Any], list[Any]]:
        """`nodes` without its first steps, for the value that these lead to. Only where no filter starts at `$`."""
        from streamd.transform.query import compile_query

        return compile_query(self._query.segments[steps:])

    @property
    def first_name(self) -> str | None:
        """The name that the query starts with, where it starts with one."""
        from streamd.transform.query import steps_of

        steps = steps_of(self._query.segments[:1])
        return steps[0] if steps and isinstance(steps[0], str) else None

    def locate(self, root: Any) -> list[tuple[Location, Any]]:
        """(location, value) for each node, in the order of `nodes`."""
        budget = Budget()
        found: list[tuple[Location, Any]] = [((), root)]
        for select, descend in self._located:
            if descend:
                found = [below for node in found for below in _below(node, budget)]
            found = [chosen for node in found for chosen in select(node, root, budget)]
            budget.spend(len(found))
        return found

    @cached_property
    def _located(self) -> list[tuple[Any, bool]]:
        from streamd.transform.locate import selector_of

        return [selector_of(segment) for segment in self._query.segments]

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, JsonPath) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"JsonPath({self.text!r})"

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return JsonPath, (self.text,)


def _below(node: tuple[Location, Any], budget: Budget) -> list[tuple[Location, Any]]:
    """The node and all below it that have parts, each before its own parts."""
    found, waiting = [], [node]
    while waiting:
        location, value = waiting.pop()
        if value.__class__ in nodes.CONTAINERS:
            found.append((location, value))
            waiting += reversed([((*location, key), child) for key, child in nodes.entries(value, budget)])
    return found


def parse_jsonpath(value: object) -> JsonPath:
    """The query of a text. Raises ExpressionError, a ValueError, with the place in the text."""
    return value if isinstance(value, JsonPath) else JsonPath(value)  # type: ignore[arg-type]


def _read(text: str) -> Any:
    """The library's syntax tree. Raises ExpressionError with the place in the text."""
    from jsonpath_rfc9535 import JSONPathError

    from streamd.transform.rfc9535 import StrictEnvironment

    if not isinstance(text, str):
        raise ExpressionError("a JSONPath is a text that starts with $", 0, 0)
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the JSONPath has {len(text):,} characters, at most {MAX_LENGTH:,} are allowed", 0, 1)
    if not text.startswith("$"):
        rest = text.strip()[:40]
        shown = rest if rest[:1] == "$" else f"${'' if rest[:1] in '.[' else '.'}{rest}"
        raise ExpressionError("a JSONPath starts with $", 0, 1, f"write {shown}")
    if text.count("[") + text.count("(") > 10 * _DEEPEST:
        raise ExpressionError("the JSONPath has too many brackets", 0, len(text))
    try:
        return StrictEnvironment().compile(text)
    except JSONPathError as error:
        token = error.token
        offset = min(token.index if token is not None and token.index >= 0 else len(text), len(text))
        length = max(1, len(token.value)) if token is not None else 1
        said = re.sub(r"<TokenType\.(\w+)[^>]*>|TokenType\.(\w+)", r"\1\2", str(error.args[0]))
        raise ExpressionError(
            f"not a JSONPath of RFC 9535: {said}", offset, min(length, len(text) - offset) or 1
        ) from None
    except RecursionError:
        raise ExpressionError("the JSONPath is nested too deeply", 0, len(text)) from None
    except TransformError as error:
        raise ExpressionError(str(error), 0, len(text)) from None


def normalized(location: Location) -> str:
    """A location as RFC 9535 writes it: `$['a'][0]`."""
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f"['{_quoted(step)}']" for step in location)


def _quoted(name: str) -> str:
    return _ESCAPED.sub(lambda found: _ESCAPES.get(found[0]) or f"\\u{ord(found[0]):04x}", name)

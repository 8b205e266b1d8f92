"""Selectors of JSONPath that keep track of where they are: slower than `query`, for those who ask for locations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

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
from streamd.transform.nodes import entries
from streamd.transform.query import compile_filter

Located: TypeAlias = tuple[tuple[str | int, ...], Any]
Select: TypeAlias = Callable[[Located, Any, Budget], Iterable[Located]]


def selector_of(segment: JSONPathSegment) -> tuple[Select, bool]:
    """What a segment selects of a node, and whether it looks at all below the node as well."""
    selects = [_select(selector) for selector in segment.selectors]

    def select(node: Located, root: Any, budget: Budget) -> Iterable[Located]:
        return [found for each in selects for found in each(node, root, budget)]

    return selects[0] if len(selects) == 1 else select, isinstance(segment, JSONPathRecursiveDescentSegment)


def _select(selector: JSONPathSelector) -> Select:
    match selector:
        case NameSelector(name=name):
            return lambda node, root, budget: (
                [((*node[0], name), node[1][name])] if node[1].__class__ is dict and name in node[1] else ()
            )
        case IndexSelector(index=index):
            return lambda node, root, budget: _section(node, slice(index, index + 1 or None), budget)
        case SliceSelector(slice=part):
            return lambda node, root, budget: _section(node, part, budget)
        case WildcardSelector():
            return lambda node, root, budget: [((*node[0], key), child) for key, child in entries(node[1], budget)]
        case FilterSelector():
            keep = compile_filter(selector)
            return lambda node, root, budget: [
                ((*node[0], key), child) for key, child in entries(node[1], budget) if keep(child, root, budget)
            ]
    raise AssertionError(f"there is no selector {type(selector).__name__}")


def _section(node: Located, part: slice, budget: Budget) -> list[Located]:
    location, value = node
    if value.__class__ is not list or part.step == 0:
        return []
    places = range(*part.indices(len(value)))
    budget.spend(len(places))
    return [((*location, place), value[place]) for place in places]

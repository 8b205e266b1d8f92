"""What compiled JSONPath queries call: the parts of values, their order and equality, within a budget."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from streamd.expr.limits import Budget

CONTAINERS: Final[Any] = frozenset({dict, list})
NUMBERS: Final[Any] = frozenset({int, float})
EMPTY: Final = ()


class _Nothing:
    """The result of a query that finds no value; equal to nothing but itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "NOTHING"


NOTHING: Final = _Nothing()


def children(value: Any, budget: Budget) -> Iterable[Any]:
    """The elements of a list, or the values of an object, paid for; of anything else nothing."""
    if value.__class__ is list:
        budget.spend(len(value))
        return value
    if value.__class__ is dict:
        budget.spend(len(value))
        return value.values()
    return EMPTY


def entries(value: Any, budget: Budget) -> Iterable[tuple[Any, Any]]:
    """(index or name, value) for each child."""
    if value.__class__ is list:
        budget.spend(len(value))
        return enumerate(value)
    if value.__class__ is dict:
        budget.spend(len(value))
        return value.items()
    return EMPTY


def section(value: list[Any], part: slice, budget: Budget) -> list[Any]:
    """Some elements of a list."""
    if part.step == 0:
        return []
    found = value[part]
    budget.spend(len(found))
    return found


def descendants(values: Iterable[Any], budget: Budget) -> list[Any]:
    """The values that have parts, and all within them that have some: each before its own parts."""
    found: list[Any] = []
    for top in values:
        waiting: list[Iterator[Any]] = [iter((top,))]
        while waiting:
            for value in waiting[-1]:
                if value.__class__ in CONTAINERS:
                    found.append(value)
                    budget.spend(len(value) + 1)
                    waiting.append(iter(value if value.__class__ is list else value.values()))
                    break
            else:
                waiting.pop()
    return found


def equal(left: Any, right: Any) -> bool:
    """Equality of JSON: 1 and 1.0 are equal, 1 and true are not, nor are [1] and [true]."""
    return bool(left == right) and _same_types(left, right)


def _same_types(left: Any, right: Any) -> bool:
    """Of two values that Python takes for equal: whether no number in one is a bool in the other."""
    if left.__class__ is list:
        return all(map(_same_types, left, right))
    if left.__class__ is dict:
        return all(_same_types(value, right[name]) for name, value in left.items())
    return (left.__class__ is bool) is (right.__class__ is bool)


def less(left: Any, right: Any) -> bool:
    """Order of numbers, and of texts by their characters; between anything else there is none."""
    if left.__class__ in NUMBERS:
        return right.__class__ in NUMBERS and left < right
    return left.__class__ is str and right.__class__ is str and left < right


def at_most(left: Any, right: Any) -> bool:
    """`less` or `equal`."""
    return less(left, right) or equal(left, right)


def length(value: Any) -> Any:
    """Characters of a text, elements of a list, members of an object; NOTHING of anything else."""
    return len(value) if value.__class__ in CONTAINERS or value.__class__ is str else NOTHING


def only(nodes: list[Any]) -> Any:
    """The function `value`: the one value of a list of nodes, NOTHING where there is none or are several."""
    return nodes[0] if len(nodes) == 1 else NOTHING

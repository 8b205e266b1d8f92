"""What the list operations do with their lists when records flow. Pure; no list is changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

from streamd.errors import TransformError
from streamd.expr.limits import MAX_ITEMS, type_name
from streamd.transform.fields import as_list
from streamd.transform.identity import identity


def sorter(descending: Sequence[bool]) -> Callable[..., list[Any]]:
    """The function (elements, keys…) → elements in order; one list of keys for each part of the order."""
    orders = list(enumerate(descending))[::-1]

    def sort(elements: list[Any], *keys: list[Any]) -> list[Any]:
        places: Sequence[int] = range(len(elements))
        for number, reverse in orders:
            by = keys[number]
            try:
                places = sorted(places, key=by.__getitem__, reverse=reverse)
            except TypeError:
                places = _sorted_with_nulls(places, by, reverse)
        return [elements[place] for place in places]

    return sort


def _sorted_with_nulls(places: Sequence[int], by: list[Any], reverse: bool) -> list[int]:
    """Nulls come last, whatever the direction is."""
    nulls = [place for place in places if by[place] is None]
    others = [place for place in places if by[place] is not None]
    try:
        return sorted(others, key=by.__getitem__, reverse=reverse) + nulls
    except TypeError:
        kinds = sorted({type_name(by[place]) for place in others})
        raise TransformError(f"sort: values of type {' and '.join(kinds)} have no order") from None


def group_list(elements: list[Any], keys: list[Any]) -> list[dict[str, Any]]:
    """`{"key": …, "items": […]}` for each key, in the order of their first appearance."""
    groups: dict[Any, dict[str, Any]] = {}
    for element, key in zip(elements, keys, strict=True):
        known = identity(key)
        group = groups.get(known)
        if group is None:
            groups[known] = {"key": key, "items": [element]}
        else:
            group["items"].append(element)
    return list(groups.values())


def group_object(elements: list[Any], keys: list[Any]) -> dict[str, list[Any]]:
    """The elements by their keys, which are texts."""
    groups: dict[str, list[Any]] = {}
    for element, key in zip(elements, keys, strict=True):
        groups.setdefault(_text(key, "group"), []).append(element)
    return groups


def _text(key: Any, operation: str) -> str:
    if key.__class__ is not str:
        raise TransformError(f"{operation}: a name in an object is a text, the key is of type {type_name(key)}")
    return key


def unique(elements: list[Any], keys: list[Any]) -> list[Any]:
    """The first element of each key."""
    first: dict[Any, Any] = {}
    for element, key in zip(elements, keys, strict=True):
        first.setdefault(identity(key), element)
    return list(first.values())


def flattener(depth: int) -> Callable[[Any], list[Any]]:
    """The function from a list to one without the lists in it, `depth` levels deep."""

    def flatten(elements: Any) -> list[Any]:
        flat = as_list(elements, "flatten")
        for _ in range(depth):
            if not any(element.__class__ is list for element in flat):
                break
            flat = [part for element in flat for part in (element if element.__class__ is list else (element,))]
        return flat

    return flatten


def zipper(names: Sequence[str] | None, length: str) -> Callable[..., list[Any]]:
    """The function (list…) → lists, or objects with these names, of what stands in the same place."""

    def zip_lists(*lists: Any) -> list[Any]:
        lengths = {len(as_list(elements, "zip")) for elements in lists}
        if length == "same" and len(lengths) > 1:
            raise TransformError(f"zip: the lists have {' and '.join(map(str, sorted(lengths)))} elements")
        rows = zip_longest(*lists) if length == "longest" else zip(*lists, strict=False)
        return [list(row) for row in rows] if names is None else [dict(zip(names, row, strict=True)) for row in rows]

    return zip_lists


def pivoter(duplicates: str) -> Callable[[list[Any], list[Any]], dict[str, Any]]:
    """The function (names, values) → the object that has them."""

    def pivot(names: list[Any], values: list[Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, value in zip(names, values, strict=True):
            if duplicates == "list":
                made.setdefault(_text(name, "pivot"), []).append(value)
            elif _text(name, "pivot") not in made or duplicates == "last":
                made[name] = value
            elif duplicates == "error":
                raise TransformError("pivot: two elements have the same key; see `duplicates`")
        return made

    return pivot


def unpivot(members: dict[str, Any], key: str, value: str) -> list[dict[str, Any]]:
    """An object for each member of an object: its name and its value."""
    if len(members) > MAX_ITEMS:
        raise TransformError(f"unpivot: the object has more than {MAX_ITEMS:,} members")
    return [{key: name, value: member} for name, member in members.items()]

"""What the list operations do with their lists when records flow. Pure; no list is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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


def sorter_by(descending: Sequence[bool]) -> Callable[..., list[Any]]:
    """The function (elements, key functions…) → elements in order; one function for each part of the order."""
    orders = list(enumerate(descending))[::-1]

    def sort_by_one(elements: list[Any], key: Callable[[Any], Any], reverse: bool = descending[0]) -> list[Any]:
        try:
            return sorted(elements, key=key, reverse=reverse)
        except TypeError:
            by = [key(element) for element in elements]
            return [elements[place] for place in _sorted_with_nulls(range(len(by)), by, reverse)]

    def sort(elements: list[Any], *keys: Callable[[Any], Any]) -> list[Any]:
        for number, reverse in orders:
            elements = sort_by_one(elements, keys[number], reverse)
        return elements

    return sort_by_one if len(orders) == 1 else sort


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
    for element, key in zip(elements, keys):  # noqa: B905 — one key for each; to say so costs as much as five elements
        known = key if key.__class__ is str or key.__class__ is int else identity(key)
        if known in groups:
            groups[known]["items"].append(element)
        else:
            groups[known] = {"key": key, "items": [element]}
    return list(groups.values())


def group_object(elements: list[Any], keys: list[Any]) -> dict[str, list[Any]]:
    """The elements by their keys, which are texts."""
    groups: dict[str, list[Any]] = {}
    for element, key in zip(elements, keys):  # noqa: B905 — as above
        if key.__class__ is not str:
            _text(key, "group")
        if key in groups:
            groups[key].append(element)
        else:
            groups[key] = [element]
    return groups


def _text(key: Any, operation: str) -> str:
    if key.__class__ is not str:
        raise TransformError(f"{operation}: a name in an object is a text, the key is of type {type_name(key)}")
    return key


def unique(elements: list[Any], keys: list[Any]) -> list[Any]:
    """The first element of each key."""
    first: dict[Any, Any] = {}
    for element, key in zip(elements, keys):  # noqa: B905 — as above
        known = key if key.__class__ is str or key.__class__ is int else identity(key)
        if known not in first:
            first[known] = element
    return list(first.values())


def flattener(depth: int) -> Callable[[Any], list[Any]]:
    """The function from a list to one without the lists in it, `depth` levels deep."""

    def flatten(elements: Any) -> list[Any]:
        flat = as_list(elements, "flatten")
        for _ in range(depth):
            parts, flat = flat, []
            for element in parts:
                if element.__class__ is list:
                    flat += element
                else:
                    flat.append(element)
            if len(flat) == len(parts) and list not in map(type, flat):
                break
        return flat

    return flatten


def zipper(length: str) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """The function (list…) → what stands in the same place, for each place."""

    def zip_lists(*lists: Any) -> Iterator[tuple[Any, ...]]:
        lengths = {len(as_list(elements, "zip")) for elements in lists}
        if length == "same" and len(lengths) > 1:
            raise TransformError(f"zip: the lists have {' and '.join(map(str, sorted(lengths)))} elements")
        return zip_longest(*lists) if length == "longest" else zip(*lists, strict=False)

    return zip_lists


def pivoter(duplicates: str) -> Callable[[list[Any], list[Any]], dict[str, Any]]:
    """The function (names, values) → the object that has them."""

    def pivot(names: list[Any], values: list[Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, value in zip(names, values):  # noqa: B905 — as above
            if name.__class__ is not str:
                _text(name, "pivot")
            if name not in made:
                made[name] = [value] if duplicates == "list" else value
            elif duplicates == "list":
                made[name].append(value)
            elif duplicates == "last":
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

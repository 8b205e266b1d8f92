"""Functions of lists and objects. None of them changes its arguments."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from streamd.errors import MissingFieldError, TransformError
from streamd.expr.functions.catalogue import Catalogue
from streamd.expr.limits import MAX_ITEMS, type_name
from streamd.expr.paths import get_path, has_path

COLLECTION = Catalogue("collection")

COLLECTION.add(
    "len(value)",
    "How many items a list has, fields an object, characters a text.",
    len,
    ("len([1, 2])", 2),
    ('len("abc")', 3),
    result="int",
    builtin="len",
    cheap=True,
)
COLLECTION.add(
    "any(values)",
    "Whether at least one item is true.",
    any,
    ("any(x > 2 for x in [1, 2, 3])", True),
    ("any([])", False),
    result="bool",
    builtin="any",
    lazy=True,
)
COLLECTION.add(
    "all(values)",
    "Whether every item is true.",
    all,
    ("all(x > 2 for x in [1, 2, 3])", False),
    ("all([])", True),
    result="bool",
    builtin="all",
    lazy=True,
)
COLLECTION.add(
    "has(path)",
    "Whether the record has the field at the path; a null is there. `has(a.b[0])` is false where any level is missing.",
    has_path,
    ('has({"a": {"b": 1}}.a.b)', True),
    ('has({"a": {"b": 1}}.a.c)', False),
    ('has({"a": [1]}.a[3].d)', False),
    result="bool",
)
COLLECTION.add(
    "get(path, default=null)",
    "The field at the path, or the default where any level of it is missing. A null that is there stays null.",
    lambda value, default=None: get_path(value, default),
    ('get({"a": {"b": 1}}.a.b, 0)', 1),
    ('get({"a": {"b": 1}}.x.y, 0)', 0),
    ('get({"a": null}.a, 0)', None),
)


def _list(value: Any, function: str) -> Any:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{function} takes a list, not a {type_name(value)}")
    return value


def _object(value: Any, function: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{function} takes an object, not a {type_name(value)}")
    return value


def _bounded(items: list[Any], function: str) -> list[Any]:
    if len(items) > MAX_ITEMS:
        raise TransformError(f"{function} builds a list of more than {MAX_ITEMS:,} items")
    return items


@COLLECTION.function("first(items)", ("first([3, 1])", 3))
def first(items: Any) -> Any:
    """The first item. An empty list has none: an error; `get(items[0], default)` says otherwise."""
    if not _list(items, "first"):
        raise MissingFieldError("first: the list is empty")
    return items[0]


@COLLECTION.function("last(items)", ("last([3, 1])", 1))
def last(items: Any) -> Any:
    """The last item. An empty list has none: an error; `get(items[-1], default)` says otherwise."""
    if not _list(items, "last"):
        raise MissingFieldError("last: the list is empty")
    return items[-1]


@COLLECTION.function("keys(object)", ('keys({"a": 1, "b": 2})', ["a", "b"]), result="list")
def keys(value: Any) -> list[Any]:
    """The names of an object's fields."""
    return list(_object(value, "keys"))


@COLLECTION.function("values(object)", ('values({"a": 1, "b": 2})', [1, 2]), result="list")
def values(value: Any) -> list[Any]:
    """The values of an object's fields."""
    return list(_object(value, "values").values())


@COLLECTION.function(
    "entries(object)",
    ('entries({"a": 1, "b": 2})', [["a", 1], ["b", 2]]),
    ('[f"{name}={value}" for name, value in entries({"a": 1})]', ["a=1"]),
    result="list",
)
def entries(value: Any) -> list[list[Any]]:
    """An object's fields as [name, value] pairs."""
    return [[key, item] for key, item in _object(value, "entries").items()]


@COLLECTION.function("from_entries(pairs)", ('from_entries([["a", 1], ["b", 2]])', {"a": 1, "b": 2}), result="object")
def from_entries(pairs: Any) -> dict[Any, Any]:
    """An object out of [name, value] pairs; of equal names the last one stays."""
    made = {}
    for pair in _list(pairs, "from_entries"):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise TypeError("from_entries takes a list of [name, value] pairs")
        made[pair[0]] = pair[1]
    return made


@COLLECTION.function("merge(object, *more)", ('merge({"a": 1, "b": 1}, {"b": 2})', {"a": 1, "b": 2}), result="object")
def merge(*objects: Any) -> dict[Any, Any]:
    """One object with the fields of all; of equal names the last one stays."""
    merged: dict[Any, Any] = {}
    for value in objects:
        merged.update(_object(value, "merge"))
    return merged


@COLLECTION.function(
    "pick(object, *names)", ('pick({"a": 1, "b": 2, "c": 3}, "a", "c")', {"a": 1, "c": 3}), result="object"
)
def pick(value: Any, *names: Any) -> dict[Any, Any]:
    """The object with only the named fields; one that it does not have is left out."""
    return {name: value[name] for name in names if name in _object(value, "pick")}


@COLLECTION.function("omit(object, *names)", ('omit({"a": 1, "b": 2}, "b")', {"a": 1}), result="object")
def omit(value: Any, *names: Any) -> dict[Any, Any]:
    """The object without the named fields."""
    return {name: item for name, item in _object(value, "omit").items() if name not in names}


@COLLECTION.function(
    "sorted(items)", ("sorted([3, 1, 2])", [1, 2, 3]), ('sorted(["b", "a"])', ["a", "b"]), result="list"
)
def sort(items: Any) -> list[Any]:
    """The items from the least to the greatest; `reverse(sorted(items))` is the other way round."""
    return sorted(_list(items, "sorted"))


@COLLECTION.function(
    "sort_by(items, name)",
    ('sort_by([{"p": 2}, {"p": 1}], "p")', [{"p": 1}, {"p": 2}]),
    result="list",
)
def sort_by(items: Any, name: Any) -> list[Any]:
    """A list of objects in the order of one of their fields. Equal ones stay as they were."""
    return sorted(_list(items, "sort_by"), key=lambda item: item[name])


@COLLECTION.function("min_by(items, name)", ('min_by([{"p": 2}, {"p": 1}], "p")', {"p": 1}))
def min_by(items: Any, name: Any) -> Any:
    """The object with the least value of the field; the first of equal ones. An empty list has none: an error."""
    if not _list(items, "min_by"):
        raise MissingFieldError("min_by: the list is empty")
    return min(items, key=lambda item: item[name])


@COLLECTION.function("max_by(items, name)", ('max_by([{"p": 2}, {"p": 1}], "p")', {"p": 2}))
def max_by(items: Any, name: Any) -> Any:
    """The object with the greatest value of the field; the first of equal ones. An empty list has none: an error."""
    if not _list(items, "max_by"):
        raise MissingFieldError("max_by: the list is empty")
    return max(items, key=lambda item: item[name])


@COLLECTION.function(
    "unique(items)", ("unique([1, 2, 1])", [1, 2]), ('unique([{"a": 1}, {"a": 1}])', [{"a": 1}]), result="list"
)
def unique(items: Any) -> list[Any]:
    """The items without repetitions, in the order of their first appearance."""
    _list(items, "unique")
    try:
        return list(dict.fromkeys(items))
    except TypeError:  # lists and objects cannot be hashed: compare what they hold
        first: dict[Any, Any] = {}
        for item in items:
            first.setdefault(_frozen(item), item)
        return list(first.values())


def _frozen(value: Any) -> Any:
    """A hashable stand-in, equal exactly for equal values."""
    if isinstance(value, dict):
        return dict, frozenset((key, _frozen(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return type(value), tuple(map(_frozen, value))
    return value


@COLLECTION.function("flatten(items)", ("flatten([[1, 2], [3], 4])", [1, 2, 3, 4]), result="list")
def flatten(items: Any) -> list[Any]:
    """The list with the items of the lists in it, one level deep."""
    flat: list[Any] = []
    for item in _list(items, "flatten"):
        if isinstance(item, list | tuple):
            flat.extend(item)
        else:
            flat.append(item)
        if len(flat) > MAX_ITEMS:
            break
    return _bounded(flat, "flatten")


@COLLECTION.function("concat(items, *more)", ("concat([1], [2, 3], [])", [1, 2, 3]), result="list")
def concat(*lists: Any) -> list[Any]:
    """The items of several lists as one list."""
    joined: list[Any] = []
    for items in lists:
        joined.extend(_list(items, "concat"))
    return joined


@COLLECTION.function("zip(left, right)", ('zip([1, 2], ["a", "b"])', [[1, "a"], [2, "b"]]), result="list")
def pair_up(left: Any, right: Any) -> list[list[Any]]:
    """Pairs of the items of two lists; null stands for what the shorter one does not have."""
    return [list(pair) for pair in zip_longest(_list(left, "zip"), _list(right, "zip"))]


@COLLECTION.function(
    "range(stop)", ("range(3)", [0, 1, 2]), ('[x * i for i in range(2) for x in ["a"]]', ["", "a"]), result="list"
)
def count_up(stop: Any) -> list[int]:
    """The whole numbers from 0 to below `stop`."""
    if stop > MAX_ITEMS:
        raise TransformError(f"range: more than {MAX_ITEMS:,} numbers")
    return list(range(stop))


@COLLECTION.function("chunk(items, size)", ("chunk([1, 2, 3], 2)", [[1, 2], [3]]), result="list")
def chunk(items: Any, size: Any) -> list[Any]:
    """The list cut into lists of `size` items; the last may be shorter."""
    if size < 1:
        raise TransformError("chunk: the size is less than 1")
    _list(items, "chunk")
    return [list(items[start : start + size]) for start in range(0, len(items), size)]

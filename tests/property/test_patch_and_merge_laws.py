"""Patches against RFC 6902 written down plainly, and merging against its laws and the algorithm of RFC 7396."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streamd.errors import TransformError
from streamd.transform.merge import Merge, Merger
from streamd.transform.patch import PatchOperation, apply_given, patcher

names = st.sampled_from(["a", "b", "0", "", "x/y", "~"])
scalar = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from(["", "s"]), st.just(1.0))
values = st.recursive(
    scalar,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=12,
)
objects = st.dictionaries(names, values, max_size=4)
parts = st.one_of(names, st.sampled_from(["1", "2", "-", "01", "-1"]))
pointers = st.lists(parts, max_size=3).map(
    lambda names: "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)
)
operations = st.lists(
    st.one_of(
        st.builds(lambda op, p, v: {"op": op, "path": p, "value": v}, st.sampled_from(["add", "replace", "test"]),
                  pointers, values),
        st.builds(lambda p: {"op": "remove", "path": p}, pointers),
        st.builds(lambda op, f, p: {"op": op, "from": f, "path": p}, st.sampled_from(["move", "copy"]), pointers,
                  pointers),
    ),
    min_size=1, max_size=5,
)  # fmt: skip


class CannotError(Exception):
    """The operation cannot be done."""


def split(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def step(held: Any, part: str) -> Any:
    if isinstance(held, list) and part.isdigit() and str(int(part)) == part and int(part) < len(held):
        return int(part)
    if isinstance(held, dict) and part in held:
        return part
    raise CannotError


def look(document: Any, pointer: str) -> Any:
    for part in split(pointer):
        document = document[step(document, part)]
    return document


def change(box: list[Any], pointer: str, new: Any, *, add: bool) -> None:
    *way, last = ["0", *split(pointer)]
    held: Any = box
    for part in way:
        held = held[step(held, part)]
    if held is box:
        box[0] = new
    elif add and isinstance(held, dict):
        held[last] = new
    elif add and isinstance(held, list) and (last == "-" or (last.isdigit() and str(int(last)) == last)):
        at = len(held) if last == "-" else int(last)
        if at > len(held):
            raise CannotError
        held.insert(at, new)
    elif add:
        raise CannotError
    else:
        held[step(held, last)] = new


def delete(box: list[Any], pointer: str) -> None:
    *way, last = ["0", *split(pointer)]
    held: Any = box
    for part in way:
        held = held[step(held, part)]
    if held is box:
        raise CannotError
    del held[step(held, last)]


def same(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    return bool(left == right)


def plainly(document: Any, patch: list[dict[str, Any]]) -> Any:
    """RFC 6902, section 4, on a copy."""
    box = [copy.deepcopy(document)]
    for one in patch:
        path, new = one["path"], copy.deepcopy(one.get("value"))
        match one["op"]:
            case "add":
                change(box, path, new, add=True)
            case "remove":
                delete(box, path)
            case "replace":
                look(box[0], path)
                change(box, path, new, add=False)
            case "test":
                if not same(look(box[0], path), new):
                    raise CannotError
            case "copy":
                change(box, path, copy.deepcopy(look(box[0], one["from"])), add=True)
            case "move":
                taken = look(box[0], one["from"])
                if path != one["from"]:
                    if path.startswith(one["from"] + "/"):
                        raise CannotError
                    delete(box, one["from"])
                    change(box, path, taken, add=True)
    return box[0]


@settings(max_examples=1000)
@given(document=values, patch=operations)
def test_a_patch_does_what_the_rfc_says_or_nothing(document: Any, patch: list[dict[str, Any]]) -> None:
    before = json.dumps([document, patch])
    try:
        expected = json.dumps(plainly(document, patch), sort_keys=True)
    except CannotError:
        expected = None
    try:
        made = json.dumps(apply_given(document, patch), sort_keys=True)
    except TransformError:
        made = None
    assert made == expected
    assert json.dumps([document, patch]) == before


@settings(max_examples=1000)
@given(documents=st.lists(values, min_size=1, max_size=2), patch=operations)
def test_a_patch_that_is_written_out_does_the_same(documents: list[Any], patch: list[dict[str, Any]]) -> None:
    before = json.dumps([documents, patch])
    try:
        written = patcher([PatchOperation.model_validate(operation) for operation in patch])
    except ValueError:  # a value moved into itself
        return
    for document in documents:
        assert result(written, document) == result(lambda value: apply_given(value, patch), document)
    assert json.dumps([documents, patch]) == before


def result(patch: Callable[[Any], Any], document: Any) -> str:
    """What a patch gives, or says."""
    try:
        return json.dumps(patch(document))
    except TransformError as error:
        return f"error: {error}"


def merger(**settings: Any) -> Callable[[Any, Any], dict[str, Any]]:
    return Merger(Merge.model_validate({"with": "x", **settings})).merge


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = merge_patch(target.get(name), value)
    return target


@given(old=objects, new=objects)
def test_a_merge_that_removes_nulls_is_a_json_merge_patch(old: Any, new: Any) -> None:
    assert repr(merger(nulls="remove")(old, new)) == repr(merge_patch(old, new))


@given(old=objects, new=objects)
def test_laws_of_merging(old: Any, new: Any) -> None:
    before = json.dumps([old, new])
    for lists in ("replace", "union"):
        merge = merger(lists=lists)
        merged = merge(old, new)
        assert merged.keys() == old.keys() | new.keys()
        again = merge(merged, new)
        assert merge(again, new) == again
        assert lists == "union" or again == merged
        assert merge(old, {}) == old
        assert merge({}, new) == new
    appended = merger(lists="append")(old, new)
    for name in old.keys() & new.keys():
        if isinstance(old[name], list) and isinstance(new[name], list):
            assert appended[name] == old[name] + new[name]
    assert merger(wins="old")(old, new) == merger()(new, old)
    try:
        agreed = merger(wins="error", lists="append")(old, new)
    except TransformError:
        pass
    else:
        assert agreed == appended
    assert json.dumps([old, new]) == before

"""`merge`: what the strategies make of two objects."""

from __future__ import annotations

import copy

import pytest

from streamd.errors import TransformError
from streamd.transform.merge import Merge, Merger

OLD = {"a": {"x": 1, "y": [1, 2]}, "l": [{"id": 1, "v": 1}, {"id": 2}, "s"], "n": None, "s": "old"}


@pytest.mark.parametrize(
    ("settings", "new", "changed"),
    [
        ({}, {"a": {"y": [3], "z": {"q": 1}}, "t": 1}, {"a": {"x": 1, "y": [3], "z": {"q": 1}}, "t": 1}),
        ({}, {"a": 1, "s": {"x": 1}, "l": None}, {"a": 1, "s": {"x": 1}, "l": None}),
        ({"lists": "append"}, {"a": {"y": [2, 3]}}, {"a": {"x": 1, "y": [1, 2, 2, 3]}}),
        ({"lists": "union"}, {"a": {"y": [2.0, True, 3, 3]}}, {"a": {"x": 1, "y": [1, 2, True, 3]}}),
        ({"lists": {"by": "id"}}, {"l": [{"id": 2, "v": 2}, {"id": 3}, {"id": 3, "w": 1}, {"v": 9}, "s"]},
         {"l": [{"id": 1, "v": 1}, {"id": 2, "v": 2}, "s", {"id": 3, "w": 1}, {"v": 9}, "s"]}),
        ({"lists": {"by": "id"}}, {"l": [{"id": True}]}, {"l": [{"id": 1, "v": 1}, {"id": 2}, "s", {"id": True}]}),
        ({"wins": "old"}, {"s": "new", "a": {"x": 2, "z": 3}, "n": 1, "t": 1},
         {"a": {"x": 1, "y": [1, 2], "z": 3}, "t": 1}),
        ({"wins": "error"}, {"s": "old", "a": {"x": 1.0, "z": 3}}, {"a": {"x": 1.0, "y": [1, 2], "z": 3}}),
        ({"nulls": "remove"}, {"s": None, "a": {"x": None, "q": {"w": None, "e": 1}}, "nothing": None},
         {"s": ..., "a": {"y": [1, 2], "q": {"e": 1}}}),
        ({"nulls": "ignore"}, {"s": None, "a": {"x": None, "q": {"w": None, "e": 1}}, "nothing": None},
         {"a": {"x": 1, "y": [1, 2], "q": {"e": 1}}}),
    ],
)  # fmt: skip
def test_strategies(settings, new, changed):
    before = copy.deepcopy((OLD, new))
    merged = Merger(Merge.model_validate({"with": "x", **settings})).merge(OLD, new)
    assert repr(sorted(merged.items())) == repr(
        sorted((name, value) for name, value in {**OLD, **changed}.items() if value is not ...)
    )
    assert (OLD, new) == before


@pytest.mark.parametrize("new", [{"s": "new"}, {"a": {"x": True}}, {"l": [1]}, {"a": []}])
def test_a_conflict_that_may_not_be(new):
    with pytest.raises(TransformError, match="both have a value"):
        Merger(Merge.model_validate({"with": "x", "wins": "error"})).merge(OLD, new)

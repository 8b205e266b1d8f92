"""What is counted of values, and within which bounds."""

from __future__ import annotations

from typing import Any

import pytest

from streamd.profile import Bounds, Values
from streamd.profile.bounds import ALWAYS_MAP, DEPTH, FEW
from streamd.profile.values import read_as


def profile(*documents: dict[str, Any], bounds: Bounds | None = None) -> Values:
    values, bounds = Values(), bounds or Bounds()
    for document in documents:
        values.add(document, bounds)
    return values


def places(values: Values) -> dict[str, tuple[dict[str, int], int]]:
    return {path: (found.types, possible - found.count) for path, found, possible in values.walk()}


def test_nested_fields_and_lists_have_paths():
    found = profile({"a": {"b": [{"c": 1}, {"c": "x", "d": None}]}}, {"a": {"b": []}}, {})
    assert places(found) == {
        "a": ({"object": 2}, 1),
        "a.b": ({"list": 2}, 0),
        "a.b[]": ({"object": 2}, 0),
        "a.b[].c": ({"integer": 1, "text": 1}, 0),
        "a.b[].d": ({"null": 1}, 1),
    }


def test_true_is_not_one():
    found = profile({"x": True}, {"x": 1}, {"x": 1.0}).fields["x"]
    assert found.types == {"boolean": 1, "integer": 1, "number": 1}
    assert found.distinct.count == 3


def test_limits_lengths_and_examples():
    numbers, texts = profile({"n": 3}, {"n": -1.5}, {"n": 10}).fields["n"], profile({"t": "ab"}, {"t": ""}).fields["t"]
    assert (numbers.least, numbers.greatest, numbers.examples) == (-1.5, 10, [3, -1.5, 10])
    assert (texts.shortest, texts.longest) == (0, 2)


def test_no_number_is_no_limit():
    found = profile({"n": float("nan")}, {"n": 1.0}).fields["n"]
    assert (found.least, found.greatest) == (1.0, 1.0)


def test_few_values_are_counted_and_many_are_not():
    assert profile(*({"x": n % FEW} for n in range(100))).fields["x"].few == {("integer", n): 5 for n in range(FEW)}
    assert profile(*({"x": n} for n in range(FEW + 1))).fields["x"].few is None


def test_names_that_are_data_make_a_map():
    found = profile(*({"by_user": {f"u{n}": n, f"v{n}": None}} for n in range(300))).fields["by_user"]
    assert found.fields == {}
    assert found.entries is not None
    assert found.entries.types == {"integer": 300, "null": 300}
    assert found.entries.distinct.count == 300
    assert (found.entries.least, found.entries.greatest) == (0, 299)


def test_one_object_with_very_many_names_is_a_map():
    assert profile({f"k{n}": n for n in range(ALWAYS_MAP + 1)}).entries is not None


def test_a_wide_table_is_no_map():
    found = profile(*({f"c{n}": n for n in range(600)} for _ in range(5)))
    assert (len(found.fields), found.entries) == (600, None)


def test_fields_beyond_the_bound_are_left_out_and_that_is_said():
    found = profile({"a": 1, "b": 2, "c": 3}, bounds=Bounds(fields=2))
    assert (list(found.fields), found.cut) == (["a", "b"], True)


def test_what_lies_too_deep_is_left_out_and_that_is_said():
    document: dict[str, Any] = {}
    for _ in range(DEPTH + 10):
        document = {"x": document}
    found = profile(document)
    depth = 0
    while found.fields:
        found, depth = found.fields["x"], depth + 1
    assert (depth, found.cut) == (DEPTH, True)


def test_distinct_is_estimated_once_there_is_no_room():
    bounds = Bounds(hashes=100)
    found = profile(*({"x": n} for n in range(5000)), bounds=bounds).fields["x"]
    assert not found.distinct.exact
    assert found.distinct.count == pytest.approx(5000, rel=0.08)


def test_distinct_without_the_library_is_a_bound(monkeypatch):
    monkeypatch.setattr("streamd.profile.distinct.has_library", lambda: False)
    found = profile(*({"x": n} for n in range(50)), bounds=Bounds(hashes=20)).fields["x"]
    assert (found.distinct.at_least, found.distinct.count) == (True, 20)


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1", "-20", "0"], "int"),
        (["1", "2.5"], "float"),
        (["2.5", "1"], "float"),
        (["true", "FALSE"], "bool"),
        (["", "7"], "int"),
        (["", ""], ""),
        (["007"], None),
        (["1", "true"], None),
        (["1e5"], None),
        (["1."], None),
        (["-"], None),
        (["12345678901234567890"], None),
        (["²"], None),
    ],
)
def test_how_texts_read(texts, kind):
    found: str | None = ""
    for text in texts:
        found = None if found is None else read_as(text, found)
    assert found == kind

"""`patch`: operations of RFC 6902 and pointers of RFC 6901."""

from __future__ import annotations

import copy

import pytest
from pydantic import ValidationError

from streamd.errors import TransformError
from streamd.transform.patch import Patch, PatchOperation, apply_given, parse_pointer, patcher

DOCUMENT = {"a": {"b": [1, 2, {"c": None}]}, "": 0, "x/y": 1, "m~n": 2, "t": True, "l": [[1], [1.0]]}


def _both(document, operations):
    """What a patch makes, written in the pipeline or come with the record; the document stays as it was."""
    before = copy.deepcopy(document)
    made = patcher([PatchOperation.model_validate(operation) for operation in operations])(document)
    assert repr(apply_given(document, operations)) == repr(made)
    assert repr(document) == repr(before)
    return made


@pytest.mark.parametrize(
    ("operations", "changed"),
    [
        ([{"op": "add", "path": "/n", "value": [1]}], {"n": [1]}),
        ([{"op": "add", "path": "/t", "value": None}], {"t": None}),
        ([{"op": "add", "path": "/a/b/0", "value": 0}], {"a": {"b": [0, 1, 2, {"c": None}]}}),
        ([{"op": "add", "path": "/a/b/3", "value": 3}], {"a": {"b": [1, 2, {"c": None}, 3]}}),
        ([{"op": "add", "path": "/a/b/-", "value": 3}], {"a": {"b": [1, 2, {"c": None}, 3]}}),
        ([{"op": "add", "path": "/a/b/2/d", "value": 3}], {"a": {"b": [1, 2, {"c": None, "d": 3}]}}),
        ([{"op": "add", "path": "/x~1y", "value": 9}], {"x/y": 9}),
        ([{"op": "add", "path": "/m~0n", "value": 9}], {"m~n": 9}),
        ([{"op": "add", "path": "/", "value": 9}], {"": 9}),
        ([{"op": "remove", "path": "/a/b/1"}], {"a": {"b": [1, {"c": None}]}}),
        ([{"op": "remove", "path": "/a"}], {"a": ...}),
        ([{"op": "replace", "path": "/a/b", "value": {"z": 1}}, {"op": "add", "path": "/a/b/y", "value": 2}],
         {"a": {"b": {"z": 1, "y": 2}}}),
        ([{"op": "replace", "path": "/a/b/2/c", "value": 1}], {"a": {"b": [1, 2, {"c": 1}]}}),
        ([{"op": "move", "from": "/a/b", "path": "/b"}], {"a": {}, "b": [1, 2, {"c": None}]}),
        ([{"op": "move", "from": "/a/b/0", "path": "/a/b/1"}], {"a": {"b": [2, 1, {"c": None}]}}),
        ([{"op": "move", "from": "/a", "path": "/a"}], {}),
        ([{"op": "copy", "from": "/a/b/2", "path": "/c"}, {"op": "add", "path": "/c/d", "value": 1},
          {"op": "add", "path": "/a/b/2/e", "value": 2}],
         {"c": {"c": None, "d": 1}, "a": {"b": [1, 2, {"c": None, "e": 2}]}}),
        ([{"op": "add", "path": "/a/z", "value": 1}, {"op": "copy", "from": "/a", "path": "/q"},
          {"op": "remove", "path": "/q/z"}, {"op": "remove", "path": "/a/b"}],
         {"a": {"z": 1}, "q": {"b": [1, 2, {"c": None}]}}),
        ([{"op": "add", "path": "/a/z", "value": 1}, {"op": "copy", "from": "/a", "path": "/a/q"},
          {"op": "copy", "from": "/a", "path": "/a/b/2/r"}],
         {"a": {"b": [1, 2, {"c": None, "r": {"b": [1, 2, {"c": None}], "z": 1,
                                              "q": {"b": [1, 2, {"c": None}], "z": 1}}}],
                "z": 1, "q": {"b": [1, 2, {"c": None}], "z": 1}}}),
        ([{"op": "test", "path": "/a/b/2/c", "value": None}, {"op": "test", "path": "/l/0", "value": [1.0]},
          {"op": "test", "path": "/t", "value": True}], {}),
    ],
)  # fmt: skip
def test_operations(operations, changed):
    expected = {name: value for name, value in {**DOCUMENT, **changed}.items() if value is not ...}
    assert _both(DOCUMENT, operations) == expected


def test_the_whole_document():
    assert _both([1], [{"op": "add", "path": "", "value": {"a": 1}}, {"op": "add", "path": "/b", "value": 2}]) == {
        "a": 1,
        "b": 2,
    }
    assert _both(1, [{"op": "replace", "path": "", "value": 2}, {"op": "test", "path": "", "value": 2}]) == 2
    assert _both({"a": [1]}, [{"op": "move", "from": "/a", "path": ""}]) == [1]


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        ({"op": "add", "path": "/a/x/y", "value": 1}, "nothing at its path"),
        ({"op": "add", "path": "/a/b/4", "value": 1}, "nothing at its path"),
        ({"op": "add", "path": "/a/b/01", "value": 1}, "nothing at its path"),
        ({"op": "add", "path": "/a/b/-1", "value": 1}, "nothing at its path"),
        ({"op": "add", "path": "/t/x", "value": 1}, "nothing at its path"),
        ({"op": "add", "path": "/a/b/" + "9" * 30, "value": 1}, "nothing at its path"),
        ({"op": "remove", "path": "/nothing"}, "nothing at its path"),
        ({"op": "remove", "path": "/a/b/3"}, "nothing at its path"),
        ({"op": "remove", "path": "/a/b/-"}, "nothing at its path"),
        ({"op": "remove", "path": ""}, "nothing at its path"),
        ({"op": "replace", "path": "/nothing", "value": 1}, "nothing at its path"),
        ({"op": "move", "from": "/nothing", "path": "/x"}, "nothing at its path"),
        ({"op": "copy", "from": "/a/b/c", "path": "/x"}, "nothing at its path"),
        ({"op": "test", "path": "/nothing", "value": None}, "nothing at its path"),
        ({"op": "test", "path": "/t", "value": 1}, "another one"),
        ({"op": "test", "path": "/l/0", "value": [True]}, "another one"),
    ],
)
def test_what_cannot_be_done_fails_the_whole_patch(operation, said):
    with pytest.raises(TransformError, match=said) as caught:
        _both(DOCUMENT, [{"op": "add", "path": "/n", "value": 1}, operation])
    assert "operation 1" in str(caught.value)


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "delete", "path": "/a"},
        {"op": "add", "path": "/a"},
        {"op": "test", "path": "/a"},
        {"op": "replace", "path": "/a"},
        {"op": "move", "path": "/a"},
        {"op": "copy", "path": "/a"},
        {"op": "remove", "path": "a"},
        {"op": "remove", "path": "/~2"},
        {"op": "remove"},
        {"op": "move", "from": "/a", "path": "/a/b"},
        {"op": "move", "from": "", "path": "/a"},
        {"path": "/a", "value": 1},
    ],
)
def test_what_is_no_operation(operation):
    with pytest.raises(ValidationError):
        PatchOperation.model_validate(operation)
    with pytest.raises(TransformError, match="operation 0"):
        apply_given(DOCUMENT, [operation])


def test_a_patch_of_a_record_is_a_list():
    for given in (None, {"op": "remove"}, "x", [1]):
        with pytest.raises(TransformError, match=r"operation"):
            apply_given(DOCUMENT, given)


def test_a_patch_is_written_or_taken_out_of_the_record():
    for settings in ({}, {"operations": [{"op": "remove", "path": "/a"}], "from": "x"}):
        with pytest.raises(ValidationError, match="expected `operations`, or `from`"):
            Patch.model_validate(settings)


def test_pointers():
    assert parse_pointer("") == ()
    assert parse_pointer("/") == ("",)
    assert parse_pointer("/a~1b/~01/0") == ("a/b", "~1", "0")


def test_copies_of_copies_do_not_fill_the_memory():
    operations = [{"op": "copy", "from": "", "path": f"/{number}"} for number in range(100)]
    with pytest.raises(TransformError, match="it copies more than 1,000,000 values and characters"):
        apply_given({"a": "text"}, operations)
    many = [{"op": "copy", "from": "/a", "path": f"/{number}"} for number in range(100)]
    assert len(apply_given({"a": "text"}, many)) == 101

"""What rows of a join carry, and where its expressions find it."""

from __future__ import annotations

import pytest

from streamd.expr import parse
from streamd.joins.results import Results, key_bytes, keys_of_tombstone, merged, storable
from streamd.joins.sides import Carried, check_names, names_of


def results(fields, where=None):
    expressions = {name: parse(text) for name, text in fields.items()}
    return Results(("orders", "payments"), expressions, where and parse(where), (1, 1))


@pytest.mark.parametrize(
    ("fields", "left", "right"),
    [
        ({"a": "orders.a"}, Carried(False, ("a",)), Carried(False)),
        ({"a": "orders.a + payments.b", "b": "left.a"}, Carried(False, ("a",)), Carried(False, ("b",))),
        ({"a": "get(orders.a, 0)"}, Carried(False, (), ("a",)), Carried(False)),
        ({"a": "orders.a if has(orders.a) else 0"}, Carried(False, (), ("a",)), Carried(False)),
        ({"a": "orders.a.b[0]", "b": "has(payments)"}, Carried(False, ("a",)), Carried(False)),
        ({"a": "orders", "b": "orders.b"}, Carried(True), Carried(False)),
        ({"a": "[x for x in orders.list if x == payments.n]"}, Carried(False, ("list",)), Carried(False, (), ("n",))),
        ({"a": "get(orders.a, payments.b)"}, Carried(False, (), ("a",)), Carried(False, (), ("b",))),
    ],
)
def test_only_what_is_used_is_carried(fields, left, right):
    assert results(fields).carried == (left, right)


def test_a_condition_is_carried_for_as_well():
    assert results({"a": "orders.a"}, "payments.b > orders.c").carried == (
        Carried(False, ("a", "c")),
        Carried(False, ("b",)),
    )


def evaluate(found, source_of):
    namespace = {}
    source = source_of(found, namespace)
    return eval(f"lambda left, right: {source}", namespace)


def pair(found, namespace):
    return found.pair(("left", "right"), namespace)


def test_values_of_two_rows():
    fields = {"a": "orders.a", "b": "get(payments.b, 7)", "c": "has(payments.c)", "d": "orders.d.x"}
    run = evaluate(results(fields), pair)
    assert run([1, 5, {"x": 2}], [1, None, [None]]) == {"a": 5, "b": 7, "c": True, "d": 2}
    assert run([1, 5, {"x": 2}], [1, [3], None]) == {"a": 5, "b": 3, "c": False, "d": 2}


def test_a_field_that_is_not_there_is_told():
    run = evaluate(results({"a": "payments.b if orders.a else 0"}), pair)
    assert run([1, False], [1, None]) == {"a": 0}
    with pytest.raises(Exception, match="field 'b' is missing"):
        run([1, True], [1, None])


def test_a_whole_side():
    run = evaluate(results({"a": "orders", "b": "orders.b", "c": "get(orders.c, 1)", "d": "has(orders.d)"}), pair)
    assert run([1, {"b": 2}], [1]) == {"a": {"b": 2}, "b": 2, "c": 1, "d": False}


def test_a_row_alone():
    fields = {"a": "orders.a", "b": "payments.b * 2", "c": "get(payments.c, 3)", "d": "has(payments)", "e": "payments"}
    run = evaluate(results(fields), lambda found, namespace: found.alone(0, "left", namespace))
    assert run([1, 5], None) == {"a": 5, "b": None, "c": 3, "d": False, "e": None}


@pytest.mark.parametrize("text", ["amount", "orders.a + b", "_key", "_value.x", "[x for x in items]"])
def test_fields_without_their_input_are_refused(text):
    with pytest.raises(ValueError, match="expected"):
        check_names(parse(text), names_of(("orders", "payments")))


def test_inputs_of_one_name_are_told_apart_by_side():
    assert names_of(("a", "a")) == {"left": 0, "right": 1}


def test_merged_documents():
    assert list(merged({"b": 1, "a": 1.0}, {"a": 1, "c": None})) == ["b", "a", "c"]
    for mine, other in ((1, 2), (1, True), (None, 0), ([1], [2])):
        with pytest.raises(Exception, match="both inputs have a field 'a'"):
            merged({"a": mine}, {"a": other})


def test_keys_of_results_and_of_tombstones():
    assert [key_bytes(key) for key in ("é", 17, b"[1]")] == ["é".encode(), b"17", b"[1]"]
    assert keys_of_tombstone(b"17") == ("17", 17)
    assert keys_of_tombstone(b"017") == ("017",)
    assert keys_of_tombstone(b"null") == ("null",)
    assert keys_of_tombstone(b'["a", 1]') == ('["a", 1]', b'["a",1]')
    with pytest.raises(Exception, match="not UTF-8"):
        keys_of_tombstone(b"\xff")


@pytest.mark.parametrize("value", [2**64, {"a": -(2**64)}, [2**70]])
def test_what_a_store_cannot_keep(value):
    with pytest.raises(Exception, match="cannot be kept"):
        storable(value)


def test_what_a_store_can_keep():
    for value in (None, True, 1.5, 2**63, {"a": {}}, ["x", {"y": None}]):
        assert storable(value) == value

"""What counts as a change of a source, and what does not."""

from __future__ import annotations

import random
from typing import Any

import jsonschema_rs
import pytest
from pydantic import ValidationError

from streamd.quality.schema_drift import MOST_CHANGES, Change, SchemaDrift, Tracker, closed


def tracker(schema: Any = None, **settings: Any) -> Tracker:
    return Tracker(SchemaDrift.model_validate({"learn": 2, "vanished_after": 3} | settings), schema)


def taught(*documents: dict[str, Any], **settings: Any) -> Tracker:
    made = tracker(learn=len(documents), **settings)
    for document in documents:
        assert made.look(document) == []
    return made


ORDER = {"id": 1, "user": {"name": "ada"}, "lines": [{"sku": "x", "n": 1}]}


def test_nothing_changes():
    known = taught(ORDER, ORDER)
    assert [known.look(ORDER) for _ in range(10)] == [[]] * 10


def test_a_field_appears_once_and_not_what_it_holds():
    known = taught(ORDER)
    assert known.look(ORDER | {"extra": {"a": 1, "b": [2]}}) == [Change("appeared", "extra", "", "object")]
    assert known.look(ORDER | {"extra": {"a": 1, "b": [2]}}) == []
    assert known.look(ORDER | {"lines": [{"sku": "x", "n": 1, "gift": True}]}) == [
        Change("appeared", "lines[].gift", "", "boolean")
    ]


def test_a_type_changes_once():
    known = taught(ORDER)
    assert known.look(ORDER | {"id": "one"}) == [Change("type_changed", "id", "integer", "text")]
    assert known.look(ORDER | {"id": "two"}) == []
    assert known.look(ORDER | {"user": ["ada"]}) == [Change("type_changed", "user", "object", "list")]


@pytest.mark.parametrize(
    ("before", "after"),
    [({"x": 1}, {"x": None}), ({"x": None}, {"x": {"y": 1}}), ({"x": 1.5}, {"x": 2}), ({"x": []}, {"x": [{"y": 1}]})],
)
def test_no_change_of_type(before, after):
    assert taught(before).look(after) == []


def test_a_whole_number_becomes_a_fraction():
    assert taught({"x": 1}).look({"x": 1.5}) == [Change("type_changed", "x", "integer", "number")]


def test_a_field_vanishes_after_so_many_records():
    known = taught(ORDER)
    gone = {"id": 1, "lines": [{"sku": "x", "n": 1}]}
    assert [known.look(gone) for _ in range(4)] == [[], [], [Change("vanished", "user", "object", "")], []]


def test_a_field_that_comes_back_in_time_has_not_vanished():
    known = taught({"a": 1, "b": 1})
    assert [known.look(d) for d in ({"a": 1}, {"a": 1}, {"a": 1, "b": 1}, {"a": 1}, {"a": 1})] == [[]] * 5


def test_what_only_some_had_is_waited_for_in_proportion():
    known = taught({"a": 1, "b": 1}, {"a": 1})
    assert [bool(known.look({"a": 1})) for _ in range(7)] == [False] * 5 + [True, False]


def test_keys_of_a_map_are_not_told_for_ever():
    known = taught({"m": {"k": 1}})
    told = [change for n in range(200) for change in known.look({"m": {f"k{n}": 1}}) if change.kind == "appeared"]
    assert len(told) <= 20


def test_so_many_changes_are_told_and_no_more():
    known = taught({f"g{n}": {"x": 1} for n in range(150)})
    changes = [change for n in range(150) for change in known.look({f"g{n}": {"x": "text"}})]
    assert len(changes) <= MOST_CHANGES
    assert known.full


def test_names_are_cut_and_hold_nothing_that_a_terminal_obeys():
    [change] = taught({"a": 1}).look({"a": 1, "\x1b[2J" + "x" * 500: 1})
    assert (len(change.path), "\x1b" in change.path) == (60, False)


SCHEMA = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "integer"},
        "user": {"$ref": "#/$defs/user"},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
        "free": {},
    },
    "$defs": {"user": {"type": ["object", "null"], "properties": {"name": {"type": "string"}}}},
}
FITS = {"id": 1, "user": {"name": "ada"}, "tags": ["a"], "free": {"x": [1]}}


@pytest.mark.parametrize(
    ("document", "changes"),
    [
        (FITS, []),
        ({"id": 1, "user": None}, []),
        (FITS | {"id": "1"}, [Change("type_changed", "id", "integer", "text")]),
        (FITS | {"user": {"name": "ada", "age": 3}}, [Change("appeared", "user.age", "", "integer")]),
        (FITS | {"tags": [1]}, [Change("type_changed", "tags[]", "text", "integer")]),
        (FITS | {"new": 1}, [Change("appeared", "new", "", "integer")]),
    ],
)
def test_against_a_schema(document, changes):
    assert tracker(SCHEMA).look(document) == changes


def test_what_a_schema_requires_vanishes_and_what_it_allows_does_not():
    known = tracker(SCHEMA)
    assert [known.look({}) for _ in range(3)] == [[], [], [Change("vanished", "id", "integer", "")]]


def test_a_closed_schema_refuses_what_it_does_not_name():
    whole = jsonschema_rs.validator_for(closed(SCHEMA))
    assert whole.is_valid(FITS)
    assert not whole.is_valid(FITS | {"new": 1})
    assert not whole.is_valid(FITS | {"user": {"name": "ada", "age": 3}})
    both = {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}
    assert jsonschema_rs.validator_for(closed(both)).is_valid({"a": 1, "b": 2})


@pytest.mark.parametrize("policy", ["fail", "dead_letter"])
def test_what_stops_or_diverts_records_needs_a_schema(policy):
    with pytest.raises(ValidationError, match="needs a schema"):
        SchemaDrift.model_validate({"policy": policy})


def test_what_was_seen_before_is_told_as_if_it_were_looked_at_for_the_first_time():
    """Records of random shapes: what is remembered of a shape changes nothing of what is told."""
    chance = random.Random(7)
    values = [1, 1.5, "x", None, True, {}, {"y": 1}, {"y": "x", "z": [1]}, [], [1], [1, "x"], [{"y": 1}, {"z": 1}]]

    def record() -> dict[str, Any]:
        names = [name for name in "abcdef" if chance.random() < 0.9]
        return {name: chance.choice(values[:2] if chance.random() < 0.9 else values) for name in names}

    known, plain = tracker(learn=20, vanished_after=5), tracker(learn=20, vanished_after=5)
    kinds = set()
    for _ in range(3000):
        document = record()
        plain._shapes.clear()
        changes = known.look(document)
        assert changes == plain.look(document)
        kinds |= {change.kind for change in changes}
    assert len(known._shapes) > 1
    assert kinds == {"appeared", "vanished", "type_changed"}

"""Which dead letters are meant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamd.dlq.choice import VARIABLES, Choice, scope_of
from streamd.dlq.letter import Letter
from streamd.errors import ConfigError

LETTER = Letter(
    1, 40, b"ann", b'{"n": 7, "_error": "mine"}', 5, (("trace", b"t1"),), "p", "set", "transform", "TransformError",
    "no number", "orders", 3, 17, 1000, 2, "source", 1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ("n == 7", True),
        ("n > 7", False),
        ('_error == "TransformError"', True),
        ('_stage == "set" and _phase == "transform" and _pipeline == "p"', True),
        ('"number" in _reason', True),
        ("_time == 1000 and _attempts == 2 and _replays == 1", True),
        ('_key == "ann" and _topic == "orders" and _partition == 3 and _offset == 17 and _timestamp == 5', True),
        ('_headers["trace"] == "t1"', True),
        ('"mine" in _raw', True),
        ("missing > 1", False),
        ("n / 0 > 1", False),
        ("not has(missing)", True),
    ],
)
def test_expressions(where: str, holds: bool) -> None:
    assert (LETTER in Choice(where)) is holds


def test_every_variable_that_is_told_of_is_there() -> None:
    assert VARIABLES.keys() <= scope_of(LETTER).document.keys()


def test_records_that_are_no_json_have_their_text_and_what_was_said_of_them() -> None:
    broken = replace(LETTER, value=b"\xffoops", key=b"\xfe")
    assert broken in Choice('"oops" in _raw and _phase == "transform"')
    assert broken not in Choice("n == 7")
    assert replace(LETTER, value=None, key=None) in Choice('_raw == "" and _key is None')


def test_times_are_of_the_failure_and_the_end_is_not_in_it() -> None:
    assert LETTER in Choice(since=1000, until=1001)
    assert LETTER not in Choice(since=1001)
    assert LETTER not in Choice(until=1000)


def test_letters_of_other_pipelines_are_not_meant() -> None:
    assert LETTER in Choice(pipeline="p")
    assert LETTER not in Choice(pipeline="q")


@pytest.mark.parametrize("where", ["n >", "import os", "__class__", "open('x')", "_timestmp == 1", "_erorr == 1"])
def test_an_expression_that_cannot_be_read_is_said(where: str) -> None:
    with pytest.raises(ConfigError, match="--where: "):
        Choice(where)


@pytest.mark.parametrize(
    ("where", "reads"),
    [
        (None, False), ("_stage == 'set' and _time > 5", False), ("'x' in _raw and _key == 'k'", False),
        ("n > 5", True), ("_stage == 'set' or has(n)", True), ("len(_value) > 1", True), ('_value["x-y"] == 1', True),
    ],
)  # fmt: skip
def test_what_looks_into_records_is_told_apart(where: str | None, reads: bool) -> None:
    assert Choice(where).reads is reads

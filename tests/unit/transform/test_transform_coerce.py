"""`coerce`: what each type takes, and what becomes of the rest."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from streamd.errors import TransformError
from streamd.expr.paths import MISSING
from streamd.transform.coerce import Coercion, coercer

FAILS = object()


@pytest.mark.parametrize(
    ("to", "value", "expected"),
    [
        ("int", 3, 3), ("int", 3.0, 3), ("int", " -12 ", -12), ("int", "+7", 7), ("int", 3.5, FAILS),
        ("int", "3.0", FAILS), ("int", "1_000", FAILS), ("int", "٣", FAILS), ("int", True, FAILS), ("int", "", FAILS),
        ("int", [1], FAILS), ("int", "9" * 1001, FAILS), ("int", 1e400, FAILS), ("int", "0x10", FAILS),
        ("float", 3, 3.0), ("float", " 1.5e3 ", 1500.0), ("float", ".5", 0.5), ("float", "5.", 5.0),
        ("float", "nan", FAILS), ("float", "inf", FAILS), ("float", "1e999", FAILS), ("float", "1,5", FAILS),
        ("float", False, FAILS), ("float", "", FAILS), ("number", 3, 3), ("number", 2.5, 2.5), ("number", "3", 3),
        ("number", "3.0", 3.0), ("number", "x", FAILS), ("number", True, FAILS), ("text", "a", "a"),
        ("text", 1.5, "1.5"), ("text", True, "true"), ("text", 10, "10"), ("text", [1], FAILS),
        ("text", {"a": 1}, FAILS), ("bool", True, True), ("bool", 0, False), ("bool", 1.0, True),
        ("bool", " Yes ", True), ("bool", "OFF", False), ("bool", 2, FAILS), ("bool", "maybe", FAILS),
        ("bool", [], FAILS), ("bool", "", FAILS), ("timestamp", 1767225600000, 1767225600000),
        ("timestamp", 1767225600000.7, 1767225600000), ("timestamp", "2026-01-01T01:00:00+01:00", 1767225600000),
        ("timestamp", " 2026-01-01 ", 1767225600000), ("timestamp", "yesterday", FAILS), ("timestamp", 1e300, FAILS),
        ("timestamp", True, FAILS), ("time", 1767225600123, "2026-01-01T00:00:00.123Z"),
        ("time", "2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00.000Z"), ("list", [1], [1]), ("list", 1, [1]),
        ("list", "a", ["a"]), ("list", {"a": 1}, [{"a": 1}]), ("object", {"a": 1}, {"a": 1}),
        ("object", '{"a": 1}', {"a": 1}), ("object", "[1]", FAILS), ("object", [1], FAILS), ("object", "{", FAILS),
        ("json", "[1, null]", [1, None]), ("json", {"a": 1}, {"a": 1}), ("json", "{", FAILS), ("json", "null", None),
        ("json_text", [1, None], "[1,null]"), ("json_text", "a", '"a"'),
    ],
)  # fmt: skip
def test_types(to, value, expected):
    coerce = coercer(Coercion.model_validate({"to": to}))
    if expected is FAILS:
        with pytest.raises(TransformError, match=f"is no {to}"):
            coerce(value)
    else:
        assert repr(coerce(value)) == repr(expected)


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        ({"on_failure": None}, "x", None),
        ({"on_failure": "null"}, "x", None),
        ({"on_failure": "keep"}, "x", "x"),
        ({"on_failure": "default", "default": 7}, "x", 7),
        ({"on_failure": "default", "default": None}, "x", None),
        ({"on_failure": "default", "default": 7}, None, None),
        ({"on_null": "default", "default": 7}, None, 7),
        ({"on_null": "error"}, None, FAILS),
        ({}, None, None),
        ({"on_missing": "default", "default": 7}, MISSING, 7),
        ({"to": "timestamp", "unit": "s"}, 1767225600.5, 1767225600500),
        ({"to": "timestamp", "unit": "us"}, 1767225600000999, 1767225600000),
        ({"to": "timestamp", "unit": "ns"}, 1767225600000999999, 1767225600000),
        ({"to": "timestamp", "format": "%d.%m.%Y %H:%M"}, "31.12.2025 23:59", 1767225540000),
        ({"to": "timestamp", "format": "%d.%m.%Y"}, "2025-12-31", FAILS),
    ],
)
def test_rules(rule, value, expected):
    coerce = coercer(Coercion.model_validate({"to": "int", **rule}))
    if expected is FAILS:
        with pytest.raises(TransformError):
            coerce(value)
    else:
        assert repr(coerce(value)) == repr(expected)


@pytest.mark.parametrize(
    "rule",
    [
        {"to": "int", "default": 0},
        {"to": "int", "on_null": "default"},
        {"to": "int", "format": "%Y"},
        {"to": "int", "unit": "s"},
        {"to": "time", "format": "%Q"},
        {"to": "integer"},
        {"on_failure": "null"},
    ],
)
def test_what_is_no_rule(rule):
    with pytest.raises(ValidationError):
        Coercion.model_validate(rule)
